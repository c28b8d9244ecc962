// Where the kernel has FOU, it carries the udp network of flannel's port, unless an ipip network needs the kernel's one tunnel.
import { isDeepStrictEqual } from 'node:util';

import test from 'ava';

import { IpAddress } from '../../../core/address.js';
import { ipip, leaseOf, udp } from '../../core/records.js';
import type { FakeKernel } from '../../fakes/kernel.js';
import { until } from '../../lab/wait.js';
import { pairOn } from './pair.js';

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
