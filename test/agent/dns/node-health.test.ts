// Health of nodes, with the test's own clock and ping.
import test from 'ava';

import { NodeHealths } from '../../../agent/dns/node-health.js';
import { DisplacedNodes } from '../../../store/displaced-nodes.js';
import type { Change, View } from '../../../store/store.js';
import { LiveView } from '../../../store/live-view.js';
import { endpointOf, leaseOf, overlay } from '../../core/records.js';
import { until } from '../../lab/wait.js';

function made(answers: () => boolean): {
  healths: NodeHealths;
  /** Changes of the store, for all that follow it. */
  handle: (changes: readonly Change[]) => void;
  view: LiveView;
  clock: { now: number };
  changes: () => number;
} {
  const view = new LiveView();
  for (const [i, name] of ['n1', 'n2'].entries()) {
    const record = { name, instance: name, publicIp: `192.0.2.${i + 1}`, version: '', startedAt: '' };
    view.put({ kind: 'node', name, value: record });
    view.put({ kind: 'alive', name, value: name });
  }
  const clock = { now: 1000 };
  let changes = 0;
  const displaced = new DisplacedNodes(view);
  const healths = new NodeHealths({
    view: view satisfies View,
    displaced,
    node: 'self',
    ping: (ips) => Promise.resolve(ips.map(() => (answers() ? 1 : undefined))),
    onChange: () => changes++,
    now: () => clock.now,
  });
  const handle = (batch: readonly Change[]): void => {
    displaced.handle(batch);
    healths.handle(batch);
  };
  return { healths, handle, view, clock, changes: () => changes };
}

test('a node is silent at once, gone after five seconds, and up again with its life lease', async (t) => {
  const { healths, handle, view, clock, changes } = made(() => false);
  t.is(healths.of('n1'), 'up');
  t.is(healths.of('self'), 'up', 'a node is always up for itself');
  handle([view.remove({ kind: 'alive', name: 'n1', value: 'n1' })]);
  t.is(changes(), 1);
  t.is(healths.of('n1'), 'silent');
  clock.now += 4999;
  healths.judge();
  t.is(healths.of('n1'), 'silent');
  clock.now += 1;
  healths.judge();
  t.is(healths.of('n1'), 'gone');
  t.is(changes(), 2);
  t.is(healths.of('n2'), 'up');
  handle([view.put({ kind: 'alive', name: 'n1', value: 'n1' })]);
  t.is(healths.of('n1'), 'up');
  await healths.stop();
});

test('a node stays silent while it answers on the underlay, and is gone when it stops', async (t) => {
  let answers = true;
  let asked = 0;
  const { healths, handle, view, clock } = made(() => {
    asked++;
    return answers;
  });
  handle([view.remove({ kind: 'alive', name: 'n1', value: 'n1' })]);
  const pinged = (): Promise<unknown> => {
    const before = asked;
    return until('it is asked', () => asked >= before + 2);
  };
  clock.now += 6000;
  await pinged();
  healths.judge();
  t.is(healths.of('n1'), 'silent');
  answers = false;
  await pinged();
  clock.now += 2500;
  healths.judge();
  t.is(healths.of('n1'), 'gone');
  await healths.stop();
});

test('a node is gone at once where another one has its address, although that address answers', async (t) => {
  const { healths, handle, view, changes } = made(() => true);
  const anew = (publicIp: string) =>
    view.put({
      kind: 'node',
      name: 'n9',
      value: { name: 'n9', instance: 'n9', publicIp, version: '', startedAt: '' },
    });
  handle([anew('192.0.2.9'), view.put({ kind: 'alive', name: 'n9', value: 'n9' })]);
  handle([view.remove({ kind: 'alive', name: 'n1', value: 'n1' })]);
  t.is(healths.of('n1'), 'silent');
  const before = changes();
  handle([anew('192.0.2.1')]);
  t.is(healths.of('n1'), 'gone');
  t.true(changes() > before, 'what was answered is forgotten');
  handle([view.put({ kind: 'alive', name: 'n1', value: 'n1' })]);
  t.is(healths.of('n1'), 'up', 'two that live have one address, and both are named');
  await healths.stop();
});

test('a node is gone, too, where an endpoint of its shows that another one has its subnet', async (t) => {
  const { healths, handle, view, changes } = made(() => true);
  const lease = { ...leaseOf(overlay(), 7, { node: 'n2' }), etcdLease: '7' };
  handle([view.put({ kind: 'lease', network: 'blue', subnet: lease.subnet.toString(), value: lease })]);
  handle([view.remove({ kind: 'alive', name: 'n1', value: 'n1' })]);
  t.is(healths.of('n1'), 'silent');
  const before = changes();
  const value = endpointOf(overlay(), '10.100.7.9/24', { node: 'n1' });
  handle([view.put({ kind: 'endpoint', network: 'blue', id: value.id, value })]);
  t.is(healths.of('n1'), 'gone');
  t.true(changes() > before, 'what was answered is forgotten');
  await healths.stop();
});

test('a node that was never seen alive counts from the first look-up', async (t) => {
  const { healths, clock } = made(() => false);
  t.is(healths.of('ghost'), 'silent');
  clock.now += 5000;
  healths.judge();
  t.is(healths.of('ghost'), 'gone');
  await healths.stop();
});
