// Round-trip times to the other nodes through the overlay.
//
// They show a blocked tunnel although both of its ends are up. A few peers are probed each second, in turn: a node's cost does
// not grow with the cluster.
import { driverOf, type Probe } from '../../core/drivers/index.js';
import { routeText } from '../../core/host-routes.js';
import type { Store, StoredLease } from '../../store/store.js';
import type { Kernel } from '../kernel/index.js';
import type { Memberships, RouteOverlaps } from '../networks/index.js';
import type { Reconciler } from '../reconcile/index.js';
import { handshakeAges } from './handshakes.js';
import { type AgentMetrics, type Problem, type Problems, UNDERLAY } from '../health/index.js';

export interface PeerState {
  /** Absent for a node that runs flanneld. */
  node?: string;
  publicIp: string;
  state: 'up' | 'down' | 'unknown';
  rttMs?: number;
  /** Seconds since the last handshake of an encrypted network. */
  handshakeAgeS?: number;
}

export interface PeersOptions {
  store: Store;
  kernel: Kernel;
  memberships: Memberships;
  overlaps: Pick<RouteOverlaps, 'over'>;
  reconciler: Pick<Reconciler, 'lacks'>;
  metrics: AgentMetrics;
  problems: Problems;
  node: string;
}

const EVERY_MS = 1000;
const AT_ONCE = 16;
/** Longer than any usable underlay needs, and less than the probe interval of 1 s. */
const TIMEOUT_MS = 800;
/** A single lost packet is no problem. */
const SILENT_AFTER = 3;

interface Sample {
  rttMs: number | undefined;
  missed: number;
}

/** Another node, by one of its leases. */
interface Peer {
  lease: StoredLease;
  probe: Probe;
}

interface Asked extends Peer {
  probe: Extract<Probe, { address: unknown }>;
}

const isAsked = (peer: Peer): peer is Asked => 'address' in peer.probe;

export class Peers {
  readonly #samples = new Map<string, Sample>();
  /** The peers, and what they were found from: a second probe of thousands asks for none of it again. */
  #found: { of: readonly unknown[]; peers: ReadonlyMap<string, Peer> } | undefined;
  #next = 0;
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<void> | undefined;

  constructor(private readonly options: PeersOptions) {}

