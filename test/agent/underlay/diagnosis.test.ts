// What the answers say of a path: each cause, a lost packet, and the largest size that passes.
import test from 'ava';
import fc from 'fast-check';

import {
  diagnose,
  isInQuestion,
  narrow,
  questionsFor,
  sizesBetween,
  UNPROBED,
  type Answers,
  type Health,
} from '../../../agent/underlay/diagnosis.js';

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
