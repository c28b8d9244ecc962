// What a pump has done, in a file that the agent reads.
import { readFileSync, renameSync, writeFileSync } from 'node:fs';

/** Why a packet was dropped. */
export const DROP_REASONS = [
  /** It came from an address that is no peer's, or its source is in no prefix of the peer's. */
  'foreign',
  /** No peer has its destination. */
  'unreachable',
  /** It is no IPv4 packet. */
  'malformed',
  /** The kernel refused it. */
  'refused',
] as const;
export type DropReason = (typeof DROP_REASONS)[number];

export interface PumpCounters {
  sent: number;
  received: number;
  dropped: Record<DropReason, number>;
}

export const noCounts = (): PumpCounters => ({
  sent: 0,
  received: 0,
  dropped: { foreign: 0, unreachable: 0, malformed: 0, refused: 0 },
});

export function writeCounters(path: string, counters: PumpCounters): void {
  writeFileSync(`${path}.new`, JSON.stringify(counters));
  renameSync(`${path}.new`, path);
}

/** Zeros where there is no file yet. */
export function readCounters(path: string): PumpCounters {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as PumpCounters;
  } catch {
    return noCounts();
  }
}
