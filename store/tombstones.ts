// Tombstones of removals, compared with their records (core/lost-records.ts).
import type { IKeyValue } from 'etcd3';

import { isRemovedOne, predates, supersedes, type Revisions } from '../core/lost-records.js';
import type { Removal } from '../core/records.js';
import type { Keys } from './keys.js';
import { ifReadable } from '../core/parse.js';
import { decodeNode } from './record-codec.js';

/** A removal whose tombstone a restored etcd lacks. */
export interface LostRemoval {
  removal: Removal;
  /** Key of the config or node. */
  key: string;
  /** Revision of the record in the restored etcd, if it is the removed one: it is to be removed again. */
  revision?: string;
}

const subjectOf = (keys: Keys, { kind, name }: Removal): string =>
  kind === 'network' ? keys.config(name) : keys.node(name);

/**
 * Keys of the tombstones that a newer record supersedes.
 * @param remembered what existed before a restore of etcd; absent if there was none
 * @param known tombstones already found superseded, with their revision
 */
export function superseded(
  keys: Keys,
  removals: Iterable<Removal>,
  there: ReadonlyMap<string, Revisions>,
  remembered: ReadonlyMap<string, Revisions> | undefined,
  known: ReadonlyMap<string, string>,
): string[] {
  return [...removals].flatMap((removal) => {
    const tombstone = keys.removal(removal.kind, removal.name);
    const subject = subjectOf(keys, removal);
    const revision = there.get(tombstone)?.modRevision ?? '0';
    const isKnown = known.get(tombstone) === revision;
    return isKnown || supersedes(revision, there.get(subject), remembered?.get(subject)) ? [tombstone] : [];
  });
}

/** When the agent that wrote this node record started; undefined if it cannot be read. */
const startOf = (name: string, kv: IKeyValue): string | undefined =>
  ifReadable(() => decodeNode(name, kv.value.toString()))?.startedAt;

/**
 * Removals whose tombstones existed before and are absent from the restored etcd.
 * @param deleted last revisions of configs and nodes that this process saw disappear
 */
export function lostRemovals(
  keys: Keys,
  removals: Iterable<Removal>,
  restored: ReadonlyMap<string, IKeyValue>,
  deleted: ReadonlyMap<string, Revisions>,
): LostRemoval[] {
  return [...removals].flatMap((removal): LostRemoval[] => {
    if (restored.has(keys.removal(removal.kind, removal.name))) return [];
    const key = subjectOf(keys, removal);
    const kv = restored.get(key);
    const isAgain =
      kv !== undefined &&
      isRemovedOne({ createRevision: kv.create_revision, modRevision: kv.mod_revision }, deleted.get(key)) &&
      // An emptied etcd restarts its revisions: a node started since can have those of the removed one.
      !(removal.kind === 'node' && predates(removal, startOf(removal.name, kv)));
    return [{ removal, key, ...(isAgain && { revision: kv.mod_revision }) }];
  });
}
