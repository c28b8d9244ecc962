// Networks whose backend moves, or is carried otherwise.
import { isDeepStrictEqual } from 'node:util';

import test from 'ava';

import { moveBackend, moveOf, type MoveRequest } from '../../../controller/backend-move.js';
import { IpAddress } from '../../../core/address.js';
import { compileNetwork, compilePeer, containerMtu } from '../../../core/compile.js';
import { driverOf, isBridged } from '../../../core/drivers/index.js';
import { permissionDenied } from '../../../core/errors.js';
import type { OverlayNetwork } from '../../../core/network.js';
import { decodeLease, encodeLease } from '../../../store/lease-codec.js';
import { decodeConfig, editConfig, encodeConfig } from '../../../store/network-codec.js';
import { dataOf, hostGw, ipip, leaseOf, membershipOf, overlay, udp, wireguard } from '../../core/records.js';
import type { FakeKernel } from '../../fakes/kernel.js';
import { linesOf } from '../../fakes/lines.js';
import { until } from '../../lab/wait.js';
import { pairOn } from './pair.js';

// A network that moves to another backend, between two nodes on fakes and the controller's part of it.

const from = overlay({ name: 'wg', subnet: '10.120.0.0/16', vni: 7 });
const to = wireguard();
const during: OverlayNetwork = { ...from, beside: to };

const asked = (backend: string, fields: Partial<MoveRequest> = {}): MoveRequest => ({
  ...{ name: 'wg', backend, directRouting: false, backendOptions: {}, force: false },
  ...fields,
});
const { signal } = new AbortController();

test('beside: devices and peers of both backends, routes of the one in force, and an MTU that both carry', (t) => {
  const lease = { ...leaseOf(from, 1), beside: { backendType: 'wireguard', ...dataOf(to, 1) } };
  const membership = membershipOf(during, {}, lease);
  t.is(containerMtu(membership), 1440);
  const lines = linesOf(compileNetwork(membership));
  t.true(lines.some((line) => line.startsWith('link wfvx7 vxlan')));
  t.true(lines.some((line) => line.startsWith('link wfwg-wg wireguard')));
  t.false(lines.some((line) => line.startsWith('route')));
  t.deepEqual(driverOf(during).tunnels(membership), ['wfvx7', 'wfwg-wg']);
  const peer = { ...leaseOf(from, 2), beside: { backendType: 'wireguard', ...dataOf(to, 2) } };
  const before = linesOf(compilePeer(membership, peer));
  t.deepEqual(
    before.filter((line) => line.startsWith('route')),
    ['route 10.120.2.0/24 via 10.120.2.0 dev wfvx7 onlink'],
  );
  t.true(before.some((line) => line.includes('wg wfwg-wg peer')));
  // After the flip of this node, and before the peer's.
  const flipped: OverlayNetwork = { ...to, beside: from };
  const after = linesOf(compilePeer(membershipOf(flipped, {}, lease), peer));
  t.deepEqual(
    after.filter((line) => line.startsWith('route')),
    ['route 10.120.2.0/24 dev wfwg-wg'],
  );
  t.true(after.some((line) => line.startsWith('fdb')));
});

