// Probing of paths: its limits, its schedule, and what is made of the answers.
import { mock } from 'node:test';

import test from 'ava';
import fc from 'fast-check';

import type { Echo } from '../../../agent/kernel/index.js';
import {
  type Answers,
  diagnose,
  type Health,
  isInQuestion,
  narrow,
  questionsFor,
  sizesBetween,
  UNPROBED,
} from '../../../agent/underlay/diagnosis.js';
import { PathProber } from '../../../agent/underlay/path-prober.js';
import type { Path } from '../../../agent/underlay/path.js';
import { PACKETS, ProbeSchedule, type Waiting } from '../../../agent/underlay/probe-schedule.js';
import { IpAddress } from '../../../core/address.js';

// The limits of probing hold when a link returns again and again, beside 1,023 other nodes on it; and a node that is well rests
// without being late.

const MOST = 1024;

const pathTo = (n: number): Path => {
  const [publicIp, address] = [`192.0.${2 + (n >> 8)}.${n & 0xff}`, `10.${100 + (n >> 8)}.${n & 0xff}.0`];
  return {
    ...{ key: `blue ${n}`, network: 'blue', family: 4, node: `n${n}`, publicIp, length: 24 },
    probe: {
      ...{ family: 4, size: 1450, outerSize: 1500, advice: '' },
      address: IpAddress.parse(address),
      underlay: IpAddress.parse(publicIp),
    },
    tunnelPorts: [8472],
    neighbour: publicIp,
  };
};

test('whatever a link does, 16 packets go in a second, to less than a quarter of gc_thresh3 neighbours in a minute', async (t) => {
  const sent: { second: number; ip: string }[] = [];
  let now = 0;
  const prober = new PathProber({
    kernel: {
      ping: (echoes: readonly Echo[]) => {
        sent.push(...echoes.map(({ ip }) => ({ second: Math.floor(now / 1000), ip })));
        return Promise.resolve(echoes.map(() => 0.1));
      },
      heardTags: () => [],
      neighbourTables: () => [{ family: 4, most: MOST, entries: 0 }],
    },
    ...{ node: 'n0', now: () => now, packetsToInspect: () => 0 },
    paths: () => paths,
    isDown: () => false,
    onBroken: () => undefined,
    onAnswer: () => undefined,
    onNews: () => undefined,
  });
  const paths = Array.from({ length: MOST - 1 }, (_, n) => pathTo(n + 1));
  prober.start();
  t.teardown(() => prober.stop());
  for (; now < 180_000; now += 250) {
    prober.greet();
    await Promise.resolve();
  }
  const within = (from: number, seconds: number): string[] =>
    sent.filter(({ second }) => second >= from && second < from + seconds).map(({ ip }) => ip);
  for (let second = 0; second < 180; second++) {
    t.true(within(second, 1).length <= 16);
    t.true(new Set(within(second, 60)).size < MOST / 4);
  }
  // And no more slowly than that.
  t.true(new Set(within(0, 180)).size > 2 * (MOST / 4));
});

test.serial(
  'paths that are well share every second turn; a broken one and a new one are asked in time',
  async (t) => {
    mock.timers.enable({ apis: ['setTimeout'] });
    const TURN_MS = 1002;
    let now = 0;
    let asked: string[] = [];
    let paths = [1, 2, 3, 4].map(pathTo);
    const broken = new Set<string>();
    const addressOf = ({ probe }: Path): string => ('address' in probe ? probe.address.toString() : '');
    const prober = new PathProber({
      kernel: {
        ping: (echoes: readonly Echo[]) => {
          asked.push(...echoes.map(({ ip }) => ip));
          return Promise.resolve(echoes.map(({ ip }) => (broken.has(ip) ? undefined : 0.1)));
        },
        heardTags: () => [],
        neighbourTables: () => [{ family: 4, most: MOST, entries: 0 }],
      },
      ...{ node: 'n0', now: () => now, packetsToInspect: () => 0 },
      paths: () => paths,
      isDown: () => false,
      onBroken: () => undefined,
      onAnswer: () => undefined,
      onNews: () => undefined,
    });
    /** @returns which addresses are asked for in the next turn */
    const turn = async (): Promise<string[]> => {
      asked = [];
      now += TURN_MS;
      mock.timers.tick(TURN_MS);
      await new Promise(setImmediate);
      return asked.toSorted();
    };
    try {
      prober.start();
      const all = paths.map(addressOf);
      while ((await turn()).join(' ') !== all.join(' '));
      for (let i = 0; i < 10; i++) {
        t.deepEqual(await turn(), []);
        t.deepEqual(await turn(), all);
      }
      const [first] = paths;
      broken.add(addressOf(first as Path));
      const at = now;
      while (prober.healthOf(first as Path).state === 'ok') await turn();
      t.true(now - at <= 4 * TURN_MS);
      broken.clear();
      while ((await turn()).join(' ') !== all.join(' '));
      paths = [...paths, pathTo(5)];
      t.deepEqual(await turn(), ['10.100.5.0']);
    } finally {
      await prober.stop();
      mock.timers.reset();
    }
  },
);

