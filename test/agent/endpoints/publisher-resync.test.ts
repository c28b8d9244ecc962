// The publisher deletes stale records of its node from the store.
//
// Only while it owns the node's name.
import test from 'ava';

import { agentMetrics } from '../../../agent/health/metrics.js';
import { Problems } from '../../../agent/health/problems.js';
import { Publisher } from '../../../agent/endpoints/publisher.js';
import { silentLogger } from '../../../daemon/log.js';
import { endpoint, node } from '../../controller/records.js';
import { FakeStore } from '../../fakes/store.js';
import { until } from '../../lab/wait.js';

for (const [holder, left] of [
  ['own', 0],
  ['another', 1],
  [undefined, 1],
] as const) {
  test(`resync while the node’s name is held by ${holder ?? 'no instance'}`, async (t) => {
    const store = new FakeStore();
    store.putNode(node('web', '192.0.2.1', { instance: holder ?? 'another' }), {
      alive: holder !== undefined,
    });
    store.putRecordOf(endpoint('aa', 'blue', 'web'));
    const publisher = new Publisher({
      ...{ store, log: silentLogger, metrics: agentMetrics(), problems: new Problems() },
      ...{ node: 'web', instance: 'own', current: () => [] },
    });
    t.teardown(() => publisher.stop());
    publisher.resync();
    await until('everything is published', () => publisher.pending === 0);
    t.is(store.view.endpoints.get('blue')?.size ?? 0, left);
  });
}
