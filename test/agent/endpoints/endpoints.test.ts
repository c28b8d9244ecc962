// Endpoints under failures and concurrent changes.
//
// An endpoint exists or is removed, never half. A failed removal is reported and retried.
import { readdirSync } from 'node:fs';
import { join } from 'node:path';

import test from 'ava';

import { routeKey } from '../../../core/objects/route.js';
import { RecordMap } from '../../../agent/reconcile/record-key.js';
import type { WeftError } from '../../../core/errors.js';
import { parsePublish } from '../../../core/publish.js';
import type { Removal } from '../../../core/records.js';
import type { Change } from '../../../store/store.js';
import { claimOf, leaseOf, overlay } from '../../core/records.js';
import { until } from '../../lab/wait.js';
import { attached, breakFolder, path, request, startNode, type TestNode } from '../node.js';

const veths = async ({ kernel }: TestNode): Promise<string[]> =>
  [...(await kernel.node.linkNames())].filter((name) => name.startsWith('wfep'));

const files = ({ stateDir }: TestNode): string[] => readdirSync(join(stateDir, 'endpoints'));

const published = { publish: parsePublish('8080:80') };

test('a container that ends while the state directory is read-only is a problem and removed later', async (t) => {
  const node = await startNode(t);
  const { id, name } = await attached(node, 'c1');
  const repair = breakFolder(node, 'endpoints');
  node.kernel.vanish(path('c1'));
  const problem = await until('it is a problem', () =>
    node.problems.list().find(({ what }) => what.includes(id)),
  );
  t.true(
    problem.what.includes(name) && problem.why.includes(node.stateDir) && problem.fix.includes('writable'),
  );
  t.is(node.endpoints.get(id)?.id, id, 'its address is not free');
  repair();
  await node.reconciler.compare('interval');
  await until('it is removed', () => node.endpoints.get(id) === undefined);
  t.deepEqual(files(node), []);
  await until('and the problem with it', () => node.problems.list().length === 0);
});

test('a detach that fails on the state directory changes nothing', async (t) => {
  const node = await startNode(t);
  const endpoint = await attached(node, 'c1');
  const repair = breakFolder(node, 'endpoints');
  const refused = await t.throwsAsync<WeftError>(node.attacher.detach('blue', endpoint.target));
  t.true(refused.message.includes(node.stateDir));
  t.truthy(refused.next);
  t.is((await veths(node)).length, 1);
  repair();
  await node.attacher.detach('blue', endpoint.target);
  t.deepEqual([await veths(node), files(node)], [[], []]);
});

test('a detach that fails on the firewall changes nothing, and can be repeated', async (t) => {
  const node = await startNode(t);
  const endpoint = await attached(node, 'c1', published);
  node.kernel.firewall.failNext(new Error('no more rules'));
  await t.throwsAsync(node.attacher.detach('blue', endpoint.target), { message: /no more rules/ });
  t.deepEqual([node.endpoints.list().length, files(node).length], [1, 1]);
  t.is((await veths(node)).length, 1);
  await node.attacher.detach('blue', endpoint.target);
  t.deepEqual([await veths(node), files(node), [...node.ports.list()]], [[], [], []]);
  t.is(node.addresses.holder('blue', '10.100.1.2'), undefined);
});

test('the address of a container that ended is free only when no port leads to it', async (t) => {
  const node = await startNode(t);
  const { id, ip } = await attached(node, 'c1', published);
  node.kernel.firewall.failNext(new Error('no more rules'));
  // The reconciliation that detects the end of the container reads the firewall, too.
  node.kernel.firewall.failNext(new Error('no more rules'));
  node.endpoints.sandboxGone(id);
  await until('it is a problem', () => node.problems.list().some(({ what }) => what.includes(id)));
  t.is(node.addresses.holder('blue', ip.split('/')[0] ?? ''), id);
  node.kernel.vanish(path('c1'));
  await node.reconciler.compare('interval');
  await until(
    'it is removed',
    () => node.endpoints.get(id) === undefined && [...node.ports.list()].length === 0,
  );
});

test('an endpoint that the kernel does not delete at once is removed all the same', async (t) => {
  const node = await startNode(t);
  const endpoint = await attached(node, 'c1');
  node.kernel.beforeApply = () => {
    node.kernel.beforeApply = undefined;
    throw new Error('the socket is gone');
  };
  await node.attacher.detach('blue', endpoint.target);
  t.is(node.addresses.holder('blue', endpoint.ip.split('/')[0] ?? ''), undefined);
  await node.reconciler.compare('interval');
  t.deepEqual(await veths(node), []);
});

test('one endpoint that cannot be removed keeps no other on a deleted network', async (t) => {
  const node = await startNode(t);
  await attached(node, 'c1', published);
  await attached(node, 'c2');
  node.kernel.firewall.failNext(new Error('no more rules'));
  await node.endpoints.left('blue');
  t.deepEqual(
    node.endpoints.list().map(({ name }) => name),
    ['c1'],
  );
  t.true(node.problems.list().some(({ what, why }) => what.includes('c1') && why.includes('no more rules')));
});

