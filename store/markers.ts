// What a marker of a removal says, beside what is there now: one that is older than what it stands for has been superseded,
// and one that went with etcd's past is still meant.
import type { IKeyValue } from 'etcd3';

import type { Removal } from '../core/records.js';
import type { Keys } from './keys.js';
import { ifReadable } from '../core/parse.js';
import { decodeNode } from './record-codec.js';

/** When a key was made and last written. */
export interface Revisions {
  createRevision: string;
  modRevision: string;
}

/** A removal that somebody wanted, and that a restored etcd does not know of any more. */
export interface LostRemoval {
  removal: Removal;
  /** Of the config or node. */
  key: string;
  /** Of what the copy has, where this is what this process has seen go. */
  revision?: string;
}

/** Whether somebody has had, since then, what a removal took away before. @param since RFC 3339 */
export const isOlder = (removal: Removal, since: string | undefined): boolean =>
  since !== undefined && Date.parse(since) > Date.parse(removal.at);

const subjectOf = (keys: Keys, { kind, name }: Removal): string =>
  kind === 'network' ? keys.config(name) : keys.node(name);

/**
 * Keys of the markers that something has come after: the config or node is there, and newer; or, in a copy that knows
 * nothing of it, it was made later.
 * @param remembered what was there before the copy came; absent where there is no copy
 * @param known markers that were found so before, with their revision
 */
export function superseded(
  keys: Keys,
  removals: Iterable<Removal>,
  there: ReadonlyMap<string, Revisions>,
  remembered: ReadonlyMap<string, Revisions> | undefined,
  known: ReadonlyMap<string, string>,
): string[] {
  return [...removals].flatMap((removal) => {
    const marker = keys.removal(removal.kind, removal.name);
    const subject = subjectOf(keys, removal);
    const revision = there.get(marker)?.modRevision ?? '0';
    const later = there.get(subject)?.modRevision ?? remembered?.get(subject)?.createRevision ?? '0';
    return known.get(marker) === revision || BigInt(later) > BigInt(revision) ? [marker] : [];
  });
}

/**
 * When the agent was started that wrote this record of a node: an etcd that was emptied counts its revisions anew, and a node
 * that is back can have been made at the same one as the node that was removed. Undefined where it cannot be read.
 */
const startOf = (name: string, kv: IKeyValue): string | undefined =>
  ifReadable(() => decodeNode(name, kv.value.toString()))?.startedAt;

/**
 * Markers that were there before and are not in the copy, with what is known of what they stood for.
 * @param tombstones configs and nodes that were seen to be deleted
 */
export function lostRemovals(
  keys: Keys,
  removals: Iterable<Removal>,
  copy: ReadonlyMap<string, IKeyValue>,
  tombstones: ReadonlyMap<string, Revisions>,
): LostRemoval[] {
  return [...removals].flatMap((removal): LostRemoval[] => {
    if (copy.has(keys.removal(removal.kind, removal.name))) return [];
    const key = subjectOf(keys, removal);
    const [kv, before] = [copy.get(key), tombstones.get(key)];
    // What was removed, as it was then or earlier: a node is written again with each of its lives.
    const same =
      kv !== undefined &&
      kv.create_revision === before?.createRevision &&
      BigInt(kv.mod_revision) <= BigInt(before.modRevision) &&
      !(removal.kind === 'node' && isOlder(removal, startOf(removal.name, kv)));
    return [{ removal, key, ...(same && { revision: kv.mod_revision }) }];
  });
}
