// Waits until a daemon is ready, and says on standard error what it waits for.
import { setTimeout as delay } from 'node:timers/promises';

import { messageOf, unavailable } from '../../core/errors.js';
import { visible } from '../../core/text.js';
import { printNote } from '../output.js';
import { notSilently } from '../waiting.js';
import type { Systemd } from './systemd.js';
import type { Unit } from './units.js';

export const say = (text: string): void => printNote(visible(text));

const LOOK_MS = 200;
/** A reason that lasts as long is shown. */
const PATIENCE_MS = 2000;
const ASK_MS = 2000;

export interface Awaited {
  unit: Unit;
  /** HOST:PORT of /readyz. */
  http: string;
  systemd: Systemd;
  /** Milliseconds. */
  withinMs: number;
}

/** @throws WeftError UNAVAILABLE with the reason, as the daemon gave it */
export async function untilReady({ unit, http, systemd, withinMs }: Awaited): Promise<void> {
  const began = performance.now();
  say(`${unit} is started`);
  let told = '';
  let [reason, since] = ['', began];
  for (;;) {
    const answer = await askReady(http);
    const took = performance.now() - began;
    if (answer === 'ready') return say(`${unit} is ready after ${(took / 1000).toFixed(1)} s`);
    const failure = 'reason' in answer ? undefined : await systemd.failureOf(unit);
    const now = 'reason' in answer ? answer.reason : (failure?.why ?? (reason || answer.silence));
    if (now !== reason) [reason, since] = [now, performance.now()];
    if (took > withinMs || failure?.isFinal === true) break;
    if (reason !== told && performance.now() - since > PATIENCE_MS) {
      told = reason;
      say(`${unit}: ${reason}`);
    }
    await delay(LOOK_MS);
  }
  throw unavailable(
    `${unit} is not ready: ${reason}`,
    `See journalctl --unit ${unit}. Then repeat this command; weft leave undoes it.`,
  );
}

async function askReady(http: string): Promise<'ready' | { reason: string } | { silence: string }> {
  try {
    const answer = await fetch(`http://${http}/readyz`, { signal: AbortSignal.timeout(ASK_MS) });
    return answer.ok ? 'ready' : { reason: (await answer.text()).trim() };
  } catch (error) {
    const cause = error instanceof Error && error.cause !== undefined ? error.cause : error;
    return { silence: `http://${http}/readyz does not answer: ${messageOf(cause)}` };
  }
}

/** Repeats a call that cannot succeed yet. @param what is waited for @throws the last error, after the time */
export function eventually<T>(what: string, work: () => Promise<T>, withinMs: number): Promise<T> {
  const until = performance.now() + withinMs;
  return notSilently(what, async () => {
    for (;;) {
      try {
        return await work();
      } catch (error) {
        if (performance.now() > until) throw error;
        await delay(LOOK_MS);
      }
    }
  });
}
