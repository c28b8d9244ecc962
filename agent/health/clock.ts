// This host's clock beside the controller's.
import type { Problem } from './problems.js';

/** Certificates, logs and events of two hosts no longer agree beyond this. */
const MOST_MS = 60_000;

/**
 * @param here this host's clock, milliseconds since 1970
 * @param controller the controller's clock, as it was at some moment of the last `withinMs` milliseconds
 * @param address of the controller
 */
export function clockProblem(
  here: number,
  controller: number,
  withinMs: number,
  address: string,
): Problem | undefined {
  const ahead = here - withinMs - controller;
  const behind = controller - here;
  if (Math.max(ahead, behind) < MOST_MS) return undefined;
  const by = ahead > behind ? `${spanOf(ahead)} ahead of` : `${spanOf(behind)} behind`;
  return {
    what: 'the clock of this host',
    why: `it is ${by} that of the controller at ${address}`,
    fix: 'Set the one that is wrong, and see that both hosts take their time from a server (timedatectl, chronyc tracking): certificates, leases and events depend on it.',
  };
}

const spanOf = (ms: number): string => {
  const minutes = Math.round(ms / 60_000);
  return minutes < 120 ? `${minutes} min` : `${Math.round(minutes / 60)} h`;
};
