// An etcd of three servers, each of which stalls in turn, the leader too.
//
// The store goes on over the others, and no node is taken for dead.
import { setTimeout as sleep } from 'node:timers/promises';

import test from 'ava';

import { startCluster } from './etcd.js';
import { closeStores, endpoint, eventually, openTestStore, recordingLog, spec } from './helpers.js';

test('a stalled server of three is replaced before a node loses its life lease', async (t) => {
  const cluster = await startCluster();
  t.teardown(async () => {
    await closeStores();
    await cluster.stop();
  });
  const log = recordingLog();
  const store = openTestStore(cluster.urls, '/weft', log);
  await eventually(() => store.state.connected, 'connected', 10_000);
  await store.createNetwork(spec('blue', '10.100.0.0/16'));
  const node = { name: 'n1', instance: 'i', publicIp: '192.0.2.1', version: '', startedAt: '' };
  const announcement = store.announce(() => node, { ttlSeconds: 3, onConflict: () => undefined });
  await eventually(() => store.view.alive.has('n1'), 'alive');
  // A leader that was stalled expires all leases when it goes on, before it learns of the next leader (etcd's issue
  // 15247): the node must be back before any other node acts on it.
  let goneAt: number | undefined;
  let away = 0;
  /** The slowest of etcd's own writes that ended while the node was away. */
  let meanwhile = 0;
  store.subscribe((changes) => {
    for (const change of changes) {
      if (change.kind !== 'alive') continue;
      if (goneAt !== undefined) away = Math.max(away, performance.now() - goneAt);
      goneAt = change.after === undefined ? performance.now() : undefined;
    }
  });
  let written = 0;
  let slowest = 0;
  const refused = new Set<string>();
  const stop = new AbortController();
  const writing = (async () => {
    for (let i = 0; !stop.signal.aborted; i++) {
      const since = performance.now();
      await store.putEndpoint(endpoint('blue', (i % 50).toString(16)), { unique: false }).then(
        () => written++,
        (error: unknown) => refused.add((error as Error).message),
      );
      slowest = Math.max(slowest, performance.now() - since);
      if (goneAt !== undefined) meanwhile = Math.max(meanwhile, performance.now() - since);
      await sleep(10);
    }
  })();
  for (const member of [0, 1, 2]) {
    cluster.signal(member, 'SIGSTOP');
    await sleep(4500);
    const before = written;
    await eventually(() => written > before + 5, `writing goes on without server ${member}`, 2000);
    cluster.signal(member, 'SIGCONT');
    await sleep(1500);
  }
  stop.abort();
  await writing;
  if (goneAt !== undefined) await eventually(() => goneAt === undefined, 'the node is there again', 1000);
  t.log(
    `${written} written, away for ${Math.round(away)} ms, slowest ${Math.round(slowest)} ms, refused: ${[...refused].join('; ') || 'none'}`,
  );
  t.is(goneAt, undefined);
  // A read, a lease, a write and its event, each as slow as etcd is at that moment.
  t.true(away < Math.max(500, 4 * meanwhile), `the node was away for ${Math.round(away)} ms`);
  t.is(store.state.resyncs, 0);
  t.true(slowest < 4000, 'no call takes longer than its deadline');
  for (const message of refused) t.regex(message, /does not answer/);
  t.is(log.lines.filter((line) => line.level === 'error').length, 0);
  await announcement.stop();
});
