// Lost or removed: what the disappearance of a record from etcd means.
//
// A requested removal leaves a tombstone (below removed/ in etcd, kept for a day). A record that disappears without one
// was lost: a key deleted by hand, or etcd restored to a state without it. Nodes keep what they lost and write it back.
// docs/decisions/0017 has the reasons. All decisions are made here; store/ and agent/networks carry them out.
//
//            disappears,                        time over
//   present ─────────────▶ lost ─────────────────────────────▶ expired
//      ▲ │   no tombstone   │ │
//      │ │                  │ └─ tombstone ─▶ removed
//      │ │ disappears, tombstone                 │
//      │ └──────────────────────────────────▶ removed
//      │                    │                    │
//      └───── restored ◀────┘                    │ a newer record supersedes the tombstone
//      └─────────────────────────────────────────┘
//
// A removed record that reappears in the same revision came back with a copy of etcd: it is removed again.
import type { Removal } from './records.js';

/** etcd's revisions of one key: 64-bit numbers as text. */
export interface Revisions {
  createRevision: string;
  modRevision: string;
}

/** How long peers keep a lost lease of a living node, which writes it back within milliseconds or when etcd answers. */
const RETAIN_ALIVE_MS = 5_000;

/** How long peers keep what a restore of etcd lost: a node that is cut off, or under repair, needs time to come back. */
export const RETAIN_LOST_MS = 3_600_000;

export type Disappearance =
  | { state: 'removed' }
  /** Kept for `retainMs`, then expired. */
  | { state: 'lost'; retainMs: number };

const REMOVED: Disappearance = { state: 'removed' };

/**
 * A peer's lease has disappeared.
 * @param lease.node absent: a flanneld's lease or a reservation, which no node writes back
 * @param lease.removed its node or its network has a tombstone
 * @param lease.withPast it was lost in a restore of etcd
 * @param lease.alive its node was alive in the same batch of changes
 */
export function peerLeaseGone(lease: {
  node: string | undefined;
  removed: boolean;
  withPast: boolean;
  alive: boolean;
}): Disappearance {
  if (lease.node === undefined || lease.removed) return REMOVED;
  if (lease.withPast) return { state: 'lost', retainMs: RETAIN_LOST_MS };
  // A node that is down cannot write it back, and nothing answers there.
  return lease.alive ? { state: 'lost', retainMs: RETAIN_ALIVE_MS } : REMOVED;
}

/**
 * A network of this node has no config in etcd.
 * @param since when this node joined it (RFC 3339), if this run of the agent has not seen it in etcd yet: an older
 * tombstone is that of an earlier network of the same name
 */
export const networkGone = (
  tombstone: Removal | undefined,
  since: string | undefined,
): Disappearance['state'] => (tombstone === undefined || predates(tombstone, since) ? 'lost' : 'removed');

/**
 * The state of this node's own lease in etcd.
 * @param found the lease under its subnet now
 * @param networkRemoved the network has no config, and a tombstone
 */
export function ownLease(
  found: { node?: string; instance?: string } | undefined,
  own: { node: string; instance: string },
  networkRemoved: boolean,
): 'present' | 'removed' | 'lost' | 'taken' {
  if (found !== undefined && found.instance === own.instance && found.node === own.node) return 'present';
  if (networkRemoved) return 'removed';
  return found === undefined ? 'lost' : 'taken';
}

/** Whether a removal was made before something that has existed since then. @param since RFC 3339 */
export const predates = (removal: Removal, since: string | undefined): boolean =>
  since !== undefined && Date.parse(since) > Date.parse(removal.at);

/**
 * Whether a newer record supersedes a tombstone.
 * @param tombstone its revision
 * @param record the config or node that exists now; absent: none does
 * @param remembered what this process knew of the record before the restore of etcd
 */
export function supersedes(
  tombstone: string,
  record: Revisions | undefined,
  remembered: Revisions | undefined,
): boolean {
  const made = record?.modRevision ?? remembered?.createRevision ?? '0';
  return BigInt(made) > BigInt(tombstone);
}

/**
 * Whether a record of a restored etcd is the removed one: in the removed state, or an earlier one, since a node is written
 * again at each start.
 * @param deleted its last revisions, as this process saw it disappear
 */
export const isRemovedOne = (record: Revisions, deleted: Revisions | undefined): boolean =>
  record.createRevision === deleted?.createRevision &&
  BigInt(record.modRevision) <= BigInt(deleted.modRevision);

/**
 * Whether a node has had its subnet for longer than the holder of a lease: of two nodes with containers in one subnet the
 * older holder keeps it. Both reach the same answer, so they cannot take it from each other in turn.
 * @param mine, theirs RFC 3339; a lease of an older release has none
 */
export const hasHeldLonger = (mine: string, theirs: string | undefined): boolean =>
  theirs === undefined || mine < theirs;
