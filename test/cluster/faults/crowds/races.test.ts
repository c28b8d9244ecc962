// Agents race for subnets, claims and VNIs while they are killed.
//
// The agents die at random moments; nothing is ever owned twice. The store alone, and every moment of its transactions, is
// raced in test/store/races.test.ts.
//
// WEFT_RACES_SEED: the seed that a run has logged, to repeat it.
import { setTimeout as delay } from 'node:timers/promises';

import fc from 'fast-check';

import { bare, type Cluster } from '../../../lab/cluster.js';
import { keysBelow, statusOf } from '../observe.js';
import { raise, suite, type Fault } from '../suite.js';

const HOSTS = ['h1', 'h2', 'h3', 'h4'];
const SUBNETS = [1, 2, 3, 4, 5];

const fault = suite({
  lane: 'races',
  build: () => raise(HOSTS.length, { agents: HOSTS, containers: HOSTS.map((host) => `x${host}`) }),
});

interface Move {
  /** Requested: few, so that they collide. */
  subnet: number;
  address: number;
  /** Milliseconds after which the host's agent is killed; absent: never. */
  killedAfter?: number | undefined;
}

const move: fc.Arbitrary<Move> = fc.record({
  subnet: fc.constantFrom(...SUBNETS),
  address: fc.integer({ min: 50, max: 52 }),
  killedAfter: fc.option(fc.integer({ min: 0, max: 400 }), { nil: undefined, freq: 3 }),
});
const round = fc.tuple(...HOSTS.map(() => move));

/** The address that a container really has, or undefined. */
async function addressIn(cluster: Cluster, container: string): Promise<string | undefined> {
  const text = await cluster.sh(container, 'ip -o -4 addr show dev eth0 2>/dev/null || true');
  return /inet (\S+)/.exec(text)?.[1];
}

const distinct = (values: readonly unknown[]): boolean => new Set(values).size === values.length;

/** Attaches on every host at once while some of the agents are killed; all are back when this returns. */
async function race(f: Fault, network: string, moves: readonly Move[]): Promise<void> {
  const { cluster } = f;
  await Promise.all(
    HOSTS.map(async (host, i) => {
      const { subnet, address, killedAfter } = moves[i] ?? { subnet: 1, address: 50 };
      const requested = ['--ip', `10.120.${subnet}.${address}`];
      const attaching = cluster.weft(host, 'attach', network, cluster.ns(`x${host}`), ...requested);
      if (killedAfter !== undefined) {
        await delay(killedAfter);
        await cluster.process(`agent-${host}`).kill();
      }
      const { code } = await attaching;
      f.t.true([0, 1].includes(code), 'it is attached or refused');
      if (killedAfter !== undefined) await cluster.startAgents([host]);
    }),
  );
}

/** Nothing is owned twice, in containers or in etcd, and the two agree. */
async function nothingTwice(f: Fault, network: string): Promise<void> {
  const { cluster } = f;
  const below = `/weft/networks/${network}`;
  await cluster.until('etcd agrees with the containers', async () => {
    const states = await Promise.all(HOSTS.map((host) => statusOf(cluster, host)));
    if (states.some(({ store }) => store.pending > 0)) return false;
    const has = await Promise.all(HOSTS.map((host) => addressIn(cluster, `x${host}`)));
    const endpoints = (await cluster.etcdctl('get', '--prefix', '--print-value-only', `${below}/endpoints/`))
      .split('\n')
      .filter(Boolean)
      .map((line) => (JSON.parse(line) as { ip: string }).ip);
    // At every moment, not only in the end.
    const own = has.flatMap((ip) => ip ?? []);
    f.t.true(distinct(own.map(bare)), 'no address is in two containers');
    f.t.true(distinct(endpoints.map(bare)), 'no address is of two endpoints');
    const same = own.length === endpoints.length && own.every((ip) => endpoints.includes(ip));
    if (!same) throw new Error(`the containers have ${own.join()}, etcd says ${endpoints.join()}`);
    return true;
  });
  f.checked.push('no address is owned twice, in containers and in etcd');
  const owners = (await cluster.etcdctl('get', '--prefix', '--print-value-only', `${below}/subnets/`))
    .split('\n')
    .filter(Boolean)
    .map((line) => (JSON.parse(line) as { PublicIP: string }).PublicIP);
  f.check(distinct(owners) && owners.length <= HOSTS.length, 'no subnet is owned twice, and no node has two');
}

fault('agents race for subnets, addresses and VNIs, and are killed at random', async (f) => {
  const { cluster } = f;
  const seed = Number(process.env['WEFT_RACES_SEED'] ?? Math.floor(Math.random() * 2 ** 31));
  f.t.log(`WEFT_RACES_SEED=${seed}`);
  const rounds = fc.sample(round, { seed, numRuns: f.pick(3, 25) });
  f.begins();
  for (const [n, moves] of rounds.entries()) {
    const names = HOSTS.map((host) => `race${n}${host}`);
    // From every host at once; the shared network is written by hand, to have few subnets.
    await Promise.all(
      names.map((name, i) =>
        cluster.json(HOSTS[i] ?? '', 'network', 'create', name, '--subnet', `10.${130 + i}.0.0/16`),
      ),
    );
    const made = await cluster.json<{ name: string; vni: number | null }[]>('h1', 'network', 'ls');
    const vnis = made.flatMap(({ vni }) => vni ?? []);
    f.check(
      distinct(vnis) && names.every((name) => made.some((one) => one.name === name)),
      'no VNI is owned twice',
    );
    const shared = `shared${n}`;
    const config = {
      ...{ Network: '10.120.0.0/16', SubnetMin: '10.120.1.0', SubnetMax: `10.120.${SUBNETS.length}.0` },
      Backend: { Type: 'vxlan', VNI: 5000 + n },
    };
    await cluster.etcdctl('put', `/weft/networks/${shared}/config`, JSON.stringify(config));
    await race(f, shared, moves);
    await nothingTwice(f, shared);
    await Promise.all(HOSTS.map((host) => cluster.weft(host, 'detach', shared, cluster.ns(`x${host}`))));
    await cluster.json('h1', 'network', 'rm', shared, '--force');
    for (const name of names) await cluster.json('h1', 'network', 'rm', name);
    await cluster.until('nothing is left', async () => {
      const keys = await keysBelow(cluster, '/weft/networks/');
      return keys.every((key) => key.startsWith('/weft/networks/blue/'));
    });
  }
  await f.lossless();
});
