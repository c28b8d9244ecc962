// Prints and follows the log of a detached container.
//
// The agent rotates a log that has grown too long: its end is kept as LOG.1, and LOG is emptied
// (agent/runtime/container-log.ts).
import { closeSync, fstatSync, openSync, readFileSync, readSync, statSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';

import { notFound } from '../core/errors.js';

const FOLLOW_MS = 200;
/** Milliseconds from LOG.1 being begun to LOG being emptied. */
const CUT_MS = 200;
/** The last bytes that were printed: they mark the position in LOG.1. */
const KNOWN_BYTES = 65_536;

/**
 * @param more whether the container may still write; asked before the end of the log counts
 * @throws WeftError NOT_FOUND where there is no log
 */
export async function showLog(
  log: string,
  more: () => Promise<boolean>,
  write: (bytes: Buffer) => Promise<void> = written,
): Promise<void> {
  let at = 0;
  let cut = 0;
  let last = Buffer.alloc(0);
  const print = async (bytes: Buffer): Promise<void> => {
    last = Buffer.from(Buffer.concat([last, bytes]).subarray(-KNOWN_BYTES));
    await write(bytes);
  };
  let goesOn = await more();
  for (;;) {
    const latest = statSync(`${log}.1`, { throwIfNoEntry: false })?.mtimeMs ?? 0;
    if (latest !== cut) {
      await delay(Math.min(CUT_MS, Math.max(0, latest + CUT_MS - Date.now())));
      await print(after(last, readFileSync(`${log}.1`)));
      [cut, at] = [latest, 0];
      continue;
    }
    const found = readFrom(log, at);
    if (found === undefined && !goesOn && at === 0)
      throw notFound(`there is no log ${log}`, 'It is on the host of the agent; the container may be gone.');
    if (found !== undefined && found.bytes.length > 0) {
      await print(found.bytes);
      at = found.at + found.bytes.length;
      continue;
    }
    if (!goesOn) return;
    await delay(FOLLOW_MS);
    goesOn = await more();
  }
}

/** The part of `kept` that has not been printed yet. */
function after(printed: Buffer, kept: Buffer): Buffer {
  const place = printed.length === 0 ? -1 : kept.lastIndexOf(printed);
  return place < 0 ? kept : kept.subarray(place + printed.length);
}

/** A piece of the log from `at`, or from its beginning where it was emptied; undefined where there is no log. */
function readFrom(log: string, at: number): { at: number; bytes: Buffer } | undefined {
  if (statSync(log, { throwIfNoEntry: false }) === undefined) return undefined;
  const fd = openSync(log, 'r');
  try {
    const from = fstatSync(fd).size < at ? 0 : at;
    const piece = Buffer.alloc(65_536);
    return { at: from, bytes: piece.subarray(0, readSync(fd, piece, 0, piece.length, from)) };
  } finally {
    closeSync(fd);
  }
}

const written = (bytes: Buffer): Promise<void> =>
  new Promise((resolve) => process.stdout.write(bytes, () => resolve()));
