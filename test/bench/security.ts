// What port security costs: an attach, and a flood ping between neighbours, with it and without.
//
// Two networks of one node, one with `--port-security off`, in turn: seven runs of each, of which the medians count.
import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';

import { messageOf } from '../../core/errors.js';
import { Cluster } from '../lab/cluster.js';
import { ipBatch } from '../lab/exec.js';
import { sweep } from '../lab/runs.js';

const RUNS = 7;
/** Attaches of one run, of which the median counts, and echoes. */
const ATTACHES = Number(process.env['WEFT_BENCH_ATTACHES'] ?? 20);
const ECHOES = Number(process.env['WEFT_BENCH_ECHOES'] ?? 20_000);
/** With it at most so much more than without. */
const WANTED_RATIO = 1.15;

const NETWORKS = ['with', 'without'] as const;
type Way = (typeof NETWORKS)[number];

async function main(): Promise<number> {
  sweep();
  const cluster = await Cluster.create(1);
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
  const { lab } = cluster;
  await cluster.startEtcd();
  for (const [i, way] of NETWORKS.entries()) {
    const config = {
      ...{ Network: `10.${100 + i}.0.0/16`, SubnetLen: 20, Backend: { Type: 'vxlan', VNI: 4100 + i } },
      Weft: { PortSecurity: way === 'with' },
    };
    await cluster.etcdctl('put', `/weft/networks/${way}/config`, JSON.stringify(config));
  }
  await cluster.startAgents(['h1'], ['--join', NETWORKS.join()]);
  const namespaces = NETWORKS.flatMap((way) =>
    Array.from({ length: ATTACHES * (RUNS + 1) }, (_, n) => `${lab.run}-${way}${n}`),
  );
  await ipBatch(namespaces.map((name) => `netns add ${name}`));
  const socket = join(lab.host(1).runDir, 'agent.sock');
  const callers = Object.fromEntries(
    NETWORKS.map((way) => [way, fork(new URL('caller.js', import.meta.url), [socket, way])]),
  ) as Record<Way, ChildProcess>;
  const attaches: Record<Way, number[]> = { with: [], without: [] };
  const echoes: Record<Way, number[]> = { with: [], without: [] };
  try {
    // The first run of each opens connections, and compiles code: it is not counted.
    for (let run = 0; run <= RUNS; run++) {
      for (const way of NETWORKS) {
        const times: number[] = [];
        for (let n = run * ATTACHES; n < (run + 1) * ATTACHES; n++)
          times.push(await attach(callers[way], `netns:/run/netns/${lab.run}-${way}${n}`));
        if (run > 0) attaches[way].push(median(times));
      }
    }
    for (let run = 0; run <= RUNS; run++)
      for (const way of NETWORKS) {
        const took = await flood(cluster, way);
        if (run > 0) echoes[way].push(took);
      }
  } finally {
    for (const caller of Object.values(callers)) caller.disconnect();
  }
  const areGood = [report('attach, ms', attaches), report('echo between neighbours, µs', echoes)];
  return areGood.every(Boolean) ? 0 : 1;
}

async function attach(caller: ChildProcess, target: string): Promise<number> {
  caller.send(target);
  const [answer] = (await once(caller, 'message')) as [number | string];
  if (typeof answer === 'string') throw new Error(`attach ${target}: ${answer}`);
  return answer;
}

/** Microseconds from one echo to the next: each is sent when the one before has been answered. */
async function flood({ lab }: Cluster, way: Way): Promise<number> {
  const [one, other] = [lab.existing(`${way}0`), lab.existing(`${way}1`)];
  const [link] = await other.ipJson<{ addr_info: { local: string; family: string }[] }>(
    ...['addr', 'show', 'dev', 'eth0'],
  );
  const address = link?.addr_info.find(({ family }) => family === 'inet')?.local ?? '';
  const said = await one.must(['ping', '-f', '-q', '-c', `${ECHOES}`, address]);
  const received = Number(/(\d+) received/.exec(said)?.[1]);
  if (received < ECHOES * 0.99) throw new Error(`ping ${address}: ${said}`);
  return (Number(/time (\d+)ms/.exec(said)?.[1]) * 1000) / ECHOES;
}

function report(what: string, times: Readonly<Record<Way, readonly number[]>>): boolean {
  const [secured, open] = [median(times.with), median(times.without)];
  const ratio = secured / open;
  console.log(
    `  ${what.padEnd(30)}with ${secured.toFixed(2).padStart(8)}   without ${open.toFixed(2).padStart(8)}   ratio ${ratio.toFixed(2)} (wanted: at most ${WANTED_RATIO})`,
  );
  return ratio <= WANTED_RATIO;
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? NaN;
}

process.exitCode = await main();
