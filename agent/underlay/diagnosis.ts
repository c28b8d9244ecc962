// What the answers to probes say of a path: pure.
//
// A full-size packet is asked for; what is missed is asked for again, and then with a small packet and on the underlay, so
// that causes separate. A single lost packet is nothing.
import type { PathState } from './path.js';

/** Which packets a probe has. */
export type Question = 'full' | 'small' | 'larger' | 'underlay' | 'underlay-full';

/** Round-trip times in milliseconds; absent: missed, or not asked. */
export type Answers = Partial<Record<Question, number | undefined>>;

export interface Health {
  /** As the last complete probe showed it, of a node that is up. */
  state: Exclude<PathState, 'node-down'>;
  /** Full-size packets that were missed since the last answer. */
  misses: number;
  rttMs?: number | undefined;
  /** Bytes of the largest packet that passes, where larger ones do not. */
  mtu?: number | undefined;
  /** The sizes between which that is looked for: the lower one passes, the higher one does not. */
  search?: { low: number; high: number } | undefined;
  /** Whether packets of the size of full ones in the tunnel pass on the underlay. */
  underlayCarries?: boolean | undefined;
  /** When the first packet was missed. */
  missedAt?: number | undefined;
}

export const UNPROBED: Health = { state: 'unknown', misses: 0 };

/** Misses after which a packet of each kind is asked for. */
const ASK_ALL_AFTER = 2;
const ONLY_FULL: readonly Question[] = ['full'];
const ALL: readonly Question[] = ['full', 'small', 'underlay', 'underlay-full'];
/** Where the size that passes is known: it, and one byte more, which passes where it was found too small or has grown. */
const OF_SIZE: readonly Question[] = ['full', 'small', 'larger', 'underlay-full'];

/** Of a node that is down there is nothing to find out. */
export function questionsFor({ misses, mtu }: Health, isDown: boolean): readonly Question[] {
  if (misses < ASK_ALL_AFTER || isDown) return ONLY_FULL;
  return mtu === undefined ? ALL : OF_SIZE;
}

/** It was missed, and why is not known yet. */
export const isInQuestion = ({ misses }: Health): boolean => misses > 0 && misses <= ASK_ALL_AFTER;

/** @param sizes of the packets `small` and `full` */
export function diagnose(
  before: Health,
  asked: readonly Question[],
  answers: Answers,
  { now, small, full }: { now: number; small: number; full: number },
): Health {
  if (answers.full !== undefined) return { state: 'ok', misses: 0, rttMs: answers.full };
  const missed = { misses: before.misses + 1, missedAt: before.missedAt ?? now };
  // Until why is known it is what it was: a single packet may be lost.
  if (!asked.includes('small')) return { ...before, ...missed, rttMs: undefined };
  const underlayCarries = answers['underlay-full'] !== undefined;
  if (answers.small !== undefined) {
    const isKnown = before.mtu === small && answers.larger === undefined;
    return {
      ...{ ...missed, state: 'mtu', rttMs: answers.small, underlayCarries },
      ...(isKnown ? { mtu: small } : { search: before.search ?? { low: small, high: full } }),
    };
  }
  // The size that passed does not pass any more: all is looked for anew.
  if (before.mtu !== undefined) return { ...before, misses: ASK_ALL_AFTER, mtu: undefined };
  const isThere = answers.underlay !== undefined || underlayCarries;
  return { ...missed, state: isThere ? 'blocked' : 'underlay-unreachable', underlayCarries };
}

/** Sizes that divide what is left of the search evenly. */
export function sizesBetween({ low, high }: { low: number; high: number }, count: number): number[] {
  const between = high - low - 1;
  const many = Math.min(count, between);
  return Array.from({ length: many }, (_, i) => low + Math.ceil(((i + 1) * (between + 1)) / (many + 1)));
}

/** @param passed by size, whether a packet of it was answered */
export function narrow(health: Health, passed: ReadonlyMap<number, boolean>): Health {
  if (health.search === undefined) return health;
  let { low, high } = health.search;
  for (const [size, answered] of [...passed].toSorted(([a], [b]) => a - b)) {
    if (answered) low = Math.max(low, size);
    else if (size > low) high = Math.min(high, size);
  }
  return high - low > 1 ? { ...health, search: { low, high } } : { ...health, search: undefined, mtu: low };
}
