// What is measured of a large cluster, one after the other.
import { setTimeout as delay } from 'node:timers/promises';

import { monotonic } from '../../lab/meter-end.js';
import { until } from '../../lab/wait.js';
import { beyond, leaseArrives, nameArrives, percentile, secondsFrom, type Arrivals } from './arrivals.js';
import type { LayoutNetwork } from './layout.js';
import type { MeasuredCluster } from './measured-cluster.js';
import { Counts, type Container } from './messages.js';
import { cpuFor, cpuWhile, memory, type Used } from './used.js';

export interface Figure {
  what: string;
  unit: string;
  value: number;
  /** The most that is wanted with 1,000 nodes and 50,000 endpoints in 50 networks; absent: none is named. */
  most?: number;
}

interface How {
  /** Of each measurement of CPU. */
  seconds: number;
  /** Leases and names that are timed. */
  rounds: number;
}

/** After a change of everything: what it began in the background is over. */
const SETTLE_MS = 15_000;
/** After the growth of everything, until an agent rests: V8 collects and gives back what that needed. */
const REST_MS = 60_000;
/** Part of the containers that is replaced in a minute. */
const CHURN = 0.01;
const RECOVERED_WITHIN_MS = 120_000;
/** Containers that attach at once, and on how many nodes. */
const CROWD = 1000;
const CROWD_NODES = 100;

export async function measure(of: MeasuredCluster, { seconds, rounds }: How): Promise<Figure[]> {
  const figures: Figure[] = [];
  const add = (what: string, unit: string, value: number, most?: number): void => {
    figures.push({ what, unit, value, ...(most !== undefined && { most }) });
    console.log(`    ${what}: ${value.toFixed(3)} ${unit}`);
  };
  const addCpu = (when: string, used: Used, mostOfAgent?: number): void => {
    add(`CPU of the agent ${when}`, 'cores', used.agent, mostOfAgent);
    add(`CPU of a hollow agent ${when}`, 'cores', used.hollow);
    add(`CPU of a controller ${when}`, 'cores', used.controller);
    add(`CPU of an etcd server ${when}`, 'cores', used.etcd);
  };

  add('all nodes start → all have joined', 's', await secondsOf(() => of.startHollowNodes()));
  const containers = of.layout.containers();
  add('all containers attach, and are in etcd', 's', await secondsOf(() => of.attach(containers)));
  await delay(REST_MS);

  addCpu('at rest', await cpuFor(of, seconds), 0.002);
  const resident = memory(of);
  add('the agent, resident', 'MB', resident.agent, 80);
  add('a hollow agent, resident', 'MB', resident.hollow);
  add('a controller, resident', 'MB', resident.controller, 150);
  add('an etcd server, resident', 'MB', resident.etcd);

  addArrivals(add, 'lease → others', await inRounds(rounds, (n) => leaseArrives(of, networkOf(of, n))), 250);
  addArrivals(add, 'endpoint → its name', await inRounds(rounds, (n) => nameArrives(of, probe(of, n))));

  const { used, replaced, wrong } = await underChurn(of, seconds);
  add('containers replaced', '', replaced);
  addCpu('under churn', used);
  add('nodes that missed or repeated an event', '', wrong, 0);

  const crowd = crowdOf(of);
  const attached = await cpuWhile(of, () => secondsOf(() => of.attach(crowd, true)));
  add(`${crowd.length} containers attach at once, each by name`, 's', attached.result);
  add('CPU of an etcd server meanwhile', 'cores', attached.used.etcd);

  const restart = await cpuWhile(of, () =>
    secondsOf(async () => void (await of.askAll(() => ({ do: 'restart' })))),
  );
  add('all agents restart → all are back', 's', restart.result);
  addCpu('while all restart', restart.used);
  await delay(SETTLE_MS);

  add('etcd’s leader is lost → a lease reaches all others', 's', await withoutLeader(of));
  if (of.controllers.length > 1)
    add('a controller is lost → all agents have another', 's', await withoutController(of));
  return figures;
}

async function secondsOf(work: () => Promise<void>): Promise<number> {
  const began = performance.now();
  await work();
  return (performance.now() - began) / 1000;
}

