// Faults of etcd: killed, stalled, compacted behind every watch.
import { setTimeout as delay } from 'node:timers/promises';

import { bare } from '../../lab/cluster.js';
import { monotonic } from '../../lab/meter.js';
import { cpuMs, deletePeer, keysBelow, metric, putPeer, routes, statusOf } from './observe.js';
import { noNodeReportedDown, oneLinePerState } from './outage.js';
import { raise, suite, type Fault } from './suite.js';

const ENDPOINTS = '/weft/networks/blue/endpoints/';

const fault = suite({
  lane: 'etcd',
  build: () => raise(3, { agents: ['h1', 'h2', 'h3'], containers: ['c3', 'c4'] }),
});

/** What must hold in every outage: `stop` ends the service of etcd, `back` settles when it serves again. */
async function away(f: Fault, stop: () => Promise<void>, back: () => Promise<void>): Promise<void> {
  const { cluster } = f;
  const agents = ['h1', 'h2', 'h3'].map((host) => cluster.process(`agent-${host}`));
  const deleted = await cluster.attach('h2', 'blue', 'c4');
  await cluster.until('etcd has it', async () =>
    (await keysBelow(cluster, ENDPOINTS)).includes(ENDPOINTS + deleted.id),
  );
  const logs = agents.map((agent) => agent.log().length);
  f.begins();
  await stop();
  const made = await cluster.attach('h1', 'blue', 'c3');
  f.check(await cluster.reaches('c3', bare(f.site.b.ip)), 'attach meanwhile');
  await cluster.json('h2', 'detach', 'blue', cluster.ns('c4'));
  f.check(!(await cluster.reaches('c1', bare(deleted.ip))), 'detach meanwhile');
  await cluster.until(
    'status reports it',
    async () => (await statusOf(cluster, 'h1')).store.state === 'disconnected',
  );
  const idle = agents.map(cpuMs);
  const idleFrom = monotonic();
  await delay(f.pick(4000, 25_000));
  const seconds = (monotonic() - idleFrom) / 1000;
  const busiest = Math.max(...agents.map((agent, i) => (cpuMs(agent) - (idle[i] ?? 0)) / seconds));
  f.check(busiest < 150, `idle meanwhile (${busiest.toFixed(0)} ms of CPU a second)`);
  await back();
  f.ends();
  const written = putPeer(cluster, '10.100.250.0/24', 250).then(() => monotonic());
  await Promise.all([
    f.within(1, 'the change reaches etcd', async () => {
      const keys = await keysBelow(cluster, ENDPOINTS);
      return keys.includes(ENDPOINTS + made.id) && !keys.includes(ENDPOINTS + deleted.id);
    }),
    f.within(1, 'and every node knows it', async () => {
      const all = await cluster.json<{ id: string }[]>('h2', 'endpoint', 'ls');
      return all.some(({ id }) => id === made.id) && all.every(({ id }) => id !== deleted.id);
    }),
    // h3 is not on the network.
    ...['h1', 'h2'].map(async (host) => {
      const from = await written;
      await f.within(
        1,
        'a change reaches the nodes',
        async () => (await routes(cluster, host)).includes('10.100.250.0/24'),
        { from },
      );
    }),
  ]);
  await noNodeReportedDown(f);
  oneLinePerState(f, agents, logs);
  await f.lossless();
  await deletePeer(cluster, '10.100.250.0/24');
  await cluster.json('h1', 'detach', 'blue', cluster.ns('c3'));
  await cluster.until('all is well', async () => (await statusOf(cluster, 'h1')).health === 'ok');
}

fault('killed for 30 s', async (f) => {
  await away(
    f,
    () => f.cluster.process('etcd').kill(),
    async () => void (await f.cluster.startEtcd()),
  );
});

fault('stalled (SIGSTOP) for 30 s', async (f) => {
  const etcd = f.cluster.process('etcd');
  await away(
    f,
    () => Promise.resolve(etcd.signal('SIGSTOP')),
    () => Promise.resolve(etcd.signal('SIGCONT')),
  );
});

fault('compacted behind every watch, with events by the thousand', async (f) => {
  const { cluster } = f;
  await putPeer(cluster, '10.100.240.0/24', 240);
  await cluster.until('h2 has it', async () => (await routes(cluster, 'h2')).includes('10.100.240.0/24'));
  const before = await Promise.all(['h1', 'h2'].map((host) => metric(cluster, host, 'weft_store_resyncs')));
  f.begins();
  await cluster.lab.cut(cluster.lab.infra);
  await cluster.until(
    'the cut is noticed',
    async () => (await statusOf(cluster, 'h2')).store.state === 'disconnected',
  );
  for (let i = 0; i < f.pick(30, 100); i++) {
    const puts = Array.from({ length: 100 }, (_, n) => `put /weft/networks/blue/junk${n} ${i}`).join('\n');
    await cluster.etcdctlIn(`\n${puts}\n\n\n`, 'txn');
  }
  await cluster.etcdctl('del', '--prefix', '/weft/networks/blue/junk');
  await deletePeer(cluster, '10.100.240.0/24');
  await putPeer(cluster, '10.100.241.0/24', 241);
  const { header } = JSON.parse(await cluster.etcdctl('get', '/', '-w', 'json')) as {
    header: { revision: number };
  };
  await cluster.etcdctl('compact', '--physical', `${header.revision}`);
  await cluster.lab.heal(cluster.lab.infra);
  f.ends();
  await Promise.all(
    ['h1', 'h2'].map((host) =>
      f.within(2, 'nothing missed', async () => {
        const now = await routes(cluster, host);
        return now.includes('10.100.241.0/24') && !now.includes('10.100.240.0/24');
      }),
    ),
  );
  const after = await Promise.all(['h1', 'h2'].map((host) => metric(cluster, host, 'weft_store_resyncs')));
  f.same(
    after,
    before.map((count) => count + 1),
    'one resync',
  );
  await f.lossless();
  await deletePeer(cluster, '10.100.241.0/24');
});
