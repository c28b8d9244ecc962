// What a path between containers costs: each backend beside flannel's, plain routes by `ip`, and the underlay.
//
// TCP throughput, 64-byte datagrams a second, latency, and the machine's CPU for a gigabyte. Each contender has two hosts of
// its own, so that no one's firewall is in another's way, but the plain routes have weft's; they are measured in turn.
// WEFT_BENCH_FLANNELD names a flanneld, WEFT_BENCH_ROUNDS says how often (7), WEFT_BENCH_BACKENDS which (all). Only the ratios
// mean something, above all on a busy machine.
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';

import { messageOf } from '../../core/errors.js';
import { bare, Cluster, ETCD } from '../lab/cluster.js';
import { exec } from '../lab/exec.js';
import type { Host, Namespace } from '../lab/lab.js';
import { linkKinds, type LinkKind } from '../lab/link-kinds.js';
import { sweep } from '../lab/runs.js';
import { ping } from '../lab/traffic.js';
import { until } from '../lab/wait.js';
import { containerOn, measure, pathOf, type Path, type Sample } from './paths.js';
import { median } from './usage.js';

const ROUNDS = Number(process.env['WEFT_BENCH_ROUNDS'] ?? 7);
const FLANNELD = process.env['WEFT_BENCH_FLANNELD'];

/** A path, and what it must be. */
interface Row extends Path {
  /** The paths that it is held against, and the least ratios of their throughputs. */
  against?: readonly { name: string; least: number }[];
  /** The most that the latency may be, in milliseconds. */
  mostLatencyMs?: number;
}

const BY_HAND = 'routes by ip';

interface Backend {
  name: string;
  config: object;
  needs?: LinkKind;
  mostLatencyMs?: number;
}

const BACKENDS: readonly Backend[] = [
  { name: 'vxlan', config: { Type: 'vxlan', VNI: 4100 } },
  { name: 'vxlan, direct', config: { Type: 'vxlan', VNI: 4101, DirectRouting: true } },
  { name: 'host-gw', config: { Type: 'host-gw' } },
  { name: 'wireguard', config: { Type: 'wireguard' }, needs: 'wireguard' },
  { name: 'ipip', config: { Type: 'ipip' }, needs: 'ipip' },
  { name: 'udp', config: { Type: 'udp' }, mostLatencyMs: 0.35 },
];

async function main(): Promise<number> {
  sweep();
  const backends = await servedBackends();
  const kinds = FLANNELD === undefined ? 1 : 2;
  const cluster = await Cluster.create(2 + 2 * backends.length * kinds);
  try {
    const paths = await makePaths(cluster, backends);
    const samples = new Map(paths.map(({ name }) => [name, [] as Sample[]]));
    // The first round is not counted: the kernel's caches are cold.
    for (let round = -1; round < ROUNDS; round++)
      for (const path of paths) {
        const sample = await measure(path);
        if (round >= 0) samples.get(path.name)?.push(sample);
      }
    return report(paths, samples);
  } catch (error) {
    console.error(`bench: ${messageOf(error)}\n${cluster.lab.logs()}`);
    return 1;
  } finally {
    await cluster.lab.down();
  }
}

/** Those that the machine's kernel has. */
async function servedBackends(): Promise<Backend[]> {
  const kinds = await linkKinds((argv) => exec(['unshare', '--net', ...argv]));
  const wanted = process.env['WEFT_BENCH_BACKENDS']?.split(',');
  return BACKENDS.filter(({ name, needs }) => {
    if (wanted?.includes(name) === false) return false;
    const isServed = needs === undefined || kinds.includes(needs);
    if (!isServed) console.log(`  ${name} is not measured: the kernel has none`);
    return isServed;
  });
}

async function makePaths(cluster: Cluster, backends: readonly Backend[]): Promise<Row[]> {
  await cluster.startEtcd();
  const hosts = [...cluster.lab.hosts];
  const pair = (): [Host, Host] => {
    const [a, b] = hosts.splice(0, 2);
    if (a === undefined || b === undefined) throw new Error('too few hosts');
    return [a, b];
  };
  const [h1, h2] = pair();
  const paths: Row[] = [{ name: 'underlay', from: h1, to: h2, ip: h2.ip }];
  for (const [i, backend] of backends.entries()) {
    const config = JSON.stringify({
      Network: `10.${100 + i}.0.0/16`,
      SubnetLen: 24,
      Backend: backend.config,
    });
    const flannels =
      FLANNELD === undefined ? undefined : await ofFlannel(cluster, backend, config, pair(), FLANNELD);
    const own = pair();
    const isPlain = backend.name === 'host-gw';
    const against = [
      ...(isPlain ? [{ name: BY_HAND, least: 0.95 }] : []),
      ...(flannels === undefined ? [] : [{ name: flannels.name, least: 1 }]),
    ];
    const { mostLatencyMs } = backend;
    paths.push({
      ...(await ofWeft(cluster, backend, config, own)),
      against,
      ...(mostLatencyMs === undefined ? {} : { mostLatencyMs }),
    });
    if (isPlain) paths.push(await byHand(cluster, own));
    if (flannels !== undefined) paths.push(flannels);
  }
  for (const { name, from, ip } of paths)
    await until(`${name} is there`, async () => (await ping(from, ip, { count: 1 })).received === 1);
  return paths;
}