test('an attachment of a container that ended is removed when the state directory is writable again', async (t) => {
  const node = await startNode(t);
  node.kernel.addContainer(path('c1'));
  const guest = `netns:${path('c1')}`;
  await node.attachments.attach({ host: 'br1', guest, ifname: 'eth1', address: '10.9.0.2/24' });
  const repair = breakFolder(node, 'wires');
  node.kernel.vanish(path('c1'));
  await until('it is a problem', () => node.problems.list().find(({ what }) => what.includes('br1')));
  repair();
  await node.reconciler.compare('interval');
  await until(
    'it is removed',
    () => node.attachments.list().length === 0 && node.problems.list().length === 0,
  );
  t.deepEqual(readdirSync(join(node.stateDir, 'wires')), []);
});

test('an endpoint whose port cannot be reserved is restored, with a problem', async (t) => {
  const node = await startNode(t);
  const endpoint = await attached(node, 'c1', published);
  const membership = node.memberships.get('blue');
  if (membership === undefined) return t.fail();
  await node.ports.close(endpoint.id);
  const { kernel } = node;
  const hold = kernel.reservePort.bind(kernel);
  kernel.reservePort = () => {
    throw new Error('EMFILE');
  };
  await node.ports.restore(membership, endpoint);
  t.true(node.problems.list().some(({ why }) => why.includes('EMFILE')));
  kernel.reservePort = hold;
});

test('an expired route to a peer is deleted later if the kernel fails', async (t) => {
  const node = await startNode(t);
  await attached(node, 'c1');
  const { store, memberships, kernel, reconciler } = node;
  store.putNode({ name: 'n2', instance: 'i2', publicIp: '192.0.2.2', version: '', startedAt: '' });
  const lease = store.putLease(leaseOf(overlay(), 2, { node: 'n2' }));
  await memberships.handle([
    { kind: 'lease', network: 'blue', subnet: lease.subnet.toString(), after: lease },
  ]);
  const way = (): boolean => kernel.dump().includes('route 10.100.2.0/24');
  t.true(way());
  const lost: Change[] = [{ kind: 'lease', network: 'blue', subnet: lease.subnet.toString(), before: lease }];
  memberships.note(lost);
  await memberships.handle(lost);
  t.true(way(), 'retained');
  kernel.beforeApply = () => {
    kernel.beforeApply = undefined;
    throw new Error('the socket is gone');
  };
  const removal: Removal = { kind: 'node', name: 'n2', forced: false, at: '2026-11-21T00:00:00Z' };
  store.putRemoval(removal);
  await memberships.handle([{ kind: 'removal', key: 'node n2', after: removal }]);
  await reconciler.compare('interval');
  t.false(way());
});

test('an address that is returned is free although it cannot be saved', async (t) => {
  const node = await startNode(t);
  await attached(node, 'c1');
  const claim = claimOf(overlay(), '10.100.1.9', 'n2', 'asked');
  node.store.putClaim(claim);
  await node.memberships.handle([{ kind: 'claim', network: 'blue', ip: '10.100.1.9', after: claim }]);
  t.true(node.memberships.isGranted('blue', '10.100.1.9'));
  breakFolder(node, 'networks');
  await node.store.deleteClaim('blue', '10.100.1.9', claim.endpoint);
  await node.memberships.handle([{ kind: 'claim', network: 'blue', ip: '10.100.1.9', before: claim }]);
  t.false(node.memberships.isGranted('blue', '10.100.1.9'));
});

/** Blocks the next work on the node's namespace. Returns the function that continues it. */
function holdNode({ kernel }: TestNode): () => void {
  let go = (): void => {};
  const held = new Promise<void>((resolve) => (go = resolve));
  kernel.beforeApply = () => {
    kernel.beforeApply = undefined;
    return held;
  };
  return go;
}

/** Begins work on the node's namespace, behind which other work waits. Returns the function that ends it. */
async function occupyNode(node: TestNode): Promise<() => Promise<void>> {
  const go = holdNode(node);
  const busy = node.reconciler.set(
    new RecordMap([
      [
        { kind: 'host-interface', id: 'busy' },
        [{ kind: 'sysctl', path: 'net/ipv6/conf/all/forwarding', value: '1' }],
      ],
    ]),
  );
  await until('it is at work', () => node.kernel.beforeApply === undefined);
  return async () => {
    go();
    await busy;
  };
}