// The schedule of probes: its limits hold whatever is asked of it, and nothing waits for ever.

const path = (i: number, fields: Partial<Waiting> = {}): Waiting => ({
  ...{ key: `p${i}`, neighbour: `n${i}`, packets: 1, isInQuestion: false, restMs: 0 },
  ...fields,
});
const paths = (count: number, fields: Partial<Waiting> = {}): Waiting[] =>
  Array.from({ length: count }, (_, i) => path(i, fields));
const anywhere = { most: 255, mayAsk: () => true };

/** One turn a second. @returns the keys of each turn */
function turns(
  seconds: number,
  all: readonly Waiting[],
  limits: Parameters<ProbeSchedule['pick']>[3] = anywhere,
): string[][] {
  const schedule = new ProbeSchedule();
  return Array.from({ length: seconds }, (_, i) =>
    schedule.pick(i * 1000, all, PACKETS, limits).map(({ key }) => key),
  );
}

test('law: at most so many packets a turn, and so many neighbours within a minute', (t) => {
  const waiting = fc.record({
    key: fc.nat(400).map((n) => `p${n}`),
    neighbour: fc.nat(300).map((n) => `n${n}`),
    packets: fc.constantFrom(1, 4),
    isInQuestion: fc.boolean(),
    restMs: fc.constantFrom(0, 1500),
  });
  fc.assert(
    fc.property(
      fc.array(fc.uniqueArray(waiting, { selector: ({ key }) => key, maxLength: 80 }), { maxLength: 90 }),
      fc.integer({ min: 1, max: 60 }),
      (turns, most) => {
        const schedule = new ProbeSchedule();
        const asked: [number, string][] = [];
        for (const [i, all] of turns.entries()) {
          const chosen = schedule.pick(i * 1000, all, PACKETS, { most, mayAsk: () => true });
          t.true(chosen.reduce((sum, { packets }) => sum + packets, 0) <= PACKETS);
          asked.push(...chosen.map(({ neighbour }) => [i, neighbour] as [number, string]));
          const lately = new Set(asked.flatMap(([at, neighbour]) => (at > i - 60 ? [neighbour] : [])));
          t.true(lately.size <= most);
        }
      },
    ),
  );
});

test('behind one router each of 500 paths is asked once in every 500/16 turns', (t) => {
  const all = turns(32, paths(500, { neighbour: 'router' }));
  t.is(new Set(all.flat()).size, 500);
  t.true(all.every((keys) => keys.length <= PACKETS));
});

test('on a link with more nodes than the kernel remembers, all have their turn, and the limit holds', (t) => {
  const all = turns(300, paths(1024));
  t.is(new Set(all.flat()).size, 1024);
  for (let i = 0; i + 60 <= all.length; i++) t.true(new Set(all.slice(i, i + 60).flat()).size <= 255);
});

test('new neighbours come evenly, not all in the first second', (t) => {
  const [first = [], ...rest] = turns(13, paths(49));
  t.true(first.length <= 5);
  t.is(new Set([...first, ...rest.flat()]).size, 49);
});

test('where the kernel has no room only those are asked that it knows', (t) => {
  const all = turns(10, [path(0), path(1)], { most: 255, mayAsk: (neighbour) => neighbour === 'n1' });
  t.true(all.every((keys) => keys.join() === 'p1'));
});

test('paths in question come first, and leave some packets to the others', (t) => {
  const schedule = new ProbeSchedule();
  const calm = paths(40, { neighbour: 'router' });
  const inQuestion = Array.from({ length: 40 }, (_, i) =>
    path(100 + i, { neighbour: 'router', packets: 4, isInQuestion: true }),
  );
  const chosen = schedule.pick(0, [...calm, ...inQuestion], PACKETS, anywhere);
  t.is(chosen.filter(({ isInQuestion }) => isInQuestion).length, 3);
  t.is(chosen.filter(({ isInQuestion }) => !isInQuestion).length, 4);
});

