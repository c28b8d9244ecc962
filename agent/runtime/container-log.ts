// Bounds the output logs of detached containers.
//
// A log that is too long is truncated, and its end replaces LOG.1. Writers have it open for appending, so that truncation is
// safe.
import { closeSync, openSync, readSync, statSync, truncateSync, writeFileSync } from 'node:fs';

export const MAX_LOG_BYTES = 10 * 1024 * 1024;

/** Output between the copy and the truncation is lost: a line or two of 10 MiB. */
export function trimLog(path: string, max = MAX_LOG_BYTES): void {
  const size = statSync(path, { throwIfNoEntry: false })?.size ?? 0;
  if (size <= max) return;
  const end = Buffer.alloc(max);
  const fd = openSync(path, 'r');
  try {
    const length = readSync(fd, end, 0, max, size - max);
    writeFileSync(`${path}.1`, end.subarray(0, length), { mode: 0o600 });
  } finally {
    closeSync(fd);
  }
  truncateSync(path, 0);
}
