// Renews a certificate at a random time between 50 and 80 % of its life, and after failures until it succeeds.
import { setTimeout as delay } from 'node:timers/promises';

import type { CertificateInfo } from './certificate.js';

const EARLIEST = 0.5;
const LATEST = 0.8;
/** A timer of Node.js holds 24 days at most, and a machine that slept must look again. */
const LOOK_MS = 60_000;
/** Between attempts, as a share of the life, within limits. */
const RETRY_SHARE = 0.01;
const RETRY_MS = { least: 500, most: 600_000 };

export interface Renewal {
  info: () => CertificateInfo;
  /** @throws what made it fail; it is tried again */
  renew: () => Promise<void>;
  onFailure: (error: unknown) => void;
}

/** Settles when the signal aborts. */
export async function keepRenewed({ info, renew, onFailure }: Renewal, signal: AbortSignal): Promise<void> {
  const pause = async (ms: number): Promise<void> => {
    await delay(ms, undefined, { signal, ref: false }).catch(() => undefined);
  };
  const share = (): number => EARLIEST + Math.random() * (LATEST - EARLIEST);
  let at = share();
  while (!signal.aborted) {
    const { from, to } = info();
    const life = to.getTime() - from.getTime();
    const rest = from.getTime() + at * life - Date.now();
    if (rest > 0) {
      await pause(Math.min(rest, LOOK_MS));
      continue;
    }
    try {
      await renew();
      at = share();
    } catch (error) {
      onFailure(error);
      await pause(Math.min(Math.max(life * RETRY_SHARE, RETRY_MS.least), RETRY_MS.most));
    }
  }
}