async function ofWeft(
  cluster: Cluster,
  { name }: Backend,
  config: string,
  [h1, h2]: [Host, Host],
): Promise<Path> {
  const network = `bench-${name.replaceAll(/\W+/g, '-')}`;
  await cluster.etcdctl('put', `/weft/networks/${network}/config`, config);
  await cluster.startAgents([h1.name, h2.name]);
  const ends = [`${network}-a`, `${network}-b`] as const;
  await cluster.addContainers(...ends);
  await cluster.attach(h1.name, network, ends[0]);
  const { ip } = await cluster.attach(h2.name, network, ends[1]);
  return { name: `weft ${name}`, from: cluster.place(ends[0]), to: cluster.place(ends[1]), ip: bare(ip) };
}

/** Bridges and containers by hand on the subnets of two flannelds. */
async function ofFlannel(
  cluster: Cluster,
  { name }: Backend,
  config: string,
  [h1, h2]: [Host, Host],
  program: string,
): Promise<Path> {
  const prefix = `/flannel/${name.replaceAll(/\W+/g, '-')}`;
  await cluster.etcdctl('put', `${prefix}/config`, config);
  const ends: { place: Namespace; ip: string }[] = [];
  for (const host of [h1, h2]) {
    mkdirSync(host.runDir, { recursive: true });
    const file = join(host.runDir, 'flannel.env');
    host.spawn('flanneld', [
      ...[program, `--etcd-endpoints=${ETCD}`, `--etcd-prefix=${prefix}`, '--iface=eth0', '--ip-masq'],
      `--subnet-file=${file}`,
    ]);
    const env = await cluster.until('flanneld has a subnet', async () => {
      const { code, stdout } = await host.exec(['cat', file]);
      return code === 0 && stdout;
    });
    const value = (field: string): string => new RegExp(`${field}=(.*)`).exec(env)?.[1] ?? '';
    const gateway = bare(value('FLANNEL_SUBNET'));
    ends.push(await containerOn(cluster, host, gateway, value('FLANNEL_MTU')));
  }
  return pathOf(`flannel ${name}`, ends);
}

/** Plain routes, bridges and containers as an administrator would make them, on the two hosts that weft has host-gw on. */
async function byHand(cluster: Cluster, [h1, h2]: [Host, Host]): Promise<Path> {
  const ends: { place: Namespace; ip: string }[] = [];
  for (const [i, [host, other]] of [[h1, h2] as const, [h2, h1] as const].entries()) {
    ends.push(await containerOn(cluster, host, `10.99.${i}.1`, '1500'));
    await host.must(['ip', 'route', 'add', `10.99.${1 - i}.0/24`, 'via', other.ip]);
  }
  return pathOf(BY_HAND, ends);
}

function report(paths: readonly Row[], samples: ReadonlyMap<string, readonly Sample[]>): number {
  const of = (name: string, field: keyof Sample): number =>
    median((samples.get(name) ?? []).map((sample) => sample[field]));
  const row = (...cells: string[]): void =>
    console.log(`  ${cells.map((cell, i) => (i === 0 ? cell.padEnd(24) : cell.padStart(17))).join('')}`);
  const base = 'underlay';
  row('', 'TCP Mbit/s', '64-byte kpps', 'latency ms', 'CPU s/GB');
  for (const { name } of paths) {
    const cell = (field: keyof Sample, scale: number, digits: number): string =>
      `${(of(name, field) / scale).toFixed(digits)} (${(of(name, field) / of(base, field)).toFixed(2)})`;
    row(name, cell('megabits', 1, 0), cell('packets', 1000, 0), cell('latencyMs', 1, 3), cell('cpu', 1, 2));
  }
  console.log(`  In brackets: the ratio to the underlay. Medians of ${ROUNDS}.`);
  let missed = 0;
  for (const { name, against = [] } of paths)
    for (const { name: other, least } of against) {
      // Of each round's pair, so that what else the machine does meanwhile is in both.
      const [own = [], others = []] = [samples.get(name), samples.get(other)];
      const ratio = median(own.map(({ megabits }, i) => megabits / (others[i]?.megabits ?? NaN)));
      console.log(`  ${name}: ${ratio.toFixed(2)} of the throughput of ${other} (wanted: at least ${least})`);
      if (ratio < least) missed += 1;
    }
  for (const { name, mostLatencyMs } of paths) {
    if (mostLatencyMs === undefined) continue;
    console.log(`  ${name}: ${of(name, 'latencyMs').toFixed(3)} ms (wanted: at most ${mostLatencyMs})`);
    if (of(name, 'latencyMs') > mostLatencyMs) missed += 1;
  }
  return missed === 0 ? 0 : 1;
}

process.exitCode = await main();
