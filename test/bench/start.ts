// Starts of agents: weft beside flanneld (WEFT_BENCH_FLANNELD names one), in one run on the same hosts.
//
// First alone in an empty cluster, then all hosts but one at once, then the last one, several times. WEFT_BENCH_HOSTS says how
// many hosts (50). Every figure is compared with the peer's of the same run: on another machine both differ alike.
import { readFileSync, writeFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';

import { messageOf } from '../../core/errors.js';
import { Cluster } from '../lab/cluster.js';
import { WEFT, type Host } from '../lab/lab.js';
import type { LabProcess } from '../lab/process.js';
import { sweep } from '../lab/runs.js';
import {
  createNetwork,
  flanneld,
  forget,
  routesOf,
  start,
  subnetOf,
  WEFT_AGENT,
  type Contender,
} from './contenders.js';
import { largeNetwork, overTls, PEERS, type Large } from './start-ways.js';
import { cpuOf, cpuOfCommands, median, residentOf, secondsUntil } from './usage.js';

const HOSTS = Number(process.env['WEFT_BENCH_HOSTS'] ?? 50);
const ROUNDS = Number(process.env['WEFT_BENCH_STARTS'] ?? 5);
const IDLE_S = 30;
/** After a start: what it began in the background is over. */
const SETTLE_MS = 2000;

interface Figures {
  empty: number;
  cpu: number;
  mesh: number;
  lastLease: number;
  exits: number;
  subnet: number;
  programmed: number;
  resident: number;
  etcd: number;
}

async function measure(cluster: Cluster, of: Contender): Promise<Figures> {
  const [last, ...others] = cluster.lab.hosts.toReversed() as [Host, ...Host[]];
  await createNetwork(cluster, of);
  const alone = await rounds(async () => {
    const started = start(last, of);
    const empty = await secondsUntil('its subnet', () => subnetOf(last, of) !== undefined);
    await delay(SETTLE_MS);
    const cpu = cpuOf(started.pid);
    await forget(cluster, last, started, of);
    return { empty, cpu };
  });
  const crowd = await startAtOnce(others, of);
  await delay(4 * SETTLE_MS);
  const etcd = cluster.process('etcd').pid;
  const before = cpuOf(etcd);
  await delay(IDLE_S * 1000);
  const etcdCpu = cpuOf(etcd) - before;
  const resident = median(crowd.running.map(({ pid }) => residentOf(pid)));
  const joining = await rounds(async () => {
    const began = performance.now();
    const started = start(last, of);
    const subnet = await secondsUntil('its subnet', () => subnetOf(last, of) !== undefined);
    const base = subnetOf(last, of) ?? '';
    const waiting = new Set(crowd.running);
    await secondsUntil('all others programmed', () => {
      for (const one of waiting) if (routesOf(one).has(base)) waiting.delete(one);
      return waiting.size === 0;
    });
    const programmed = (performance.now() - began) / 1000 - subnet;
    await delay(SETTLE_MS);
    await forget(cluster, last, started, of);
    return { subnet, programmed };
  });
  await Promise.all(others.map((host, i) => forget(cluster, host, crowd.running[i] as LabProcess, of)));
  return {
    empty: median(alone.map(({ empty }) => empty)),
    cpu: median(alone.map(({ cpu }) => cpu)),
    ...{ mesh: crowd.mesh, lastLease: crowd.lastLease, exits: crowd.exits, resident, etcd: etcdCpu },
    subnet: median(joining.map(({ subnet }) => subnet)),
    programmed: median(joining.map(({ programmed }) => programmed)),
  };
}

async function rounds<T>(one: () => Promise<T>): Promise<T[]> {
  const results: T[] = [];
  for (let i = 0; i < ROUNDS; i++) results.push(await one());
  return results;
}

/** All hosts at once; one that exits is started again, as its unit would. */
async function startAtOnce(
  hosts: readonly Host[],
  of: Contender,
): Promise<{ running: LabProcess[]; mesh: number; lastLease: number; exits: number }> {
  let exits = 0;
  const running = hosts.map((host) => start(host, of));
  const lastLease = await secondsUntil('a subnet each', () => {
    for (const [i, host] of hosts.entries()) {
      if (running[i]?.isRunning === true) continue;
      exits++;
      running[i] = start(host, of);
    }
    return hosts.every((host) => subnetOf(host, of) !== undefined);
  });
  const subnets = hosts.map((host) => subnetOf(host, of) ?? '');
  const incomplete = new Set(running.keys());
  const more = await secondsUntil('the full mesh', () => {
    for (const i of incomplete) {
      const routes = routesOf(running[i] as LabProcess);
      if (subnets.every((subnet, j) => i === j || routes.has(subnet))) incomplete.delete(i);
    }
    return incomplete.size === 0;
  });
  return { running, mesh: lastLease + more, lastLease, exits };
}

interface Row {
  what: string;
  unit: string;
  peer: number | undefined;
  weft: number;
  /** The most that is wanted; undefined: there is no peer to compare with. */
  most: number | undefined;
}

/** @param secure seconds of a start over TLS */
function rowsOf(
  weft: Figures,
  peer: Figures | undefined,
  commands: readonly number[],
  secure: number,
  large: Large,
): Row[] {
  const [node = NaN, version = NaN, help = NaN] = commands;
  const times = (factor: number, of: number | undefined): number | undefined =>
    of === undefined ? undefined : factor * of;
  const row = (what: string, unit: string, key: keyof Figures, most: number | undefined): Row => ({
    ...{ what, unit, peer: peer?.[key], weft: weft[key], most },
  });
  const others = HOSTS - 1;
  return [
    row('start → subnet, beside the others', 's', 'subnet', times(1.05, peer?.subnet)),
    row('start → subnet, in an empty cluster', 's', 'empty', times(2, peer?.empty)),
    {
      what: '  over TLS, beside plain text',
      unit: 's',
      peer: undefined,
      weft: secure,
      most: 1.2 * weft.empty,
    },
    row(`subnet → all ${others} others programmed`, 's', 'programmed', peer && peer.programmed + 0.3),
    row('CPU of a start', 's', 'cpu', 0.2),
    row(`${others} at once → full mesh`, 's', 'mesh', times(1.5, peer?.mesh)),
    {
      what: '  after the last subnet',
      unit: 's',
      peer: undefined,
      weft: weft.mesh - weft.lastLease,
      most: 1,
    },
    row('  exits', '', 'exits', 0),
    row(`resident at ${others} nodes`, 'MB', 'resident', 72),
    row(`CPU of etcd by ${others} idle ones in ${IDLE_S} s`, 's', 'etcd', 0.4),
    {
      what: 'CPU of weft --version / empty node',
      unit: '',
      peer: undefined,
      weft: version / node,
      most: 1.5,
    },
    { what: 'CPU of weft agent --help / empty node', unit: '', peer: undefined, weft: help / node, most: 3 },
    {
      what: `${PEERS} peers, less an empty start (by ip)`,
      unit: 's',
      peer: large.ip,
      weft: large.weft - weft.empty,
      most: 1.2 * large.ip,
    },
    { what: '  resident', unit: 'MB', peer: undefined, weft: large.resident, most: 110 },
  ];
}

function print(rows: readonly Row[]): boolean {
  const cell = (value: number | undefined, unit: string): string =>
    (value === undefined ? '–' : `${value.toFixed(2)} ${unit}`.trim()).padStart(11);
  console.log(
    `  ${''.padEnd(40)}${['flanneld', 'weft', 'at most'].map((text) => text.padStart(11)).join('')}`,
  );
  let reached = true;
  for (const { what, unit, peer, weft, most } of rows) {
    const missed = most !== undefined && !(weft <= most);
    if (missed) reached = false;
    const cells = [peer, weft, most].map((value) => cell(value, unit)).join('');
    console.log(`  ${what.padEnd(40)}${cells}${missed ? '  not reached' : ''}`);
  }
  return reached;
}

/** One neighbour table serves all namespaces of a kernel, and its limit is for one host. @returns what puts it back */
function roomForNeighbours(): () => void {
  const file = (n: number): string => `/proc/sys/net/ipv4/neigh/default/gc_thresh${n}`;
  const before = [1, 2, 3].map((n) => readFileSync(file(n), 'utf8'));
  for (const n of [3, 2, 1]) writeFileSync(file(n), String(n * 30_000));
  return () => before.forEach((value, i) => writeFileSync(file(i + 1), value));
}

async function main(): Promise<number> {
  sweep();
  const program = process.env['WEFT_BENCH_FLANNELD'];
  console.log(
    `Starts on ${HOSTS} hosts${program === undefined ? '; WEFT_BENCH_FLANNELD names no flanneld' : ''} …`,
  );
  const commands = cpuOfCommands(
    [
      ['-e', ''],
      [WEFT, '--version'],
      [WEFT, 'agent', '--help'],
    ].map((args) => [process.execPath, ...args]),
    20,
  );
  const putBack = roomForNeighbours();
  const cluster = await Cluster.create(HOSTS);
  try {
    await cluster.startEtcd();
    const peer = program === undefined ? undefined : await measure(cluster, flanneld(program));
    const weft = await measure(cluster, WEFT_AGENT);
    const secure = await overTls(cluster, ROUNDS);
    const large = await largeNetwork(cluster);
    return print(rowsOf(weft, peer, commands, secure, large)) ? 0 : 1;
  } catch (error) {
    console.error(`bench: ${messageOf(error)}\n${cluster.lab.logs(5)}`);
    return 1;
  } finally {
    await cluster.lab.down();
    putBack();
  }
}

process.exitCode = await main();
