// Publishes this node's endpoints to etcd; local state is authoritative.
//
// A change is written at once, or when etcd is back. Where the two differ, etcd is corrected.
import { bareIp, IpAddress } from '../../core/address.js';
import { Backoff } from '../../core/backoff.js';
import { alreadyExists, messageOf, WeftError, type ErrorCode } from '../../core/errors.js';
import { claimsConflict, type Claim, type ClaimHolder, type Endpoint } from '../../core/records.js';
import type { Logger } from '../../daemon/log.js';
import { DisplacedNodes } from '../../store/displaced-nodes.js';
import type { Change, Store } from '../../store/store.js';
import { type AgentMetrics, endpointScope, NODE, type Problems } from '../health/index.js';

export interface PublisherOptions {
  store: Store;
  log: Logger;
  metrics: AgentMetrics;
  problems: Problems;
  node: string;
  instance: string;
  /** The endpoints of this node. */
  current: () => readonly Endpoint[];
  /** Whether a claim of this node stays although no endpoint has its address. */
  keeps?: (claim: Claim) => boolean;
}

const RETRY_MS = 500;
/** etcd rejects every write. */
const PUBLISHING = { scope: NODE, kind: 'publishing' } as const;
/** The longest delay between attempts without any change. */
const SLOW_RETRY_MS = 10_000;
/** etcd answers and rejects every write of this node: it is full, or the node's certificate may not write. */
const REJECTS_ALL: readonly ErrorCode[] = ['RESOURCE_EXHAUSTED', 'PERMISSION_DENIED'];
/** Publishing costs this process as much CPU as an attach: the caller of an attach has its answer first. */
const PUBLISH_AFTER_MS = 10;
/** Concurrent writes. */
const PARALLEL = 16;

interface Entry {
  network: string;
  /** Undefined: it was removed, and is to be deleted. */
  endpoint: Endpoint | undefined;
  claims: string[];
}

export class Publisher {
  /** By id: endpoints that are not published yet. */
  readonly #dirty = new Map<string, Entry>();
  /** Refused by the store because another endpoint has the name or address; tried again slowly. */
  readonly #refused = new Map<string, Entry>();
  /** Claims that others have written over this node's, by network and address. */
  readonly #seized = new Map<string, ClaimHolder>();
  #running: Promise<void> | undefined;
  #retry: NodeJS.Timeout | undefined;
  /** Grows while etcd rejects every write; while it does not answer, the delay stays. */
  readonly #backoff = new Backoff({ firstMs: RETRY_MS, lastMs: SLOW_RETRY_MS });
  #again: { timer: NodeJS.Timeout; due: number } | undefined;
  #soon: NodeJS.Timeout | undefined;
  #stopped = false;

  constructor(private readonly options: PublisherOptions) {}

  /** Number of local changes that the store lacks. */
  get pending(): number {
    return this.#dirty.size + this.#refused.size;
  }

  publish(endpoint: Endpoint): void {
    this.#mark(endpoint.network, endpoint.id, endpoint);
  }

  withdraw(endpoint: Endpoint): void {
    this.#mark(endpoint.network, endpoint.id, undefined, claimsOf(endpoint));
  }

  /** Deletes a claim whose holder never became an endpoint, or has ended. */
  releaseClaim(network: string, ip: string, holder: string): void {
    this.#mark(network, holder, undefined, [ip]);
  }

