// Peers whose lease went although nobody wanted it: a key that was deleted by hand, an etcd that lost its past. The node
// whose it is writes it back as soon as it can; until then the way to it stays, so that no packet is lost over a record.
import type { Claim } from '../../core/records.js';
import type { Change, StoredLease, View } from '../../store/store.js';
import { type RecordKey, RecordMap } from '../reconcile/index.js';

/** A node that is alive writes its lease back within milliseconds, or when etcd answers it again. */
const ALIVE_MS = 5_000;
/** Etcd lost its past: who is cut off, or whose agent is being repaired, must have the time to come back. */
const LOST_MS = 3_600_000;

interface Mourned {
  lost: StoredLease | Claim;
  timer: NodeJS.Timeout;
  end: () => void;
}

export class LostLeases {
  readonly #mourned = new RecordMap<Mourned>();

  constructor(
    private readonly view: () => View,
    private readonly own: string,
  ) {}

  /** For how long the way to a lease that went is kept, in milliseconds; 0 for one that goes at once. */
  timeFor(change: Extract<Change, { kind: 'lease' }>, batch: readonly Change[]): number {
    const node = change.before?.node;
    // Nobody writes a flanneld's lease back, or a reservation.
    if (change.after !== undefined || node === undefined || node === this.own) return 0;
    const view = this.view();
    if (view.removals.has(`node ${node}`) || view.removals.has(`network ${change.network}`)) return 0;
    if (change.lost === true) return LOST_MS;
    const alive =
      view.alive.has(node) || batch.some((other) => other.kind === 'alive' && other.name === node);
    return alive ? ALIVE_MS : 0;
  }

  /** Calls `end` when the time is over, or what was wanted becomes known, unless `comfort` comes first. */
  begin(record: RecordKey, lost: Mourned['lost'], ms: number, end: () => void): void {
    this.comfort(record);
    const timer = setTimeout(() => this.#end(record), ms);
    this.#mourned.set(record, { lost, timer, end });
  }

  has(record: RecordKey): boolean {
    return this.#mourned.has(record);
  }

  leases(network: string): StoredLease[] {
    return [...this.#mourned.values()].flatMap(({ lost }) =>
      'subnet' in lost && lost.network === network ? [lost] : [],
    );
  }

  claims(network: string): Claim[] {
    return [...this.#mourned.values()].flatMap(({ lost }) =>
      'ip' in lost && lost.network === network ? [lost] : [],
    );
  }

  static readonly lostMs = LOST_MS;

  /** The record is back, or somebody else's. */
  comfort(record: RecordKey): void {
    clearTimeout(this.#mourned.get(record)?.timer);
    this.#mourned.delete(record);
  }

  /** Somebody wanted that this node goes. */
  nodeRemoved(node: string): void {
    for (const [record, mourned] of [...this.#mourned]) if (mourned.lost.node === node) this.#end(record);
  }

  stop(): void {
    for (const record of [...this.#mourned.keys()]) this.comfort(record);
  }

  #end(record: RecordKey): void {
    const mourned = this.#mourned.get(record);
    this.comfort(record);
    mourned?.end();
  }
}