test('beside in etcd: under keys that flannel ignores, with what weft does not know', (t) => {
  const value = JSON.stringify({
    Network: '10.120.0.0/16',
    Backend: { Type: 'vxlan', VNI: 7, Note: 'ours' },
    Other: 1,
  });
  const prepared = editConfig('wg', value, { move: { beside: to } });
  t.like(JSON.parse(prepared), { Backend: { Type: 'vxlan' }, Weft: { Beside: { Type: 'wireguard' } } });
  t.like(decodeConfig('wg', prepared), { backend: 'vxlan', beside: { backend: 'wireguard', port: 51820 } });
  const flipped = editConfig('wg', prepared, { move: 'swap' });
  t.like(JSON.parse(flipped), {
    Backend: { Type: 'wireguard' },
    Weft: { Beside: { Type: 'vxlan', Note: 'ours' } },
    Other: 1,
  });
  const ended = decodeConfig('wg', editConfig('wg', flipped, { move: 'end' }));
  t.is(isBridged(ended) ? undefined : ended.beside, undefined);
  t.deepEqual({ ...decodeConfig('wg', encodeConfig({ ...during })) }, { ...during });
  const lease = { ...leaseOf(from, 2), beside: { backendType: 'wireguard', ...dataOf(to, 2) } };
  const text = encodeLease(lease);
  t.like(JSON.parse(text), { BackendType: 'vxlan', Weft: { Beside: { BackendType: 'wireguard' } } });
  const key = { kind: 'lease', network: 'wg', subnet: lease.subnet } as Parameters<typeof decodeLease>[0];
  t.deepEqual(decodeLease(key, text, '7').beside, lease.beside);
});

test('a move: every node prepares, then flips by its routes, and nothing of the old path is left', async (t) => {
  const { store, log, one, two, has } = await pairOn(t, from);
  log.length = 0;
  await moveBackend(asked('wireguard', { backendOptions: { ListenPort: '51820' } }), {
    store,
    checkCapability: () => undefined,
    signal,
  });
  await until('the old devices are gone', () => !has(one, 'wfvx7') && !has(two, 'wfvx7'));
  for (const [node, peer] of [[one, two] as const, [two, one] as const]) {
    t.true(node.kernel.has(`route ${peer.subnet} dev wfwg-wg`));
    const steps = log.filter((line) => line.startsWith(node.name));
    const at = (text: RegExp): number => steps.findIndex((line) => text.test(line));
    const route = new RegExp(`change route ${peer.subnet}`);
    t.true(at(/create link wfwg-wg|create wireguard wfwg-wg/) < at(route), steps.join('\n'));
    t.true(at(/create prefix/) < at(route), 'the peer is there before its route');
    t.true(at(route) < at(/delete link wfvx7/), 'the old path receives until all have flipped');
    t.is(steps.filter((line) => /delete route/.test(line)).length, 0, 'no moment without a route');
  }
  const network = store.view.networks.get('wg');
  t.like(network, { backend: 'wireguard' });
  t.is(network === undefined ? undefined : moveOf(store, network), undefined);
});

test('a move waits for a living node that has not prepared, says so, and ends with the old backend’s name', async (t) => {
  const { store, one, has } = await pairOn(t, from);
  const { data: _data, ...silent } = leaseOf(from, 9, { node: 'node9', instance: 'node9' });
  store.putLease(silent);
  store.setAlive('node9', 'node9');
  const options = { store, checkCapability: () => undefined, signal, waitMs: 60 };
  await moveBackend(asked('wireguard'), options);
  const network = store.view.networks.get('wg');
  t.like(network, { backend: 'vxlan', beside: { backend: 'wireguard' } });
  t.deepEqual(network && moveOf(store, network), { beside: 'wireguard', waitingFor: ['node9'] });
  await until('the node has prepared', () => has(one, 'wfwg-wg'));
  await t.throwsAsync(moveBackend(asked('host-gw'), options), {
    message: /moving between vxlan and wireguard/,
  });
  await moveBackend(asked('vxlan'), options);
  t.like(store.view.networks.get('wg'), { backend: 'vxlan' });
  await until('what was prepared is gone', () => !has(one, 'wfwg-wg'));
  // One that is away does not hold it up.
  store.setAlive('node9', undefined);
  await moveBackend(asked('wireguard'), options);
  t.like(store.view.networks.get('wg'), { backend: 'wireguard' });
});