  /**
   * Settles when etcd has no claim of this node to the address that nothing here holds any more; at once if etcd does not answer.
   * A container that is started again asks for its address while the release of it is still being written.
   */
  async claimReleased(network: string, ip: string): Promise<void> {
    const { store, node, instance } = this.options;
    const claim = store.view.claims.get(network)?.get(ip);
    const isMine = claim?.node === node && store.view.alive.get(node) === instance;
    if (isMine && !this.#isHeld(claim)) this.releaseClaim(network, ip, claim.endpoint);
    const isPending = (): boolean =>
      [...this.#dirty.values()].some(
        (entry) => entry.network === network && entry.endpoint === undefined && entry.claims.includes(ip),
      );
    // Twice: writes that were under way may have just ended.
    for (let attempt = 1; attempt <= 2 && store.state.connected && isPending(); attempt++) {
      this.kick();
      await this.#running;
    }
  }

  /**
   * Cancels the release of an address that etcd has not received, since it does not answer: the claim is still this node's.
   * @returns the holder that the claim has
   */
  cancelRelease(network: string, ip: string): string | undefined {
    const { store, node } = this.options;
    const claim = store.view.claims.get(network)?.get(ip);
    if (store.state.connected || claim?.node !== node || claim.state !== 'granted') return undefined;
    const release = this.#dirty.get(claim.endpoint);
    if (release === undefined || release.endpoint !== undefined || !release.claims.includes(ip))
      return undefined;
    // In place: a write of it may be under way.
    release.claims.splice(release.claims.indexOf(ip), 1);
    return claim.endpoint;
  }

  #isHeld(claim: Claim): boolean {
    const { current, keeps } = this.options;
    return current().some(({ id }) => id === claim.endpoint) || keeps?.(claim) === true;
  }

  /**
   * Reserves an explicit name for this endpoint; a gone node's is free. Without etcd, the check uses the view that this node has.
   * @throws WeftError ALREADY_EXISTS
   */
  async reserveName(endpoint: Endpoint): Promise<void> {
    const { store } = this.options;
    const others = [
      ...(store.view.endpoints.get(endpoint.network)?.values() ?? []),
      ...this.options.current(),
    ];
    const displaced = new DisplacedNodes(store.view);
    const holder = others.find(
      (other) =>
        other.network === endpoint.network &&
        other.explicitName &&
        other.name === endpoint.name &&
        other.id !== endpoint.id &&
        (other.node === endpoint.node || !displaced.isGone(other.node)),
    );
    if (holder !== undefined) {
      throw alreadyExists(
        `the name ${endpoint.name} is taken in network ${endpoint.network}, by ${holder.target} on ${holder.node}`,
        'Choose another --name.',
      );
    }
    try {
      await this.#timed('put', () => store.putEndpoint(endpoint, { unique: true }));
    } catch (error) {
      if (!(error instanceof WeftError) || error.code !== 'UNAVAILABLE') throw error;
    }
  }

