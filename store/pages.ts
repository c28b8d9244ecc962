// Lists: all keys of a range that are followed, read in pages at one revision.
import type { IKeyValue, IRangeRequest, IRangeResponse } from 'etcd3';

import { CallFailure } from './failures.js';
import type { KeyRange, Keys } from './keys.js';
import { after, leftOut, type Scope } from './ranges.js';
import type { Session } from './session.js';

const PAGE = 1000;
/** Once a page has ended among keys that are left out: the next ones are of other networks, and soon left out, too. */
const SMALL_PAGE = 100;

/** Milliseconds: calls that take the server long have a longer deadline than a command's. */
const LIST_DEADLINE = 10_000;

/** The ranges that are left out, and how many keys of them arrived in vain. */
export class RangeCounts {
  readonly #ranges = new Map<string, KeyRange>();
  #total = 0;

  get ranges(): KeyRange[] {
    return [...this.#ranges.values()];
  }

  /** Of all ranges. */
  get total(): number {
    return this.#total;
  }

  add(range: KeyRange, more = 1): void {
    this.#ranges.set(range.key.toString(), range);
    this.#total += more;
  }
}

/** @throws CallFailure of the kind `compacted`, or whatever else */
export type ReadPage = (request: IRangeRequest, isFirst: boolean) => Promise<IRangeResponse>;

export const pagesOf =
  (session: Session): ReadPage =>
  (request, isFirst) =>
    session.call((etcd, options) => etcd.kv.range(request, options), {
      timeout: LIST_DEADLINE,
      observed: isFirst,
    });

export interface Listed {
  kvs: IKeyValue[];
  revision: number;
  /** At least; infinitely many where the list has passed over them. */
  leftOut: RangeCounts;
}

/** @throws what `read` throws */
export async function readAll(read: ReadPage, keys: Keys, range: KeyRange, scope: Scope): Promise<Listed> {
  for (;;) {
    try {
      return await readPages(read, keys, range, scope);
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
  { key, range_end }: KeyRange,
  scope: Scope,
): Promise<Listed> {
  const listed: Listed = { kvs: [], revision: 0, leftOut: new RangeCounts() };
  let from = key;
  let limit = PAGE;
  for (;;) {
    const request = { key: from, range_end, limit, revision: listed.revision };
    const page = await read(request, listed.revision === 0);
    if (listed.revision === 0) listed.revision = Number(page.header.revision);
    let skipped: KeyRange | undefined;
    for (const kv of page.kvs) {
      skipped = leftOut(keys, scope, kv.key.toString());
      if (skipped === undefined) listed.kvs.push(kv);
      else listed.leftOut.add(skipped);
    }
    const last = page.kvs.at(-1);
    if (!page.more || last === undefined) return listed;
    from = after(last.key);
    limit = PAGE;
    if (skipped !== undefined && from.compare(skipped.range_end) < 0) {
      listed.leftOut.add(skipped, Infinity);
      from = skipped.range_end;
      limit = SMALL_PAGE;
    }
    if (from.compare(range_end) >= 0) return listed;
  }
}
