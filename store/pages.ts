// Lists: all keys of some ranges that are followed, read in pages at one revision.
import type { IKeyValue, IRangeResponse, ITxnRequest, ITxnResponse } from 'etcd3';

import { CallFailure } from './failures.js';
import type { KeyRange, Keys } from './keys.js';
import { after, leftOut, type Scope } from './ranges.js';
import type { Session } from './session.js';

/** Keys of one call. */
const PAGE = 1000;
/** Once a range has ended among keys that are left out: the next ones are of other networks, and soon left out, too. */
const SMALL_PAGE = 100;
/** Ranges of one call; etcd allows 128 (`--max-txn-ops`). */
const RANGES = 100;

/** Milliseconds: calls that take the server long have a longer deadline than a command's. */
const LIST_DEADLINE = 10_000;

/** Reads ranges. @throws CallFailure of the kind `compacted`, or whatever else */
export type ReadPage = (request: ITxnRequest, isFirst: boolean) => Promise<ITxnResponse>;

export const pagesOf =
  (session: Session): ReadPage =>
  (request, isFirst) =>
    session.call((etcd, options) => etcd.kv.txn(request, options), {
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
  while (left.length > 0) {
    const now = left.splice(0, RANGES);
    const most = Math.ceil(PAGE / now.length);
    const { revision } = listed;
    const success = now.map(({ key, range_end, limit }) => ({
      request_range: { key, range_end, limit: Math.min(limit, most), revision },
    }));
    const page = await read({ success }, revision === 0);
    if (listed.revision === 0) listed.revision = Number(page.header.revision);
    for (const [at, { response_range: found }] of page.responses.entries()) {
      const more = found && now[at] && take(found, now[at].range_end);
      if (more) left.push(more);
    }
  }
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
