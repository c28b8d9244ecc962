// A cluster in plain text moves to certificates, node by node, under traffic.
import { join } from 'node:path';

import test from 'ava';

import { bare, ETCD, INFRA, type Cluster, type EndpointJson } from '../lab/cluster.js';
import { shareAmongTests } from '../lab/fresh.js';
import { WEFT } from '../lab/lab.js';
import { Meter, monotonic } from '../lab/meter.js';
import { SecureCluster } from '../lab/secure-cluster.js';

let cluster: SecureCluster;
let lab: Cluster;

/** As an older release is started: its etcd is in plain text at an address that the agents are told. */
const OLD = ['--etcd-listen', ETCD];

shareAmongTests(
  test,
  async () => {
    cluster = await SecureCluster.create(2, 'c1', 'c2');
    ({ lab } = cluster);
    const state = join(lab.folder, 'controller');
    const old = lab.spawn('controller', INFRA, [
      ...[WEFT, 'controller', '--insecure', '--state-dir', state, '--http', '127.0.0.1:7401', ...OLD],
    ]);
    await lab.says(old, 'the controller is ready');
    await lab.startAgents(['h1', 'h2']);
  },
  async () => {
    await lab?.lab.down();
  },
);

interface StatusJson {
  store: { state: string };
  controller: { state: string };
  problems: { what: string; why: string }[];
}

test.serial('weft ca init, and a token for each node', async (t) => {
  const plain = { WEFT_INSECURE: '1' };
  const made = ['network', 'create', 'blue', '--subnet', '10.100.0.0/16'];
  t.is((await cluster.weft(INFRA, made, plain)).code, 0);
  const [, b] = await Promise.all(
    (['h1', 'h2'] as const).map((host, i) =>
      cluster.json<EndpointJson>(host, ['attach', 'blue', lab.ns(`c${i + 1}`)]),
    ),
  );
  const meter = await Meter.start(lab.place('c1'), lab.place('c2'), bare(b?.ip ?? ''));
  t.teardown(() => meter.stop());
  const began = monotonic();

  await lab.process('controller').stop();
  const controller = await cluster.startController(OLD);
  await lab.until('the problem', async () => {
    const { problems } = await cluster.json<StatusJson>(INFRA, ['status']);
    return problems.some(({ why }) =>
      /is plain text: it has nodes without certificates \(h1, h2\)/.test(why),
    );
  });
  await cluster.json(INFRA, ['ca', 'init']);

  const works = (host: string): Promise<boolean> =>
    lab.until(`${host} reaches etcd and the controller`, async () => {
      const { store, controller: session } = await cluster.json<StatusJson>(host, ['status']);
      return store.state === 'connected' && session.state === 'connected';
    });
  await Promise.all([works('h1'), works('h2')]);
  for (const host of ['h1', 'h2']) {
    const token = await cluster.token('--node', host);
    await lab.process(`agent-${host}`).stop();
    // What the settings say of etcd may stay.
    cluster.agent(host, ['--token', token, '--etcd', ETCD]);
    await cluster.ready(host);
    await works('h1');
    if (host === 'h1') await works('h2');
  }
  await lab.says(controller, 'plain text is not served any more');
  await Promise.all([works('h1'), works('h2')]);
  const { problems } = await cluster.json<StatusJson>(INFRA, ['status']);
  t.deepEqual(
    problems.filter(({ why }) => /plain text|certificate/.test(why)),
    [],
  );
  t.not((await cluster.weft(INFRA, ['node', 'ls', '--insecure'], plain)).code, 0);
  t.is((await lab.try('h1', `curl -s ${ETCD}/health`)).stdout.trim(), '');
  t.is((await meter.settled(began)).lost, 0);
});