test('an endpoint that is detached while its network is recompiled stays detached', async (t) => {
  const node = await startNode(t);
  await attached(node, 'c1');
  await attached(node, 'c2');
  const last = await attached(node, 'c3', published);
  const go = await occupyNode(node);
  // The first endpoints wait behind that.
  const changed = node.endpoints.changed('blue');
  const detached = node.attacher.detach('blue', last.target);
  await go();
  await Promise.all([changed, detached]);
  await node.reconciler.compare('interval');
  t.is((await veths(node)).length, 2);
  t.false(node.reconciler.recordsOf('blue').some((record) => 'id' in record && record.id === last.id));
  t.deepEqual([...node.ports.list()], []);
});

test('an attach whose network is deleted at the last moment fails and leaves nothing', async (t) => {
  const node = await startNode(t);
  await attached(node, 'c1');
  node.kernel.addContainer(path('c2'));
  const go = holdNode(node);
  const attach = node.attacher.attach(request('c2', { ifname: 'eth7' }));
  await until('it is at work', () => node.kernel.beforeApply === undefined);
  const left = node.memberships.leave('blue');
  await until('the network is being left', () => node.memberships.get('blue') === undefined);
  go();
  await t.throwsAsync(attach, { message: /not on network blue any more/ });
  await left;
  t.deepEqual([node.endpoints.list(), files(node), await veths(node)], [[], [], []]);
});

/** The interface by which a container reaches the name server. */
async function resolverOf({ kernel }: TestNode, name: string): Promise<string | undefined> {
  const { namespace } = await kernel.openNamespace(path(name));
  const { objects } = await namespace.observe([]);
  namespace.close();
  const route = objects.get(routeKey('169.254.53.53/32'))?.object;
  return route?.kind === 'route' && route.via === undefined ? route.link : undefined;
}

test('a container reaches the name server by its next network when the first one is left', async (t) => {
  const node = await startNode(t);
  node.store.putNetwork(overlay({ name: 'red', subnet: '10.101.0.0/16', vni: 4098 }));
  const first = await attached(node, 'c1');
  const second = await node.attacher.attach(request('c1', { network: 'red' }));
  t.is(await resolverOf(node, 'c1'), first.ifname);
  await node.memberships.leave('blue');
  await until('it is moved', async () => (await resolverOf(node, 'c1')) === second.ifname);
});

test('an endpoint of an earlier container at the same path is not of the present one', async (t) => {
  const node = await startNode(t);
  node.store.putNetwork(overlay({ name: 'red', subnet: '10.101.0.0/16', vni: 4098 }));
  const first = await attached(node, 'c1');
  const second = await node.attacher.attach(request('c1', { network: 'red' }));
  t.false(node.endpoints.resolves(second));
  t.true(node.endpoints.resolves({ ...second, sandbox: { ...first.sandbox, cookie: '7777' } }));
});

test('an endpoint that is removed while others are restored stays removed', async (t) => {
  const before = await startNode(t);
  await attached(before, 'c1');
  const last = await attached(before, 'c2');
  const saved = before.endpoints.list();
  for (const { id } of saved) before.state.deleteEndpoint(id);
  await before.stop();
  const { kernel, store, stateDir } = before;
  const node = await startNode(t, { kernel, store, stateDir });
  const go = await occupyNode(node);
  // The first endpoint waits behind that.
  const restored = node.endpoints.restore(saved);
  const removed = node.endpoints.disconnect(last.id);
  await go();
  await Promise.all([restored, removed]);
  t.is(node.endpoints.get(last.id), undefined);
  t.false(node.reconciler.recordsOf('blue').some((record) => 'id' in record && record.id === last.id));
});

test('a container reaches the name server by its first network, and by the next when that goes', async (t) => {
  const node = await startNode(t);
  const spec = { subnet: '10.101.0.0/16', vni: 4098 };
  for (const name of ['red', 'green'])
    node.store.putNetwork(
      overlay({ ...spec, name, ...(name === 'green' && { subnet: '10.102.0.0/16', vni: 4099 }) }),
    );
  const first = await attached(node, 'c1');
  const second = await node.attacher.attach(request('c1', { network: 'red' }));
  const third = await node.attacher.attach(request('c1', { network: 'green' }));
  const alone = await attached(node, 'c2', { network: 'red' });
  t.is(await resolverOf(node, 'c1'), first.ifname);
  t.is(await resolverOf(node, 'c2'), alone.ifname);
  await node.attacher.detach('blue', first.target);
  await until('it is moved', async () => (await resolverOf(node, 'c1')) === second.ifname);
  await node.attacher.detach('green', third.target);
  t.is(await resolverOf(node, 'c1'), second.ifname);
  const before = node.metrics.totals.repaired;
  await node.reconciler.compare('interval');
  t.is(node.metrics.totals.repaired, before, 'nothing is left to do');

  // An agent that finds the containers knows it, too.
  await node.attacher.attach(request('c1'));
  await node.stop();
  const again = await startNode(t, node);
  await again.synced();
  const restored = again.metrics.totals.repaired;
  await again.reconciler.compare('interval');
  t.is(await resolverOf(again, 'c1'), second.ifname);
  t.is(again.metrics.totals.repaired, restored);
});