test('other options of the backend that a network has, or moves to, are refused and not passed over', async (t) => {
  const { store } = await pairOn(t, from);
  const options = { store, checkCapability: () => undefined, signal, waitMs: 1000 };
  await t.throwsAsync(moveBackend(asked('vxlan', { directRouting: true }), options), {
    message: 'network wg: DirectRouting of its backend vxlan is another one, and does not change in place',
  });
  await moveBackend(asked('vxlan'), options);
  t.like(store.view.networks.get('wg'), { backend: 'vxlan' });
  const psk = `${'P'.repeat(42)}A=`;
  await moveBackend(asked('wireguard', { backendOptions: { psk } }), options);
  t.like(store.view.networks.get('wg'), { backend: 'wireguard', psk });
  await moveBackend(asked('wireguard', { backendOptions: { PSK: psk } }), options);
  const error = await t.throwsAsync(
    moveBackend(asked('wireguard', { backendOptions: { PSK: `${'Q'.repeat(42)}A=` } }), options),
    { message: /^network wg: PSK of its backend wireguard is another one/ },
  );
  t.false(error.message.includes('QQ'));
});

test('a move is refused while a flanneld is there, and where no node can carry it', async (t) => {
  const { store } = await pairOn(t, from);
  const { node: _node, instance: _instance, ...flanneld } = leaseOf(from, 9);
  store.putLease(flanneld);
  const options = { store, checkCapability: () => undefined, signal, waitMs: 1000 };
  await t.throwsAsync(moveBackend(asked('host-gw'), options), { message: /flanneld at 192\.0\.2\.9/ });
  const refuse = (): never => {
    throw new Error('no WireGuard');
  };
  await t.throwsAsync(
    moveBackend(asked('wireguard', { force: true }), { ...options, checkCapability: refuse }),
  );
  t.like(store.view.networks.get('wg'), { backend: 'vxlan' });
  await moveBackend(asked('host-gw', { force: true }), options);
  t.like(store.view.networks.get('wg'), { backend: 'host-gw' });
});

test('a node that was away flips when it returns', async (t) => {
  const { one, two, store, has } = await pairOn(t, from);
  store.putNetwork({ ...hostGw({ name: 'wg', subnet: '10.120.0.0/16' }) });
  await until('both have plain routes', () =>
    [one, two].every(({ kernel }) =>
      /route 10\.120\.\d\.0\/24 via 192\.0\.2\.\d dev eth0/.test(kernel.dump()),
    ),
  );
  t.false(has(one, 'wfvx7'));
});

test('a move to a cloud: the network flips when the cloud leads to every node, and its routes go with the move back', async (t) => {
  const { store, one, two, has, clouds } = await pairOn(t, from);
  const options = { store, checkCapability: () => undefined, signal, waitMs: 300 };
  const [, second] = clouds;
  if (second === undefined) return t.fail();
  second.failure = permissionDenied('AWS refuses');
  await moveBackend(asked('aws-vpc'), options);
  const there = store.view.networks.get('wg');
  t.deepEqual(there && moveOf(store, there), { beside: 'aws-vpc', waitingFor: ['node2'] });
  t.deepEqual(second.shown(), [`rtb-1 ${one.subnet} eni-1`]);
  second.failure = undefined;
  // As at the next look, a minute later.
  await two.memberships.republish(() => true);
  await moveBackend(asked('aws-vpc'), { ...options, waitMs: 5000 });
  t.like(store.view.networks.get('wg'), { backend: 'aws-vpc' });
  t.deepEqual(second.shown(), [`rtb-1 ${one.subnet} eni-1`, `rtb-1 ${two.subnet} eni-2`].toSorted());
  t.true(has(one, `route ${two.subnet} via 192.0.2.254 dev eth0`));
  await until('the tunnel is gone', () => !has(one, 'wfvx7'));
  await moveBackend(asked('vxlan'), { ...options, waitMs: 5000 });
  await until('the routes are gone', () => second.shown().length === 0);
  t.true(has(one, 'wfvx') && !has(one, '192.0.2.254'));
});

// Where the kernel has FOU, it carries the udp network of flannel's port, unless an ipip network needs the kernel's one tunnel.

