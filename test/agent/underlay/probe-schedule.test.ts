// The schedule of probes: its limits hold whatever is asked of it, and nothing waits for ever.
import test from 'ava';
import fc from 'fast-check';

import { PACKETS, ProbeSchedule, type Waiting } from '../../../agent/underlay/probe-schedule.js';

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