  start(): void {
    this.#timer = setInterval(() => {
      this.#running ??= this.#sample().finally(() => {
        this.#running = undefined;
      });
    }, EVERY_MS);
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await this.#running;
  }

  /**
   * The underlay is back: sends each peer one packet, so that both sides resolve each other's link address (ARP, RFC 826) now
   * and not only when the kernel probes next.
   * @param link the underlay's. @throws SystemError
   */
  greet(link: string): void {
    this.options.kernel.refreshNeighbours(link);
    const asked = [...this.#peers().values()].filter(isAsked);
    void this.options.kernel.ping(
      asked.map(({ probe }) => probe.address.toString()),
      TIMEOUT_MS,
    );
  }

  /** Every other node of this node's networks, once. */
  list(ages = this.#handshakeAges()): PeerState[] {
    const { view } = this.options.store;
    return [...this.#peers()].map(
      ([
        publicIp,
        {
          lease: { node },
        },
      ]): PeerState => {
        const rttMs = this.#samples.get(publicIp)?.rttMs;
        const handshakeAgeS = ages.get(publicIp);
        const state = node === undefined ? 'unknown' : view.alive.has(node) ? 'up' : 'down';
        return {
          ...(node === undefined ? {} : { node }),
          publicIp,
          state,
          ...(rttMs === undefined ? {} : { rttMs }),
          ...(handshakeAgeS === undefined ? {} : { handshakeAgeS }),
        };
      },
    );
  }

  #handshakeAges(): Map<string, number> {
    const { store, kernel, memberships } = this.options;
    return handshakeAges(
      memberships.list(),
      (network) => store.view.leases.get(network)?.values() ?? [],
      kernel,
    );
  }

  /** One lease of each other node, by public address: a reachable one if any. Found again when something has changed. */
  #peers(): ReadonlyMap<string, Peer> {
    const { store, memberships } = this.options;
    const parts = memberships.list().flatMap(({ network, lease, underlay }) => [network, lease, underlay]);
    const of = [store.state.revision, ...parts];
    const isSame = this.#found?.of.length === of.length && this.#found.of.every((part, i) => part === of[i]);
    if (this.#found === undefined || !isSame) this.#found = { of, peers: this.#find() };
    return this.#found.peers;
  }

  #find(): Map<string, Peer> {
    const { store, memberships } = this.options;
    const peers = new Map<string, Peer>();
    for (const membership of memberships.list()) {
      const { network, lease: own } = membership;
      for (const lease of store.view.leases.get(network.name)?.values() ?? []) {
        if (lease.publicIp.equals(own.publicIp)) continue;
        const probe = driverOf(network).probe(membership, lease);
        const publicIp = lease.publicIp.toString();
        const known = peers.get(publicIp);
        if (probe !== undefined && (known === undefined || !isAsked(known)))
          peers.set(publicIp, { lease, probe });
      }
    }
    return peers;
  }

  async #sample(): Promise<void> {
    const peers = [...this.#peers()];
    const all = peers.flatMap(([publicIp, peer]) => (isAsked(peer) ? [[publicIp, peer] as const] : []));
    const known = new Set(all.map(([publicIp]) => publicIp));
    for (const publicIp of this.#samples.keys()) if (!known.has(publicIp)) this.#samples.delete(publicIp);
    this.#gauge();
    if (all.length === 0) return this.#report(peers);
    const count = Math.min(AT_ONCE, all.length);
    const chosen = Array.from({ length: count }, (_, i) => all[(this.#next + i) % all.length]).filter(
      (peer) => peer !== undefined,
    );
    this.#next = (this.#next + count) % all.length;
    const answers = await this.options.kernel.ping(
      chosen.map(([, { probe }]) => probe.address.toString()),
      TIMEOUT_MS,
    );
    for (const [i, [publicIp, { lease }]] of chosen.entries()) {
      const rttMs = answers[i];
      const missed = rttMs === undefined ? (this.#samples.get(publicIp)?.missed ?? 0) + 1 : 0;
      this.#samples.set(publicIp, { rttMs, missed });
      const name = lease.node ?? publicIp;
      if (rttMs === undefined) this.options.metrics.peerRtt.remove({ node: name });
      else this.options.metrics.peerRtt.set({ node: name }, rttMs / 1000);
    }
    this.#report(peers);
  }

  #report(peers: readonly (readonly [string, Peer])[]): void {
    const problems = new Map<string, Problem>();
    for (const [publicIp, peer] of peers) {
      const { node, network } = peer.lease;
      if (node === undefined || !this.options.store.view.alive.has(node)) continue;
      // This node's own end is missing, and a problem already.
      const membership = this.options.memberships.get(network);
      if (
        membership !== undefined &&
        this.options.reconciler.lacks(driverOf(membership.network).tunnels(membership))
      )
        continue;
      const what = `the path to node ${node} (${publicIp})`;
      if ('unreachable' in peer.probe) {
        problems.set(node, {
          what,
          why: `it is up, but cannot be reached in network ${network}: ${peer.probe.unreachable}`,
          fix: 'Containers on the two nodes do not reach each other there; see `weft network inspect` for the network.',
        });
      } else if ((this.#samples.get(publicIp)?.missed ?? 0) >= SILENT_AFTER) {
        const { address, advice } = peer.probe;
        const route = this.options.overlaps.over(network, address, peer.lease.subnet.length);
        const silent = `it is up, but does not answer through the overlay of network ${network}`;
        problems.set(
          node,
          route === undefined
            ? { what, why: silent, fix: advice }
            : {
                what,
                why: `${silent}: the route ${routeText(route)} of this host takes its packets`,
                fix: 'Remove the route, or create the network again with another subnet.',
              },
        );
      }
    }
    this.options.problems.replace(UNDERLAY, 'peer', problems);
  }

  #gauge(): void {
    const { store, memberships, metrics } = this.options;
    metrics.peers.reset();
    metrics.handshakeAge.reset();
    const ages = this.#handshakeAges();
    // Most clusters encrypt nothing: who the peers are is not looked up for nothing.
    const peers = ages.size === 0 ? [] : this.list(ages);
    for (const { publicIp, node, handshakeAgeS } of peers)
      if (handshakeAgeS !== undefined) metrics.handshakeAge.set({ node: node ?? publicIp }, handshakeAgeS);
    for (const { network } of memberships.list()) {
      metrics.peers.set(
        { network: network.name },
        Math.max(0, (store.view.leases.get(network.name)?.size ?? 0) - 1),
      );
    }
  }
}