function addArrivals(
  add: (what: string, unit: string, value: number, most?: number) => void,
  what: string,
  all: readonly Arrivals[],
  most?: number,
): void {
  const values = beyond(all);
  add(`${what}, half of them, beyond etcd`, 'ms', percentile(values, 0.5));
  add(`${what}, 99 % of them, beyond etcd`, 'ms', percentile(values, 0.99), most);
  add(`${what}, the last one, beyond etcd`, 'ms', percentile(values, 1));
}

async function inRounds<T>(rounds: number, one: (n: number) => Promise<T>): Promise<T[]> {
  const results: T[] = [];
  for (let n = 0; n < rounds; n++) results.push(await one(n));
  return results;
}

/** Each in turn. */
function networkOf({ layout }: MeasuredCluster, n: number): LayoutNetwork {
  const network = layout.networks[n % layout.networks.length];
  if (network === undefined) throw new Error('there is no network');
  return network;
}

/** A further container, on a node that is far from the last one's. */
function probe(of: MeasuredCluster, n: number): Container {
  const { name: network } = networkOf(of, n);
  const members = of.layout.membersOf(network);
  const node = members[(n * 7) % members.length];
  if (node === undefined) throw new Error(`network ${network} has no node`);
  return { node: node.name, network, name: `probe${n}` };
}

/** Further containers of a hundred nodes. */
function crowdOf({ layout }: MeasuredCluster): Container[] {
  const nodes = layout.nodes.slice(0, CROWD_NODES);
  return nodes.flatMap(({ name: node, networks }) =>
    Array.from({ length: CROWD / CROWD_NODES }, (_, n) => ({
      node,
      network: networks[n % networks.length] ?? '',
      name: `crowd-${node}-${n}`,
    })),
  );
}

/** Replaces containers, and has every node count what it hears of. */
async function underChurn(
  of: MeasuredCluster,
  seconds: number,
): Promise<{ used: Used; replaced: number; wrong: number }> {
  const count = { do: 'count' } as const;
  await Promise.all([of.askWatcher(count), of.askAll(() => count)]);
  await of.askAll(() => ({ do: 'churn', share: CHURN }));
  const used = await cpuFor(of, seconds);
  const ended = await of.askAll(() => ({ do: 'churn', share: 0 }));
  await delay(SETTLE_MS);
  const { counts: right = {} } = await of.askWatcher({ do: 'counts' });
  // Of a network in which nothing has happened the watcher says nothing.
  const none = new Counts();
  const expected = new Map(of.layout.networks.map(({ name }) => [name, none.textOf(name)]));
  for (const text of Object.keys(right)) expected.set(text.slice(0, text.indexOf(':')), text);
  const wanted = new Set(expected.values());
  let wrong = 0;
  for (const { counts = {} } of await of.askAll(() => ({ do: 'counts' })))
    for (const [text, nodes] of Object.entries(counts)) if (!wanted.has(text)) wrong += nodes;
  return { used, wrong, replaced: ended.reduce((sum, { replaced = 0 }) => sum + replaced, 0) };
}

/** Seconds from the end of the leader until a lease, written as soon as etcd takes it, is on all others. */
async function withoutLeader(of: MeasuredCluster): Promise<number> {
  const leader = await of.leader();
  const began = monotonic();
  await of.process(`etcd-${leader}`).kill();
  const arrived = await leaseArrives(of, networkOf(of, 0));
  of.startServer(leader);
  await until('the server is back', () => of.allServersServe(), {
    timeoutMs: RECOVERED_WITHIN_MS,
  });
  await delay(SETTLE_MS);
  return secondsFrom(began, arrived);
}

/** Seconds until the other controllers have the sessions of all agents. */
async function withoutController(of: MeasuredCluster): Promise<number> {
  const others = of.controllers.map((_, n) => n).slice(1);
  const agents = of.layout.nodes.length + 1;
  await of.process('controller-0').kill();
  return await secondsOf(() =>
    until(
      'all agents have another controller',
      async () => {
        const sessions = await Promise.all(others.map((n) => of.sessionsOf(n)));
        return sessions.reduce((sum, one) => sum + one, 0) >= agents;
      },
      { timeoutMs: RECOVERED_WITHIN_MS, everyMs: 50 },
    ).then(() => undefined),
  );
}
