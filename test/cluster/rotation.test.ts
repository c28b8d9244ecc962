// A new certificate authority under traffic: no packet is lost, and control is never away for long.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

import test from 'ava';

import { authorityHashesOf } from '../../daemon/certificate.js';
import { bare, INFRA, type Cluster, type EndpointJson } from '../lab/cluster.js';
import { shareAmongTests } from '../lab/fresh.js';
import { Meter, monotonic } from '../lab/meter.js';
import { SecureCluster } from '../lab/secure-cluster.js';

interface AuthorityJson {
  hash: string;
  former: string | null;
  waitsFor: string[];
}

let cluster: SecureCluster;
let lab: Cluster;

shareAmongTests(
  test,
  async () => {
    cluster = await SecureCluster.create(2, 'c1', 'c2');
    ({ lab } = cluster);
    await cluster.startController();
    await cluster.join('h1', 'h2');
  },
  async () => {
    await lab?.lab.down();
  },
);

/** Milliseconds of the longest time without an answer, until `stop`. */
function longestSilence(ask: () => Promise<boolean>): { stop: () => Promise<number> } {
  let [longest, last, isOver] = [0, monotonic(), false];
  const asking = (async () => {
    while (!isOver) {
      if (await ask()) {
        longest = Math.max(longest, monotonic() - last);
        last = monotonic();
      }
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    return Math.max(longest, monotonic() - last);
  })();
  return {
    stop: () => {
      isOver = true;
      return asking;
    },
  };
}

const trustOf = (host: string): string[] =>
  authorityHashesOf(readFileSync(join(cluster.identityOf(host), 'ca.crt')));

test.serial('weft ca rotate under traffic', async (t) => {
  await cluster.json(INFRA, ['network', 'create', 'blue', '--subnet', '10.100.0.0/16']);
  const [, b] = await Promise.all(
    (['h1', 'h2'] as const).map((host, i) =>
      cluster.json<EndpointJson>(host, ['attach', 'blue', lab.ns(`c${i + 1}`)]),
    ),
  );
  const meter = await Meter.start(lab.place('c1'), lab.place('c2'), bare(b?.ip ?? ''));
  t.teardown(() => meter.stop());
  const before = await cluster.json<AuthorityJson>(INFRA, ['ca', 'show']);
  const began = monotonic();
  const commands = longestSilence(async () => (await cluster.weft(INFRA, ['network', 'ls'])).code === 0);
  const store = longestSilence(async () => {
    const { code, stdout } = await cluster.weft('h1', ['status', '-o', 'json']);
    const status = JSON.parse(stdout) as { store: { state: string }; controller: { state: string } };
    return code === 0 && status.store.state === 'connected' && status.controller.state === 'connected';
  });

  const rotated = await cluster.json<AuthorityJson>(INFRA, ['ca', 'rotate']);
  t.not(rotated.hash, before.hash);
  t.is(rotated.former, before.hash);
  t.deepEqual(rotated.waitsFor, ['node h1', 'node h2']);
  await lab.until(
    'the former one is dropped',
    async () => {
      const { code, stdout } = await cluster.weft(INFRA, ['ca', 'show', '-o', 'json']);
      return code === 0 && (JSON.parse(stdout) as AuthorityJson).former === null;
    },
    { timeoutMs: 30_000 },
  );
  for (const host of ['h1', 'h2'])
    await lab.until(`${host} has forgotten it`, () => trustOf(host).join() === rotated.hash, {
      timeoutMs: 30_000,
    });
  await lab.until('the nodes are up', async () => {
    const nodes = await cluster.json<{ state: string }[]>(INFRA, ['node', 'ls']);
    return nodes.every(({ state }) => state === 'up');
  });
  const [ofCommands, ofStore] = [await commands.stop(), await store.stop()];
  t.log(
    `longest silence of the controller ${ofCommands} ms, of etcd and sessions for an agent ${ofStore} ms`,
  );
  t.true(ofCommands < 3000, `${ofCommands}`);
  t.true(ofStore < 3000, `${ofStore}`);
  const traffic = await meter.settled(began);
  t.is(traffic.lost, 0);
  t.deepEqual(readdirSync(join(lab.folder, 'admin')), [rotated.hash]);

  // What comes later has the new one, and what was there goes on.
  const metrics = await lab.sh(INFRA, 'curl -s http://127.0.0.1:7401/metrics');
  t.regex(metrics, /^weft_embedded_etcd_restarts_total 1$/m);
  await cluster.json('h1', ['detach', 'blue', lab.ns('c1')]);
  await lab.until(
    'etcd knows',
    async () => (await cluster.json<unknown[]>(INFRA, ['endpoint', 'ls'])).length === 1,
  );
});
