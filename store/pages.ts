// Lists: all keys of some ranges that are followed, read in pages at one revision.
//
// Each page is a call of its own. One transaction for all would be fewer calls, but etcd 3.5.0 to 3.5.6 ends where a client gives
// up a transaction that only reads, and its operator decides how many reads one may have.
import type { IKeyValue, IRangeRequest, IRangeResponse } from 'etcd3';

import { CallFailure } from './failures.js';
import type { KeyRange, Keys } from './keys.js';
import { after, leftOut, type Scope } from './ranges.js';
import type { Session } from './session.js';

const PAGE = 1000;
/** Once a range has ended among keys that are left out: the next ones are of other networks, and soon left out, too. */
const SMALL_PAGE = 100;
/** Calls at a time. */
const PARALLEL = 16;

/** Milliseconds: calls that take the server long have a longer deadline than a command's. */
const LIST_DEADLINE = 10_000;

/** @throws CallFailure of the kind `compacted`, or whatever else */
export type ReadPage = (request: IRangeRequest, isFirst: boolean) => Promise<IRangeResponse>;

export const pagesOf =
  (session: Session): ReadPage =>
  (request, isFirst) =>
    session.call((etcd, options) => etcd.kv.range(request, options), {
      timeout: LIST_DEADLINE,
      observed: isFirst,
    });

interface Rest extends KeyRange {
  /** Of its next page. */
  limit: number;
}

export interface Listed {
  kvs: IKeyValue[];
  revision: number;
}

/**
 * A range costs etcd 3.4 time for each key that is left of it, however few are asked for: a list of few of many keys is cheap
 * only by ranges without the others.
 * @param vain told of ranges that are not followed, and how many of their keys came: infinitely many where they were passed over
 * @throws what `read` throws
 */
export async function readAll(
  read: ReadPage,
  keys: Keys,
  ranges: readonly KeyRange[],
  scope: Scope,
  vain: (range: KeyRange, many: number) => void = () => undefined,
): Promise<Listed> {
  for (;;) {
    try {
      return await readPages(read, keys, ranges, scope, vain);
    } catch (error) {
      // Compacted between two pages: start again, at a newer revision.
      if (!(error instanceof CallFailure) || error.kind !== 'compacted') throw error;
    }
  }
}

/** All pages at the revision of the first one. */
async function readPages(
  read: ReadPage,
  keys: Keys,
  ranges: readonly KeyRange[],
  scope: Scope,
  vain: (range: KeyRange, many: number) => void,
): Promise<Listed> {
  const listed: Listed = { kvs: [], revision: 0 };
  const left: Rest[] = ranges.map((range) => ({ ...range, limit: PAGE }));
  const next = async (rest: Rest): Promise<void> => {
    const { revision } = listed;
    const page = await read({ ...rest, revision }, revision === 0);
    if (revision === 0) listed.revision = Number(page.header.revision);
    const more = take(page, rest.range_end);
    if (more !== undefined) left.push(more);
  };
  const first = left.shift();
  // It alone says at which revision the others are read.
  if (first !== undefined) await next(first);
  let failed = false;
  const worker = async (): Promise<void> => {
    for (let rest = left.shift(); rest !== undefined && !failed; rest = left.shift())
      await next(rest).catch((error: unknown) => {
        failed = true;
        throw error;
      });
  };
  await Promise.all(Array.from({ length: PARALLEL }, worker));
  // As one range would have them, though the pages of many come in turn.
  listed.kvs.sort((a, b) => a.key.compare(b.key));
  return listed;

  /** @returns what is left of the range */
  function take({ kvs, more }: IRangeResponse, range_end: Buffer): Rest | undefined {
    let skipped: KeyRange | undefined;
    for (const kv of kvs) {
      skipped = leftOut(keys, scope, kv.key.toString());
      if (skipped === undefined) listed.kvs.push(kv);
      else vain(skipped, 1);
    }
    const last = kvs.at(-1);
    if (!more || last === undefined) return undefined;
    const next = after(last.key);
    if (skipped === undefined || next.compare(skipped.range_end) >= 0)
      return next.compare(range_end) < 0 ? { key: next, range_end, limit: PAGE } : undefined;
    vain(skipped, Infinity);
    const behind = skipped.range_end;
    return behind.compare(range_end) < 0 ? { key: behind, range_end, limit: SMALL_PAGE } : undefined;
  }
}
