// The page's state from updates.
import test from 'ava';

import type { Update } from '../../daemon/page/update.js';
import { Event } from '../../proto/gen/weft/v1/events.js';
import { Endpoint, Node } from '../../proto/gen/weft/v1/types.js';
import { Cluster } from '../../web/state/store.js';

const endpoints = (...ids: string[]): Update => ({
  kind: 'endpoint',
  put: ids.map((id) => Endpoint.fromPartial({ id })),
  gone: [],
});
const failure = { code: 'UNAVAILABLE', message: 'away', next: null };

test('what a new beginning does not repeat is gone once it is complete, and is shown until then', (t) => {
  const cluster = new Cluster();
  const apply = (...updates: Update[]) => updates.forEach((update) => cluster.apply(update, 0));
  apply({ kind: 'begin', of: 'endpoint' }, endpoints('a', 'b'), { kind: 'synced', of: 'endpoint' });
  apply({ kind: 'begin', of: 'endpoint' }, endpoints('b', 'c'));
  t.deepEqual([...cluster.endpoints.keys()], ['a', 'b', 'c']);
  apply({ kind: 'synced', of: 'endpoint' });
  t.deepEqual([...cluster.endpoints.keys()], ['b', 'c']);
  apply({ kind: 'endpoint', put: [], gone: ['b'] });
  t.deepEqual([...cluster.endpoints.keys()], ['c']);
});

test('what is lost says since when, until it is complete again', (t) => {
  const cluster = new Cluster();
  cluster.apply({ kind: 'lost', of: 'node', failure }, 5);
  cluster.apply({ kind: 'lost', of: 'node', failure }, 9);
  t.is(cluster.lost('node')?.since, 5);
  cluster.apply({ kind: 'lost', of: 'node', failure: { ...failure, message: 'refused' } }, 10);
  t.like(cluster.lost('node'), { since: 5, failure: { message: 'refused' } });
  t.is(cluster.lost('status'), undefined);
  cluster.apply({ kind: 'begin', of: 'node' }, 10);
  cluster.apply({ kind: 'node', put: [Node.fromPartial({ name: 'h1' })], gone: [] }, 10);
  t.is(cluster.lost('node')?.since, 5);
  cluster.apply({ kind: 'synced', of: 'node' }, 11);
  t.is(cluster.lost('node'), undefined);
});

test('a lost connection is a loss of everything', (t) => {
  const cluster = new Cluster();
  cluster.disconnected(3);
  cluster.disconnected(4);
  t.is(cluster.lost('status')?.since, 3);
  cluster.connected();
  t.is(cluster.lost('status'), undefined);
});

test('events and traffic are bounded', (t) => {
  const cluster = new Cluster();
  for (let i = 0; i < 700; i++)
    cluster.apply({ kind: 'event', put: [Event.fromPartial({ reason: String(i) })] }, 0);
  t.is(cluster.events.length, 500);
  t.is(cluster.events.at(-1)?.reason, '699');
  const point = { network: 'blue', bytes: 1, drops: 0, missing: 0 };
  cluster.apply({ kind: 'traffic', put: [{ at: 1000, ...point }] }, 1000);
  cluster.apply({ kind: 'traffic', put: [{ at: 3_601_001, ...point }] }, 3_601_001);
  t.deepEqual(
    cluster.traffic.map(({ at }) => at),
    [3_601_001],
  );
});