/** What the firewall takes from whom. */
const allowed = ({ kernel }: { kernel: FakeKernel }): string[] =>
  [...(kernel.firewall.rules?.members?.values() ?? [])]
    .flatMap(({ addresses, fou = [] }) => fou.map((prefix) => `${addresses.join()} ${prefix.toString()}`))
    .toSorted();

const DEVICE = 'link wfud-ud ipip local 192.0.2.1 remote any encap fou 8285';

test('the kernel is the pump, and the firewall knows what each peer may send', async (t) => {
  const { one, two } = await pairOn(t, udp(), true);
  t.true(one.kernel.dump().includes(DEVICE));
  t.like(one.kernel.firewall.rules?.fou, { link: 'wfud-ud', port: 8285 });
  t.deepEqual(allowed(one), [`192.0.2.2 ${two.subnet}`]);
});

test('a peer whose lease etcd has lost, and the addresses that it uses, may send on', async (t) => {
  const { store, one, two } = await pairOn(t, udp(), true);
  const ip = IpAddress.parse(two.subnet.replace(/0\/24$/, '77'));
  store.putLease(leaseOf(udp(), 7));
  store.putClaim({ network: 'ud', ip, node: 'n7', endpoint: 'e1', state: 'granted' });
  const before = [`192.0.2.2 ${two.subnet}`, '192.0.2.7 10.110.7.0/24', `192.0.2.7 ${ip.toString()}/32`];
  await until('they are allowed', () => isDeepStrictEqual(allowed(one), before.toSorted()));
  store.loseEverything();
  // The nodes that live write theirs back, and what follows is compiled after that.
  await until('they are back', () => store.view.leases.get('ud')?.size === 2);
  store.putLease(leaseOf(udp(), 8));
  const after = [...before, '192.0.2.8 10.110.8.0/24'].toSorted();
  await until('the next peer is allowed', () => allowed(one).some((line) => line.startsWith('192.0.2.8')));
  t.deepEqual(allowed(one), after);
});

test('an address of another node’s subnet may be sent by the node that uses it', async (t) => {
  const { store, one, two } = await pairOn(t, udp(), true);
  const ip = IpAddress.parse(one.subnet.replace(/0\/24$/, '77'));
  store.putClaim({ network: 'ud', ip, node: two.name, endpoint: 'e1', state: 'granted' });
  await until('it is allowed', () =>
    [...(one.kernel.firewall.rules?.members?.values() ?? [])].some(({ addresses, fou = [] }) =>
      fou.some((prefix) => prefix.contains(ip) && prefix.length === 32 && addresses.includes('192.0.2.2')),
    ),
  );
  t.pass();
});

test('an ipip network on the node takes the tunnel: a process carries meanwhile, there alone', async (t) => {
  const { store, one, two, log } = await pairOn(t, udp(), true);
  store.putNetwork(ipip({ subnet: '10.111.0.0/16' }));
  await one.memberships.join('ip');
  const tun = 'link wfud-ud tun';
  await until('a process carries', () => one.kernel.dump().includes(tun));
  t.true(one.kernel.dump().includes('link wfipip ipip'));
  t.true(one.kernel.dump().includes(`route ${two.subnet} dev wfud-ud`));
  t.is(one.kernel.firewall.rules?.fou, undefined);
  const freed = log.findIndex((line) => /^node1 delete.*wfud-ud/.test(line));
  t.true(freed !== -1 && freed < log.findIndex((line) => /^node1 create.*wfipip/.test(line)), log.join('\n'));
  t.true(two.kernel.dump().includes(DEVICE.replace('.1 ', '.2 ')));
  await one.memberships.leave('ip');
  await until('the kernel carries again', () => one.kernel.dump().includes(DEVICE));
  t.truthy(one.kernel.firewall.rules?.fou);
});

test('a kernel without FOU, and a network of another port, have a process', async (t) => {
  const [without, other] = [await pairOn(t, udp()), await pairOn(t, udp({ port: 8286 }), true)];
  for (const { one } of [without, other]) t.true(one.kernel.dump().includes('link wfud-ud tun'));
});
