// What the publisher takes out of the store: what stands there under the node's name and is attached no more, and only while
// that name is its own.
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
  test(`compared with the store while the name is held by ${holder ?? 'nobody'}`, async (t) => {
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
    await until('everything is told', () => publisher.pending === 0);
    t.is(store.view.endpoints.get('blue')?.size ?? 0, left);
  });
}
