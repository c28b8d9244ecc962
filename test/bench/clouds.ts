// What the backends of clouds cost: the time until the cloud has a node's route, and the path by way of the VPC's router.
//
// The hosts are a cloud's by moto and by the tests' stand-in; the underlay's router forwards as their tables say. Beside each are
// plain routes by `ip` between the same two hosts by the same router. WEFT_BENCH_ROUNDS says how often (7). What a real cloud
// takes for a route, this cannot show.
import { messageOf } from '../../core/errors.js';
import { Aws } from '../lab/aws.js';
import { bare, Cluster, ETCD } from '../lab/cluster.js';
import { GceLab } from '../lab/gce-lab.js';
import type { StartCloud } from '../lab/prepare.js';
import { sweep } from '../lab/runs.js';
import { ping } from '../lab/traffic.js';
import { until } from '../lab/wait.js';
import { containerOn, measure, pathOf, type Path, type Sample } from './paths.js';
import { median } from './usage.js';

const ROUNDS = Number(process.env['WEFT_BENCH_ROUNDS'] ?? 7);
/** Of the throughput of plain routes by the same router. */
const LEAST = 0.95;
/** The most that a route may take, in milliseconds. */
const MOST_MS = 5000;
const HOSTS = ['h1', 'h2'] as const;
const ROUTER = 'outside';

const CLOUDS: readonly { backend: string; start: StartCloud }[] = [
  { backend: 'aws-vpc', start: (lab, hosts) => Aws.start(lab, hosts) },
  { backend: 'gce', start: (lab, hosts) => GceLab.start(lab, hosts) },
];

/** @returns whether it is as fast as it must be */
async function bench({ backend, start }: (typeof CLOUDS)[number]): Promise<boolean> {
  const cluster = await Cluster.create(HOSTS.length);
  try {
    const cloud = await start(cluster, HOSTS);
    await cluster.startEtcd();
    await cluster.startController(['--etcd', ETCD, ...cloud.flags]);
    await cluster.startAgents(HOSTS, cloud.flags);
    await cluster.json('h1', ...`network create sky --subnet 10.110.0.0/16 --backend ${backend}`.split(' '));
    await cluster.addContainers('a', 'b');
    const began = performance.now();
    // They take the subnets, too.
    const [, { ip }] = await Promise.all([
      cluster.attach('h1', 'sky', 'a'),
      cluster.attach('h2', 'sky', 'b'),
    ]);
    await until('the cloud has both routes', async () => (await cloud.shown()).length === HOSTS.length, {
      timeoutMs: 60_000,
      everyMs: 5,
    });
    const took = performance.now() - began;
    await cloud.forward();
    const own: Path = {
      name: `weft ${backend}`,
      from: cluster.place('a'),
      to: cluster.place('b'),
      ip: bare(ip),
    };
    const plain = await byHand(cluster);
    for (const { name, from, ip: there } of [own, plain])
      await until(`${name} is there`, async () => (await ping(from, there, { count: 1 })).received === 1);
    const [owns, plains]: [Sample[], Sample[]] = [[], []];
    // The first round is not counted: the kernel's caches are cold.
    for (let round = -1; round < ROUNDS; round++) {
      const [first, second] = [await measure(own), await measure(plain)];
      if (round < 0) continue;
      owns.push(first);
      plains.push(second);
    }
    const ratio = (field: keyof Sample): number =>
      median(owns.map((sample, i) => sample[field] / (plains[i]?.[field] ?? NaN)));
    console.log(
      `  ${backend}: both routes ${took.toFixed(0)} ms after the attach began (at most ${MOST_MS})`,
    );
    console.log(
      `  ${backend}, of plain routes by the same router: TCP ${ratio('megabits').toFixed(2)} (at least ${LEAST}), ` +
        `64-byte packets ${ratio('packets').toFixed(2)}, latency ${ratio('latencyMs').toFixed(2)}, CPU ${ratio('cpu').toFixed(2)}`,
    );
    return took <= MOST_MS && ratio('megabits') >= LEAST;
  } catch (error) {
    console.error(`bench: ${messageOf(error)}\n${cluster.lab.logs()}`);
    return false;
  } finally {
    await cluster.lab.down();
  }
}

/** Containers by hand, with routes of the hosts and of the router. */
async function byHand(cluster: Cluster): Promise<Path> {
  const ends = [];
  for (const [i, name] of HOSTS.entries()) {
    const host = cluster.lab.host(i + 1);
    ends.push(await containerOn(cluster, host, `10.99.${i}.1`, '1500'));
    await cluster.sh(name, `ip route add 10.99.${1 - i}.0/24 via 192.0.2.1`);
    await cluster.sh(ROUTER, `ip route add 10.99.${i}.0/24 via ${host.ip}`);
  }
  return pathOf('routes by ip', ends);
}

sweep();
let missed = 0;
for (const cloud of CLOUDS) if (!(await bench(cloud))) missed += 1;
process.exitCode = missed === 0 ? 0 : 1;
