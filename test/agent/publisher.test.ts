// What the store is told of a node's endpoints: whatever it refuses is told as a problem and tried again until it works.
import test, { type ExecutionContext } from 'ava';

import { agentMetrics } from '../../agent/metrics.js';
import { Problems } from '../../agent/problems.js';
import { Publisher } from '../../agent/publisher.js';
import type { Endpoint } from '../../core/records.js';
import { silentLogger } from '../../daemon/log.js';
import { FakeStore } from '../fakes/store.js';
import { endpoint, ip, membership, network } from '../kernel/samples.js';
import { until } from '../lab/wait.js';

const blue = network('blue', 4097, 100, false);

const sample = (id: string, options: Partial<Endpoint> = {}): Endpoint =>
  endpoint(membership(blue), id.padEnd(16, '0'), 5, `/run/netns/${id}`, options);

/** The publisher of node1, where these are attached. */
function publishing(t: ExecutionContext, ...attached: Endpoint[]) {
  const [store, problems] = [new FakeStore(), new Problems()];
  const publisher = new Publisher({
    store,
    problems,
    log: silentLogger,
    metrics: agentMetrics(),
    node: 'node1',
    current: () => attached,
  });
  store.putNetwork(blue);
  t.teardown(store.subscribe((changes) => publisher.handle(changes)));
  t.teardown(() => publisher.stop());
  const isTold = ({ id }: Endpoint): boolean => store.view.endpoints.get('blue')?.has(id) === true;
  return { store, problems, publisher, isTold };
}

test('a claimed address that is another’s since etcd lost its past is a problem, and the endpoint is told all the same', async (t) => {
  const mine = sample('a1', { ip: '10.100.2.50/32' });
  const { store, problems, publisher, isTold } = publishing(t, mine);
  store.putClaim({
    network: 'blue',
    ip: ip('10.100.2.50'),
    node: 'node3',
    endpoint: 'e3',
    state: 'granted',
  });
  store.putRecordOf(mine);
  publisher.resync();
  await until('it is a problem', () => problems.list().length === 1);
  const [problem] = problems.list();
  t.regex(problem?.why ?? '', /10\.100\.2\.50 is used by e3/);
  t.true(isTold(mine));
});