test('a path that rests is asked in every second turn, and others meanwhile', (t) => {
  const all = turns(6, [path(0, { neighbour: 'n', restMs: 1500 }), path(1, { neighbour: 'n' })]);
  t.deepEqual(
    all.map((keys) => keys.includes('p0')),
    [true, false, true, false, true, false],
  );
  t.true(all.every((keys) => keys.includes('p1')));
});

// What the answers say of a path: each cause, a lost packet, and the largest size that passes.

const OK: Health = { state: 'ok', misses: 0, rttMs: 1 };

/** Probes the path as long as it is in question. @returns what is known then, and after how many probes */
function probed(answers: Answers, before: Health = OK): { health: Health; probes: number } {
  let health = before;
  let probes = 0;
  do {
    const asked = questionsFor(health, false);
    const heard = Object.fromEntries(Object.entries(answers).filter(([key]) => asked.includes(key as never)));
    health = diagnose(health, asked, heard, { now: 5, small: health.mtu ?? 76, full: 1450 });
    probes++;
  } while (isInQuestion(health) && probes < 9);
  return { health, probes };
}

for (const { answers, state } of [
  { answers: { full: 0.4, small: 0.4, underlay: 0.3, 'underlay-full': 0.3 }, state: 'ok' },
  { answers: { small: 0.4, underlay: 0.3 }, state: 'mtu' },
  { answers: { small: 0.4, underlay: 0.3, 'underlay-full': 0.3 }, state: 'mtu' },
  { answers: { underlay: 0.3, 'underlay-full': 0.3 }, state: 'blocked' },
  { answers: { 'underlay-full': 0.3 }, state: 'blocked' },
  { answers: {}, state: 'underlay-unreachable' },
] as const)
  test(`${state}: ${Object.keys(answers).join(', ') || 'nothing'} is answered`, (t) => {
    const { health, probes } = probed(answers);
    t.is(health.state, state);
    t.is(probes, state === 'ok' ? 1 : 3);
    t.is(probed({ full: 1 }, health).health.state, 'ok', 'it heals with one answer');
  });

test('a single lost packet is nothing, and it is asked again with a small packet only after two', (t) => {
  const once = diagnose(OK, ['full'], {}, { now: 5, small: 76, full: 1450 });
  t.like(once, { state: 'ok', misses: 1, missedAt: 5 });
  t.deepEqual(questionsFor(once, false), ['full']);
  t.deepEqual(diagnose(once, ['full'], { full: 0.7 }, { now: 6, small: 76, full: 1450 }), {
    ...{ state: 'ok', misses: 0 },
    rttMs: 0.7,
  });
});

test('of a node that is down nothing is asked but whether it answers', (t) => {
  t.deepEqual(questionsFor({ ...UNPROBED, misses: 7 }, true), ['full']);
});

test('law: the search finds the largest size that passes, in few rounds of few packets', (t) => {
  fc.assert(
    fc.property(fc.integer({ min: 76, max: 1449 }), fc.integer({ min: 1, max: 16 }), (passes, count) => {
      let { health } = probed({ small: 1 });
      let rounds = 0;
      while (health.search !== undefined) {
        const sizes = sizesBetween(health.search, count);
        t.true(sizes.length > 0 && sizes.length <= count);
        health = narrow(health, new Map(sizes.map((size) => [size, size <= passes])));
        rounds++;
      }
      t.is(health.mtu, passes);
      t.true(rounds <= Math.ceil(Math.log(1400) / Math.log(count + 1)) + 2);
    }),
  );
});

test('a size that passed and does not pass any more is looked for anew, and is no other state meanwhile', (t) => {
  const before: Health = { state: 'mtu', misses: 3, mtu: 1350 };
  t.true(probed({ small: 1 }, before).health.search === undefined, 'it still passes');
  const anew = diagnose(before, questionsFor(before, false), {}, { now: 9, small: 1350, full: 1450 });
  t.like(anew, { state: 'mtu', mtu: undefined });
  t.true(isInQuestion(anew));
});

test('a size that was found too small is looked for anew, from the one that passes', (t) => {
  const before: Health = { state: 'mtu', misses: 3, mtu: 900 };
  const sizes = { now: 9, small: 900, full: 1450 };
  t.deepEqual(questionsFor(before, false), ['full', 'small', 'larger', 'underlay-full']);
  t.like(diagnose(before, questionsFor(before, false), { small: 1 }, sizes), { mtu: 900, search: undefined });
  const anew = diagnose(before, questionsFor(before, false), { small: 1, larger: 1 }, sizes);
  t.like(anew, { state: 'mtu', mtu: undefined, search: { low: 900, high: 1450 } });
});
