// The other nodes, and the paths to them: what `weft status` shows and warns of.
import { areSame } from '../../core/differences.js';
import { driverOf, type Probe } from '../../core/drivers/index.js';
import { routeText } from '../../core/host-routes.js';
import type { Problem } from '../../core/problem.js';
import type { Lease } from '../../core/records.js';
import type { Logger } from '../../daemon/log.js';
import type { Store } from '../../store/store.js';
import { type AgentMetrics, OUTAGE, type Problems, UNDERLAY } from '../health/index.js';
import type { Kernel, NeighbourTable } from '../kernel/index.js';
import type { Memberships, RouteOverlaps } from '../networks/index.js';
import type { Reconciler } from '../reconcile/index.js';
import { handshakeAges } from './handshakes.js';
import { NeighbourCauses } from './neighbour-causes.js';
import type { NodeUnderlay } from './node-underlay.js';
import { isOpen, pathsOf, type OpenPath, type Path, type PathState } from './path.js';
import { PathEvents, type PathHappening } from './path-events.js';
import { PathProber } from './path-prober.js';
import { problemsOf, type Cause, type Fault } from './path-problems.js';

export interface PathView {
  network: string;
  family: number;
  state: PathState;
  mtu?: number | undefined;
  rttMs?: number | undefined;
}

export interface PeerState {
  /** Absent for a node that runs flanneld. */
  node?: string;
  publicIp: string;
  state: 'up' | 'down' | 'unknown';
  /** Of the quickest path. */
  rttMs?: number;
  /** Seconds since the last handshake of an encrypted network. */
  handshakeAgeS?: number;
  paths: PathView[];
}

export interface PeersOptions {
  store: Pick<Store, 'view' | 'state' | 'subscribe'>;
  kernel: Kernel;
  memberships: Pick<Memberships, 'list' | 'get'>;
  overlaps: Pick<RouteOverlaps, 'over'>;
  reconciler: Pick<Reconciler, 'lacks'>;
  underlay: Pick<NodeUnderlay, 'current' | 'outage'>;
  metrics: Pick<AgentMetrics, 'peers' | 'peerRtt'>;
  problems: Problems;
  log: Pick<Logger, 'debug'>;
  node: string;
  onPath: PathHappening;
}

export class Peers {
  readonly #prober: PathProber;
  readonly #causes: NeighbourCauses;
  readonly #events: PathEvents;
  /** The paths, and what they were found from. */
  #found: { of: readonly unknown[]; paths: readonly Path[] } | undefined;
  #leaseChanges = 0;
  readonly #unsubscribe: () => void;
  /** Of these paths there was nothing to tell. */
  #quiet: readonly Path[] | undefined;
  #tables: readonly NeighbourTable[] | undefined;

