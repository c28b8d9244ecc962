// What 1,000 policies and 10,000 containers cost: a flood ping, an attach, and how soon a label counts.
//
// Two clusters of two hosts with the same records but for the policies, in turn: seven runs of each, of which the medians count.
import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';

import { messageOf } from '../../core/errors.js';
import { Cluster, ETCD } from '../lab/cluster.js';
import { ipBatch } from '../lab/exec.js';
import { CHECKOUT } from '../lab/lab.js';
import { monotonic } from '../lab/meter.js';
import { sweep } from '../lab/runs.js';

const RUNS = 7;
const POLICIES = Number(process.env['WEFT_BENCH_POLICIES'] ?? 1000);
const ENDPOINTS = Number(process.env['WEFT_BENCH_ENDPOINTS'] ?? 10_000);
const ATTACHES = Number(process.env['WEFT_BENCH_ATTACHES'] ?? 20);
const ECHOES = Number(process.env['WEFT_BENCH_ECHOES'] ?? 20_000);

const WANTED = { echo: 1.05, attachMs: 0.2, labelMs: 250 };
const WAYS = ['with', 'without'] as const;
type Way = (typeof WAYS)[number];
type Times = Record<Way, number[]>;

/** Selected as every endpoint, and as every policy's target. */
const LABEL = { app: '5' };

async function main(): Promise<number> {
  sweep();
  const clusters: Cluster[] = [];
  try {
    for (const way of WAYS) clusters.push(await setUp(way));
    const [withThem, without] = clusters;
    if (withThem === undefined || without === undefined) return 1;
    return await measure({ with: withThem, without });
  } catch (error) {
    console.error(`bench: ${messageOf(error)}\n${clusters.map((one) => one.lab.logs()).join('\n')}`);
    return 1;
  } finally {
    for (const one of clusters) await one.lab.down();
  }
}

async function setUp(way: Way): Promise<Cluster> {
  const cluster = await Cluster.create(2);
  await cluster.startEtcd();
  const config = { Network: '10.100.0.0/16', SubnetLen: 20, Backend: { Type: 'vxlan', VNI: 4100 } };
  await cluster.etcdctl('put', '/weft/networks/bench/config', JSON.stringify(config));
  const fill = (program: string, ...words: string[]): Promise<string> =>
    cluster.lab.infra.must(
      [process.execPath, join(CHECKOUT, `build/test/lab/${program}.js`), ETCD, ...words],
      {
        timeoutMs: 120_000,
      },
    );
  await fill('fill', 'bench', 'crowd', `${ENDPOINTS}`);
  if (way === 'with') await fill('fill-policies', `${POLICIES}`, LABEL.app);
  await cluster.startAgents(['h1', 'h2'], ['--join', 'bench']);
  await cluster.addContainers('one', 'near', 'far');
  for (const [host, name] of [
    ['h1', 'one'],
    ['h1', 'near'],
    ['h2', 'far'],
  ] as const)
    await cluster.attach(host, 'bench', name, '--label', `app=${LABEL.app}`);
  if (way === 'with')
    await cluster.lab.until('the policies are in force', async () =>
      (await cluster.try('h1', 'nft list map inet weft verdicts')).stdout.includes('return'),
    );
  return cluster;
}

async function measure(clusters: Record<Way, Cluster>): Promise<number> {
  const callers = {} as Record<Way, ChildProcess>;
  for (const way of WAYS) {
    const { lab } = clusters[way];
    const names = Array.from({ length: ATTACHES * (RUNS + 1) }, (_, n) => `${lab.run}-many${n}`);
    await ipBatch(names.map((name) => `netns add ${name}`));
    const socket = join(lab.host(1).runDir, 'agent.sock');
    callers[way] = fork(new URL('caller.js', import.meta.url), [socket, 'bench', JSON.stringify(LABEL)]);
  }
  const attaches: Times = { with: [], without: [] };
  const far: Times = { with: [], without: [] };
  const near: Times = { with: [], without: [] };
  const passed: Times = { with: [], without: [] };
  try {
    // The first run of each is not counted.
    for (let run = 0; run <= RUNS; run++) {
      const took: Times = { with: [], without: [] };
      for (let n = run * ATTACHES; n < (run + 1) * ATTACHES; n++)
        // What an attach leaves behind, such as its record, takes time of the next one: either comes first as often.
        for (const way of n % 2 === 0 ? WAYS : WAYS.toReversed())
          took[way].push(await attach(callers[way], `netns:/run/netns/${clusters[way].lab.run}-many${n}`));
      if (run > 0) for (const way of WAYS) attaches[way].push(median(took[way]));
    }
    for (let run = 0; run <= RUNS; run++)
      for (const way of WAYS)
        for (const [times, to] of [
          [far, 'far'],
          [near, 'near'],
        ] as const) {
          const took = await flood(clusters[way], to);
          if (run === 0) continue;
          times[way].push(took.worked);
          if (to === 'far') passed[way].push(took.passed);
        }
  } finally {
    for (const caller of Object.values(callers)) caller.disconnect();
  }
  const more = median(attaches.with) - median(attaches.without);
  const ratio = ratioOf(far);
  console.log(`${POLICIES} policies, ${ENDPOINTS} containers`);
  line('echo to another host, CPU µs', far, `ratio ${ratio.toFixed(3)} (wanted: at most ${WANTED.echo})`);
  line('  from one to the next, µs', passed, `ratio ${ratioOf(passed).toFixed(3)}`);
  line('echo to a neighbour, CPU µs', near, `ratio ${ratioOf(near).toFixed(3)}`);
  line('attach, ms', attaches, `${more.toFixed(2)} ms more (wanted: at most ${WANTED.attachMs})`);
  const label = await labelTimes(clusters.with);
  console.log(
    `  a label on another node: median ${median(label).toFixed(0)} ms (wanted: at most ${WANTED.labelMs})`,
  );
  const isReached = ratio <= WANTED.echo && more <= WANTED.attachMs && median(label) <= WANTED.labelMs;
  if (!isReached) console.log('Not reached.');
  return isReached ? 0 : 1;
}