  /**
   * Compares this node's records in the store with its endpoints. Only while the store's liveness key of this node has this
   * instance: otherwise the records under the node's name may be another host's.
   */
  resync(): void {
    const { store, node, instance, current } = this.options;
    if (store.view.alive.get(node) !== instance) return;
    const mine = new Map(current().map((endpoint) => [endpoint.id, endpoint]));
    for (const [network, endpoints] of store.view.endpoints) {
      for (const endpoint of endpoints.values()) {
        if (endpoint.node === node && !mine.has(endpoint.id))
          this.#mark(network, endpoint.id, undefined, claimsOf(endpoint));
      }
    }
    for (const [network, claims] of store.view.claims) {
      for (const claim of claims.values()) {
        if (claim.node === node && claim.state === 'granted' && !this.#isHeld(claim)) {
          this.#mark(network, claim.endpoint, undefined, [claim.ip.toString()]);
        }
      }
    }
    for (const endpoint of mine.values())
      if (!this.#isPublished(endpoint) || !this.#hasClaims(endpoint)) this.publish(endpoint);
  }

  /** Corrects changes of this node's records that others made. */
  handle(changes: readonly Change[]): void {
    const mine = new Map(this.options.current().map((endpoint) => [endpoint.id, endpoint]));
    const refusedIn = new Set([...this.#refused.values()].map(({ network }) => network));
    for (const change of changes) {
      const where = change.kind === 'network' ? change.name : 'network' in change ? change.network : '';
      if (refusedIn.has(where)) this.#tryRefused(RETRY_MS);
      if (change.kind === 'endpoint') {
        const own = mine.get(change.id);
        if (own !== undefined && !this.#isPublished(own)) this.#writeBack(own, change.after);
      } else if (change.kind === 'claim' && change.before?.node === this.options.node) {
        const own = mine.get(change.before.endpoint);
        if (own !== undefined) this.#claimChanged(own, change.before, change.after);
      }
    }
  }

  /** The record of an endpoint of this node is not what this node has written. */
  #writeBack(own: Endpoint, after: Endpoint | undefined): void {
    // Otherwise it is this node's own change that is on its way.
    if (!this.#dirty.has(own.id))
      this.options.log.warn(
        'the record of an endpoint of this node is not as it was written: writing it back',
        {
          ...{
            network: own.network,
            endpoint: own.id,
            name: own.name,
            change: after === undefined ? 'deleted' : 'changed',
          },
        },
      );
    this.publish(own);
  }

  /** A claim of this node is not any more what it was. */
  #claimChanged(own: Endpoint, before: Claim, after: Claim | undefined): void {
    if (after === undefined) return this.publish(own);
    if (before.state !== 'granted' || !claimsConflict(before, after)) return;
    // Nobody takes a claim over that was not given back.
    const { network, ip } = before;
    this.options.log.warn('a claim of this node was overwritten, and is written back', {
      ...{ network, ip: ip.toString(), endpoint: own.id, by: after.node },
    });
    this.#seized.set(`${network} ${ip.toString()}`, after);
    this.publish(own);
  }

  async #restoreClaim(endpoint: Endpoint, ip: string): Promise<void> {
    const slot = `${endpoint.network} ${ip}`;
    await this.options.store.restoreClaim(grantedClaim(endpoint, ip), this.#seized.get(slot));
    this.#seized.delete(slot);
  }

  /** Writes pending changes now: etcd answers again. */
  kick(): void {
    clearTimeout(this.#retry);
    this.#retry = undefined;
    this.#backoff.reset();
    this.#tryRefused(0);
    this.#run();
  }

  async stop(): Promise<void> {
    if (this.#soon !== undefined) this.#run();
    this.#stopped = true;
    clearTimeout(this.#soon);
    clearTimeout(this.#retry);
    clearTimeout(this.#again?.timer);
    await this.#running;
  }

  #isPublished(endpoint: Endpoint): boolean {
    const { view } = this.options.store;
    const published = view.endpoints.get(endpoint.network)?.get(endpoint.id);
    return published !== undefined && textOf(published) === textOf(endpoint);
  }

  #hasClaims(endpoint: Endpoint): boolean {
    const { view } = this.options.store;
    return claimsOf(endpoint).every((ip) => {
      const claim = view.claims.get(endpoint.network)?.get(ip);
      return claim !== undefined && !claimsConflict(claim, grantedClaim(endpoint, ip));
    });
  }

  #mark(network: string, id: string, endpoint: Endpoint | undefined, claims: string[] = []): void {
    const known = this.#dirty.get(id) ?? this.#refused.get(id);
    const before = endpoint === undefined ? (known?.claims ?? []) : [];
    this.#refused.delete(id);
    this.#dirty.set(id, { network, endpoint, claims: [...new Set([...before, ...claims])] });
    this.#soon ??= setTimeout(() => {
      this.#soon = undefined;
      this.#run();
    }, PUBLISH_AFTER_MS);
  }

  #run(): void {
    if (this.#stopped || this.#retry !== undefined) return;
    this.#running ??= this.#drain().finally(() => {
      this.#running = undefined;
      this.options.metrics.storePending.set(this.pending);
      if (this.#dirty.size > 0 && !this.#stopped) {
        this.#retry = setTimeout(() => {
          this.#retry = undefined;
          this.#run();
        }, this.#backoff.delayMs);
      }
      if (this.#refused.size > 0) this.#tryRefused(SLOW_RETRY_MS);
    });
  }

  /** Makes refused entries pending again; of several calls the earliest counts. */
  #tryRefused(afterMs: number): void {
    const due = performance.now() + afterMs;
    if (this.#stopped || this.#refused.size === 0 || (this.#again?.due ?? Infinity) <= due) return;
    clearTimeout(this.#again?.timer);
    const timer = setTimeout(() => {
      this.#again = undefined;
      for (const [id, entry] of this.#refused) this.#dirty.set(id, entry);
      this.#refused.clear();
      this.#run();
    }, afterMs);
    this.#again = { timer, due };
  }

  async #drain(): Promise<void> {
    while (this.#dirty.size > 0 && !this.#stopped) {
      const batch = [...this.#dirty].slice(0, PARALLEL);
      const results = await Promise.all(batch.map(([id, entry]) => this.#write(id, entry)));
      const why = results.find((result) => result instanceof WeftError);
      if (why !== undefined) return this.#rejectsAll(why);
      if (results.includes('published')) this.#acceptsAgain();
      if (results.includes('later')) return;
    }
  }

  #rejectsAll(why: WeftError): void {
    this.#backoff.next();
    this.options.problems.set(PUBLISHING, {
      what: 'publishing the endpoints of this node to etcd',
      why: why.message,
      fix: why.next ?? 'It is tried again every 10 seconds.',
    });
  }

  #acceptsAgain(): void {
    this.#backoff.reset();
    this.options.problems.clear(PUBLISHING);
  }

  /** Returns the error if etcd rejects every write. */
  async #write(id: string, entry: Entry): Promise<'published' | 'refused' | 'later' | WeftError> {
    const { store, problems } = this.options;
    const { network, endpoint, claims } = entry;
    const key = { scope: endpointScope({ network, id }), kind: 'publication' } as const;
    try {
      if (endpoint === undefined) {
        await this.#timed('delete', () => store.deleteEndpoint(network, id));
        for (const ip of claims) await store.deleteClaim(network, ip, id);
      } else {
        // An endpoint whose claim another node has is published all the same: it runs, and must be found.
        const restored = await Promise.allSettled(
          claimsOf(endpoint).map((ip) => this.#restoreClaim(endpoint, ip)),
        );
        await this.#timed('put', () => store.putEndpoint(endpoint, { unique: endpoint.explicitName }));
        for (const result of restored) if (result.status === 'rejected') throw result.reason;
      }
    } catch (error) {
      if (error instanceof WeftError && REJECTS_ALL.includes(error.code)) return error;
      if (!(error instanceof WeftError) || error.code === 'UNAVAILABLE') {
        this.options.log.debug('an endpoint could not be published yet', { id, error: messageOf(error) });
        return 'later';
      }
      problems.set(key, {
        what: `endpoint ${endpoint?.name ?? id} of network ${network}`,
        why: messageOf(error),
        fix: error.next ?? 'Detach it and attach it under another name.',
      });
      if (this.#forget(id, entry)) this.#refused.set(id, entry);
      return 'refused';
    }
    problems.clear(key);
    this.#forget(id, entry);
    return 'published';
  }

  /** Returns whether the entry had no later change. */
  #forget(id: string, entry: Entry): boolean {
    return this.#dirty.get(id) === entry && this.#dirty.delete(id);
  }

  async #timed<T>(operation: string, work: () => Promise<T>): Promise<T> {
    const end = this.options.metrics.storeSeconds.startTimer({ operation });
    try {
      return await work();
    } finally {
      end();
    }
  }
}

/** Addresses of an endpoint outside its node's subnet: those with a full prefix length, or marked as claimed. */
function claimsOf(endpoint: Endpoint): string[] {
  if (endpoint.claimed === true) return [bareIp(endpoint.ip)];
  return [endpoint.ip, endpoint.ip6 ?? ''].flatMap((text) => {
    const [ip, length] = text.split('/');
    return ip !== undefined && length === (ip.includes(':') ? '128' : '32') ? [ip] : [];
  });
}

const grantedClaim = (endpoint: Endpoint, ip: string): Claim => ({
  network: endpoint.network,
  ip: IpAddress.parse(ip),
  node: endpoint.node,
  endpoint: endpoint.id,
  state: 'granted',
});

/** Equal for equal records, in any order of fields. */
const textOf = (record: object): string =>
  JSON.stringify(record, (_, value: unknown) =>
    typeof value === 'object' && value !== null && !Array.isArray(value)
      ? Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)))
      : value,
  );