  constructor(private readonly options: PeersOptions) {
    const { kernel, node, metrics, underlay, log, onPath, store } = options;
    this.#unsubscribe = store.subscribe((changes) => {
      if (changes.some(({ kind }) => kind === 'lease')) this.#leaseChanges++;
    });
    this.#events = new PathEvents(onPath);
    this.#causes = new NeighbourCauses({
      ...{ kernel, log },
      own: () => {
        const { link, ip, ip6 } = underlay.current;
        return { link, ips: ip6 === undefined ? [ip] : [ip, ip6] };
      },
    });
    this.#prober = new PathProber({
      ...{ kernel, node },
      paths: () => this.#paths(),
      isDown: (path) => this.#isDown(path),
      onAnswer: (rttMs) => metrics.peerRtt.observe(rttMs / 1000),
      packetsToInspect: (path) => this.#causes.packetsFor(path),
      onBroken: (path) => void this.#causes.inspect(path),
      onNews: () => this.#report(),
    });
  }

  start(): void {
    this.#prober.start();
  }

  stop(): Promise<void> {
    this.#unsubscribe();
    return this.#prober.stop();
  }

  /**
   * The underlay is back: sends a packet on the paths, so that both sides resolve each other's link address (ARP, RFC 826) now
   * and not only when the kernel probes next.
   * @param link the underlay's. @throws SystemError
   */
  greet(link: string): void {
    this.options.kernel.refreshNeighbours(link);
    this.#prober.greet();
  }

  /** Every other node of this node's networks, once. */
  list(): PeerState[] {
    const { view } = this.options.store;
    const ages = this.#handshakeAges();
    const peers = new Map<string, PeerState>();
    for (const path of this.#paths()) {
      const { node, publicIp } = path;
      const handshakeAgeS = ages.get(publicIp);
      const peer = peers.get(publicIp) ?? {
        ...(node === undefined ? {} : { node }),
        publicIp,
        state: node === undefined ? 'unknown' : view.alive.has(node) ? 'up' : 'down',
        ...(handshakeAgeS === undefined ? {} : { handshakeAgeS }),
        paths: [],
      };
      const { rttMs, mtu } = this.#prober.healthOf(path);
      if (rttMs !== undefined) peer.rttMs = Math.min(rttMs, peer.rttMs ?? Infinity);
      const { network, family } = path;
      const state = this.#stateOf(path);
      peer.paths.push({ network, family, state, mtu: state === 'ok' ? sizeOf(path.probe) : mtu, rttMs });
      peers.set(publicIp, peer);
    }
    return [...peers.values()];
  }

  #handshakeAges(): Map<string, number> {
    const { kernel, memberships } = this.options;
    return handshakeAges(memberships.list(), (network) => this.#leases(network), kernel);
  }

  #leases(network: string): Iterable<Lease> {
    return this.options.store.view.leases.get(network)?.values() ?? [];
  }

  /** Found again when something has changed. */
  #paths(): readonly Path[] {
    const all = this.options.memberships.list();
    const of = [
      this.#leaseChanges,
      ...all.flatMap(({ network, lease, underlay }) => [network, lease, underlay]),
    ];
    if (this.#found === undefined || !areSame(of, this.#found.of))
      this.#found = { of, paths: pathsOf(all, (network) => this.#leases(network)) };
    return this.#found.paths;
  }

  #isDown({ node }: Path): boolean {
    return node !== undefined && !this.options.store.view.alive.has(node);
  }

  #stateOf(path: Path): PathState {
    const { state, misses } = this.#prober.healthOf(path);
    if (this.#isDown(path)) return state === 'ok' && misses === 0 ? 'ok' : 'node-down';
    const found = isOpen(path) ? state : 'blocked';
    // Nobody knows whether a flanneld runs.
    return path.node === undefined && found !== 'ok' && found !== 'mtu' ? 'unknown' : found;
  }

  #report(): void {
    const { memberships, problems, node, store, metrics } = this.options;
    if (!store.state.connected) void this.#causes.inspectOwn();
    const paths = this.#paths();
    this.#reportTables();
    // An idle node has nothing new to tell, each second.
    if (paths === this.#quiet && this.#isQuiet()) return;
    const faults = paths.flatMap((path) => this.#faultOf(path));
    const found = problemsOf(node, faults, this.#allCauses(paths, faults));
    problems.replace(UNDERLAY, OUTAGE.kind, found);
    this.#events.follow(
      [...found].flatMap(([key, problem]) => (key === OUTAGE.id ? [] : [problem])),
      () => this.#statesByNode(paths),
    );
    metrics.peers.reset();
    for (const { network } of memberships.list())
      metrics.peers.set(
        { network: network.name },
        Math.max(0, (store.view.leases.get(network.name)?.size ?? 0) - 1),
      );
    this.#quiet = found.size === 0 && !this.#events.isOpen ? paths : undefined;
  }

  #isQuiet(): boolean {
    const { store, underlay } = this.options;
    return (
      store.state.connected && underlay.outage === undefined && this.#prober.isWell && this.#causes.isIdle
    );
  }

  #statesByNode(paths: readonly Path[]): Map<string, PathState[]> {
    const states = new Map<string, PathState[]>();
    for (const path of paths) {
      if (path.node === undefined) continue;
      const own = states.get(path.node) ?? [];
      own.push(this.#stateOf(path));
      states.set(path.node, own);
    }
    return states;
  }

  #faultOf(path: Path): Fault[] {
    const { memberships, reconciler } = this.options;
    const state = this.#stateOf(path);
    const { node } = path;
    if (node === undefined) return [];
    if (state !== 'mtu' && state !== 'blocked' && state !== 'underlay-unreachable') return [];
    // This node's own end is missing, and a problem already.
    const membership = memberships.get(path.network);
    if (membership !== undefined && reconciler.lacks(driverOf(membership.network).tunnels(membership)))
      return [];
    const { mtu, underlayCarries } = this.#prober.healthOf(path);
    const hears = this.#prober.hears(path);
    return [{ path: { ...path, node }, state, mtu, underlayCarries, hears }];
  }

  #allCauses(paths: readonly Path[], faults: readonly Fault[]): Cause[] {
    const broken: Path[] = faults.map(({ path }) => path);
    const { outage } = this.options.underlay;
    return [
      ...(outage === undefined ? [] : [{ key: OUTAGE.id, problem: outage, explains: () => true }]),
      ...this.#routesOver(broken.filter(isOpen)),
      ...this.#causes.causes(paths, broken),
    ];
  }

  /** Routes of this host that take the packets of a network. */
  #routesOver(broken: readonly OpenPath[]): Cause[] {
    const { overlaps } = this.options;
    const over = ({ network, probe, length }: OpenPath): string | undefined => {
      const route = overlaps.over(network, probe.address, length);
      return route && routeText(route);
    };
    return [...new Set(broken.flatMap((path) => over(path) ?? []))].map((route) => ({
      key: `route ${route}`,
      problem: {
        what: `the route ${route} of this host`,
        why: `packets to containers of other nodes follow ${route}, and not the tunnel`,
        fix: 'Remove the route, or create the network again with another subnet.',
      },
      explains: (path) => isOpen(path) && over(path) === route,
    }));
  }

  #reportTables(): void {
    const { tables } = this.#prober;
    if (tables === this.#tables) return;
    this.#tables = tables;
    const found = new Map<string, Problem>();
    for (const table of tables)
      if (table.entries >= (table.most * 3) / 4) found.set(String(table.family), fullness(table));
    this.options.problems.replace(UNDERLAY, 'neighbour-table', found);
  }
}

const sizeOf = (probe: Probe): number | undefined => ('size' in probe ? probe.size : undefined);

const fullness = ({ family, entries, most }: NeighbourTable): Problem => ({
  what: `the neighbour table of IPv${family}`,
  why: `it has ${entries} of at most ${most} entries; when it is full this host reaches no further neighbours`,
  fix: `Allow more: sysctl net.ipv${family}.neigh.default.gc_thresh3=${most * 4}, and set it in /etc/sysctl.d, too.`,
});