const ratioOf = (times: Times): number => median(times.with) / median(times.without);

function line(what: string, times: Times, judged: string): void {
  const [withThem, without] = [median(times.with), median(times.without)].map((one) =>
    one.toFixed(2).padStart(8),
  );
  console.log(`  ${what.padEnd(29)}with ${withThem}   without ${without}   ${judged}`);
}

async function attach(caller: ChildProcess, target: string): Promise<number> {
  caller.send({ way: 'http', target });
  const [answer] = (await once(caller, 'message')) as [number | string];
  if (typeof answer === 'string') throw new Error(`attach ${target}: ${answer}`);
  return answer;
}

/**
 * Microseconds of one echo: until the next one, which is sent when this one has been answered, and of the CPU. The kernel carries
 * a packet over both hosts for the process that sends it, whose CPU time is that of the whole way: what other programs take
 * meanwhile is not in it.
 */
async function flood(cluster: Cluster, to: 'near' | 'far'): Promise<{ passed: number; worked: number }> {
  const address = await addressOf(cluster, to);
  const ping = `TIMEFORMAT='cpu %U %S'; { time ping -f -q -c ${ECHOES} ${address}; } 2>&1`;
  const said = await cluster.place('one').must(['bash', '-c', ping]);
  const received = Number(/(\d+) received/.exec(said)?.[1]);
  if (received < ECHOES * 0.99) throw new Error(`ping ${address}: ${said}`);
  const [, user, system] = /cpu ([\d.]+) ([\d.]+)/.exec(said) ?? [];
  return {
    passed: (Number(/time (\d+)ms/.exec(said)?.[1]) * 1000) / ECHOES,
    worked: ((Number(user) + Number(system)) * 1e6) / ECHOES,
  };
}

async function addressOf(cluster: Cluster, name: string): Promise<string> {
  const [link] = await cluster
    .place(name)
    .ipJson<{ addr_info: { local: string; family: string }[] }>('addr', 'show', 'dev', 'eth0');
  return link?.addr_info.find(({ family }) => family === 'inet')?.local ?? '';
}

/**
 * From the change in etcd to the rules of h1: a container of the crowd changes its application to and fro. nft tells of the
 * elements as they come: asked for one, it would read the tens of thousands of the whole table first, each time.
 */
async function labelTimes(cluster: Cluster): Promise<number[]> {
  const key = '/weft/networks/bench/endpoints/0000000000000007';
  const value = (await cluster.etcdctl('get', key, '--print-value-only')).trim();
  const monitor = cluster.spawn('monitor', 'h1', ['stdbuf', '-oL', 'nft', 'monitor', 'new', 'elements']);
  const seen = (): number => monitor.log().split('peers4 { 10.100.200.7 ').length;
  let puts = 0;
  const put = (): Promise<string> =>
    cluster.etcdctl('put', key, value.replace('"app":"7"', `"app":"${puts++ % 2 === 0 ? 8 : 7}"`));
  const times: number[] = [];
  try {
    const none = seen();
    await cluster.lab.until('nft listens', async () => (await put(), seen() > none), { everyMs: 100 });
    // What is under way yet is none of the first run's.
    await setTimeout(1000);
    for (let run = 0; run < RUNS; run++) {
      const before = seen();
      const from = monotonic();
      await put();
      await cluster.lab.until('the rules follow', () => seen() > before, { everyMs: 1 });
      times.push(monotonic() - from);
    }
  } finally {
    await monitor.stop();
  }
  return times;
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? NaN;
}

process.exitCode = await main();
