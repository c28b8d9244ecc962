// Lost leases and claims of peers: retained until restored, expired or removed (core/lost-records.ts).
//
// While one is retained the routes to its node stay, so that no packet is lost over a record, and its addresses count as
// taken.
import { peerLeaseGone, RETAIN_LOST_MS } from '../../core/lost-records.js';
import type { Claim, Removal } from '../../core/records.js';
import type { Change, StoredLease, View } from '../../store/store.js';
import { type RecordKey, RecordMap } from '../reconcile/index.js';

interface Retained {
  lost: StoredLease | Claim;
  timer: NodeJS.Timeout;
  onGone: () => void;
}

export class LostLeases {
  static readonly lostMs = RETAIN_LOST_MS;

  readonly #retained = new RecordMap<Retained>();

  constructor(
    private readonly view: () => View,
    private readonly own: string,
  ) {}

  /** For how long a lease that disappeared is retained, in milliseconds; 0: not at all. */
  retentionOf(change: Extract<Change, { kind: 'lease' }>, batch: readonly Change[]): number {
    const node = change.before?.node;
    if (change.after !== undefined || node === undefined || node === this.own) return 0;
    const view = this.view();
    const gone = peerLeaseGone({
      node,
      removed: view.removals.has(`node ${node}`) || view.removals.has(`network ${change.network}`),
      withPast: change.lost === true,
      alive: view.alive.has(node) || batch.some((other) => other.kind === 'alive' && other.name === node),
    });
    return gone.state === 'lost' ? gone.retainMs : 0;
  }

  /** @param onGone called when it expires or its node is removed, unless it is restored before */
  retain(record: RecordKey, lost: Retained['lost'], ms: number, onGone: () => void): void {
    this.restored(record);
    const timer = setTimeout(() => this.#gone(record), ms);
    this.#retained.set(record, { lost, timer, onGone });
  }

  /** The record is in etcd again, its node's or another's. */
  restored(record: RecordKey): void {
    clearTimeout(this.#retained.get(record)?.timer);
    this.#retained.delete(record);
  }

  has(record: RecordKey): boolean {
    return this.#retained.has(record);
  }

  leases(network: string): StoredLease[] {
    return [...this.#retained.values()].flatMap(({ lost }) =>
      'subnet' in lost && lost.network === network ? [lost] : [],
    );
  }

  claims(network: string): Claim[] {
    return [...this.#retained.values()].flatMap(({ lost }) =>
      'ip' in lost && lost.network === network ? [lost] : [],
    );
  }

  /** A tombstone has come: of a node, or of a network whose records may have gone before it. */
  removed({ kind, name }: Removal): void {
    for (const [record, { lost }] of [...this.#retained])
      if ((kind === 'node' ? lost.node : lost.network) === name) this.#gone(record);
  }

  stop(): void {
    for (const record of [...this.#retained.keys()]) this.restored(record);
  }

  #gone(record: RecordKey): void {
    const retained = this.#retained.get(record);
    this.restored(record);
    retained?.onGone();
  }
}
