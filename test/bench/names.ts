// DNS latency and throughput, compared with dnsmasq.
//
// Queries from a container for the name of a container on another host; dnsmasq, on the same host, has the name in a hosts file.
// 1,000 queries each, in turn, then ten seconds at 10,000 queries a second to each: weft may lose no more of them than dnsmasq.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { messageOf } from '../../core/errors.js';
import { bare, Cluster } from '../lab/cluster.js';
import { must } from '../lab/exec.js';
import { sweep } from '../lab/runs.js';

const ROUNDS = Number(process.env['WEFT_BENCH_ROUNDS'] ?? 1000);
const SECONDS = Number(process.env['WEFT_BENCH_SECONDS'] ?? 10);
const RATE = 10_000;
/** The target: p50 of an answer divided by p50 of dnsmasq's. */
const WANTED_RATIO = 2;
const NAME = 'db.bench.weft';

async function main(): Promise<number> {
  sweep();
  const cluster = await Cluster.create(2);
  try {
    return await measure(cluster);
  } catch (error) {
    console.error(`bench: ${messageOf(error)}\n${cluster.lab.logs()}`);
    return 1;
  } finally {
    await cluster.lab.down();
  }
}

async function measure(cluster: Cluster): Promise<number> {
  await cluster.addContainers('asker', 'db');
  await cluster.startEtcd();
  const config = { Network: '10.100.0.0/16', Backend: { Type: 'vxlan', VNI: 4100 } };
  await cluster.etcdctl('put', '/weft/networks/bench/config', JSON.stringify(config));
  await cluster.startAgents(['h1', 'h2']);
  const { gateway } = await cluster.attach('h1', 'bench', 'asker');
  const { ip } = await cluster.attach('h2', 'bench', 'db', '--name', 'db');
  const hosts = join(cluster.folder, 'hosts');
  writeFileSync(hosts, `${bare(ip)} ${NAME}\n`);
  const dnsmasq = cluster.ipOf('h1');
  cluster.spawn('dnsmasq', 'h1', [
    ...['dnsmasq', '--keep-in-foreground', '--conf-file=/dev/null', '--pid-file', '--user=root'],
    ...[
      '--no-resolv',
      '--no-hosts',
      `--addn-hosts=${hosts}`,
      '--bind-interfaces',
      `--listen-address=${dnsmasq}`,
    ],
  ]);
  for (const server of [gateway, dnsmasq]) {
    await cluster.until(
      `${server} answers`,
      async () => (await cluster.sh('asker', `dig +short ${NAME} @${server}`)).trim() === bare(ip),
    );
  }
  const asker = new URL('asker.js', import.meta.url).pathname;
  const ask = async <T>(...args: (string | number)[]): Promise<T> =>
    JSON.parse(
      await must(cluster.place('asker').inside([process.execPath, asker, NAME, ...args.map(String)]), {
        timeoutMs: 120_000,
      }),
    ) as T;

  console.log(`${ROUNDS} queries to weft and ${ROUNDS} to dnsmasq, in turn …`);
  const times = await ask<number[][]>('time', ROUNDS, gateway, dnsmasq);
  const [weft = [], other = []] = times;
  console.log(`  ${''.padEnd(38)}${'p50'.padStart(12)}${'p99'.padStart(12)}`);
  for (const [who, list] of [
    ['weft, a name on another host', weft],
    ['dnsmasq, from a hosts file', other],
  ] as const) {
    console.log(
      `  ${who.padEnd(38)}${[0.5, 0.99].map((q) => `${(quantile(list, q) * 1000).toFixed(0)} µs`.padStart(12)).join('')}`,
    );
  }
  const ratio = quantile(weft, 0.5) / quantile(other, 0.5);
  console.log(`  ratio of the p50: ${ratio.toFixed(2)} (wanted: at most ${WANTED_RATIO})`);

  console.log(`${RATE} queries a second for ${SECONDS} s …`);
  const lost: number[] = [];
  for (const [who, server] of [
    ['dnsmasq', dnsmasq],
    ['weft', gateway],
  ] as const) {
    const { sent, received } = await ask<{ sent: number; received: number }>('flood', RATE, SECONDS, server);
    lost.push(sent - received);
    console.log(`  ${who.padEnd(10)} ${sent} sent, ${sent - received} lost`);
  }
  const [theirs = 0, ours = 0] = lost;
  if (ratio <= WANTED_RATIO && ours <= theirs) return 0;
  console.log('Not reached.');
  return 1;
}

function quantile(values: readonly number[], q: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.ceil(q * sorted.length) - 1)] ?? NaN;
}

process.exitCode = await main();
