// An in-memory store with the contract of store/store.ts.
//
// For tests of what is built on a store. Changes are delivered at once; while it is "away" they wait, as behind a broken
// connection, and writes fail.
import { IpAddress, IpNetwork } from '../../core/address.js';
import {
  alreadyExists,
  failedPrecondition,
  notFound,
  resourceExhausted,
  unavailable,
} from '../../core/errors.js';
import { backendIn } from '../../core/backends/index.js';
import { backendTypeOf, driverOf, isBridged, networkOf } from '../../core/drivers/index.js';
import type { NetworkSpec, OverlayNetwork } from '../../core/network.js';
import { checkOverlap } from '../../core/overlap.js';
import { allowSame, type Policy } from '../../core/policy/index.js';
import {
  claimsConflict,
  type ClaimHolder,
  type BadRecord,
  type Claim,
  type Endpoint,
  type Lease,
  type Network,
  type NodeRecord,
  type OwnName,
  type Removal,
} from '../../core/records.js';
import { DisplacedNodes } from '../../store/displaced-nodes.js';
import { LiveView } from '../../store/live-view.js';
import { predates } from '../../core/lost-records.js';
import { unservedConfig } from '../../store/unserved.js';
import type { NameRequest } from '../../store/own-names.js';
import type {
  Announcement,
  AnnounceOptions,
  Change,
  ClaimRequest,
  FollowedNetwork,
  LeaseRequest,
  NetworkChange,
  Store,
  StoredLease,
  StoreState,
  View,
} from '../../store/store.js';

type Operation = (view: LiveView) => Change[];

export class FakeStore implements Store {
  isSynced: boolean;
  /** Number of calls of leaseTimes. */
  leaseTimesAsked = 0;
  /** The result of leaseTimes, in seconds. */
  remainingSeconds = 3600;
  readonly #view = new LiveView();
  readonly #waiting: Operation[] = [];
  readonly #listeners = new Set<(changes: readonly Change[]) => void>();
  readonly #stateListeners = new Set<(state: StoreState) => void>();
  readonly #syncWaiters = new Set<() => void>();
  readonly #campaigns: (() => void)[] = [];
  #state: StoreState;
  #leading = false;
  #announced: (() => NodeRecord) | undefined;
  #nextLease = 1;
  /** When each config was written last and each lease's key was made, in the order of writes. */
  readonly #written = new Map<string, number>();
  #writes = 0;

  constructor({ synced = true }: { synced?: boolean } = {}) {
    this.isSynced = synced;
    this.#state = { connected: synced, since: new Date(), revision: 1, resyncs: 0 };
  }

  /** It has the records of all networks. */
  follows(): boolean {
    return this.isSynced;
  }

  follow(): FollowedNetwork {
    return { listed: () => Promise.resolve(), end: () => undefined };
  }

  narrow(): void {}

  // For tests.

  /** Number of subscribers. */
  get listenerCount(): number {
    return this.#listeners.size;
  }

  /** Breaks the connection to etcd, or restores it and delivers what happened meanwhile. */
  setConnected(connected: boolean): void {
    const { error: _error, ...state } = this.#state;
    this.#state = {
      ...state,
      connected,
      since: new Date(),
      ...(connected ? {} : { error: 'etcd does not answer' }),
    };
    for (const listener of this.#stateListeners) listener(this.#state);
    if (connected) this.#deliver(...this.#waiting.splice(0));
  }

  /** Delivers the first list. */
  sync(): void {
    this.isSynced = true;
    this.setConnected(true);
    for (const waiter of this.#syncWaiters) waiter();
  }

  putNetwork(network: Network): void {
    this.#written.set(network.name, ++this.#writes);
    this.#change((view) => [view.put({ kind: 'network', name: network.name, value: network })]);
  }

  putLease(lease: Omit<StoredLease, 'etcdLease'> & { etcdLease?: string }): StoredLease {
    const value = { etcdLease: lease.reservation ? '0' : String(this.#nextLease++), ...lease };
    const subnet = lease.subnet.toString();
    const made = this.#view.leases.get(lease.network)?.has(subnet) === true;
    if (!made) this.#written.set(`${lease.network} ${subnet}`, ++this.#writes);
    this.#change((view) => [view.put({ kind: 'lease', network: lease.network, subnet, value })]);
    return value;
  }

  putNode(node: NodeRecord, { alive = true }: { alive?: boolean } = {}): void {
    this.#change((view) => [
      view.put({ kind: 'node', name: node.name, value: node }),
      ...(alive ? [view.put({ kind: 'alive', name: node.name, value: node.instance })] : []),
    ]);
  }

  setAlive(name: string, instance: string | undefined): void {
    this.#change((view) => {
      if (instance !== undefined) return [view.put({ kind: 'alive', name, value: instance })];
      const value = view.alive.get(name);
      return value === undefined ? [] : [view.remove({ kind: 'alive', name, value })];
    });
  }

  /** Deletes a node as by etcdctl: without a tombstone. */
  dropNode(name: string): void {
    this.#change((view) => {
      const value = view.nodes.get(name);
      return value === undefined ? [] : [view.remove({ kind: 'node', name, value })];
    });
  }

  putRecordOf(endpoint: Endpoint): void {
    const { network, id } = endpoint;
    this.#change((view) => [view.put({ kind: 'endpoint', network, id, value: endpoint })]);
  }

  putClaim(claim: Claim): void {
    const { network, ip } = claim;
    this.#change((view) => [view.put({ kind: 'claim', network, ip: ip.toString(), value: claim })]);
  }

  /** Etcd comes back empty: everything is lost, not removed. */
  loseEverything(): void {
    this.#change((view) => {
      const networks = [...view.networks.entries()];
      const changes = [
        ...networks.map(([name, value]) => view.remove({ kind: 'network', name, value })),
        ...networks.flatMap(([name]) => inNetwork(view, name, () => true)),
        ...[...view.nodes].map(([name, value]) => view.remove({ kind: 'node', name, value })),
        ...[...view.alive].map(([name, value]) => view.remove({ kind: 'alive', name, value })),
      ];
      for (const change of changes)
        if (change.kind === 'lease' || change.kind === 'claim') change.lost = true;
      return changes;
    });
  }

  putRemoval(removal: Removal): void {
    const key = `${removal.kind} ${removal.name}`;
    this.#change((view) => [view.put({ kind: 'removal', key, value: removal })]);
  }

  putBad(bad: BadRecord): void {
    this.#change((view) => [view.putBad(bad)]);
  }

  // The contract.

  get view(): View {
    return this.#view;
  }

  get state(): StoreState {
    return this.#state;
  }

  async synced(signal?: AbortSignal): Promise<void> {
    if (this.isSynced) return;
    await new Promise<void>((resolve, reject) => {
      signal?.addEventListener(
        'abort',
        () => reject(new Error('the wait was given up', { cause: signal.reason })),
        {
          once: true,
        },
      );
      this.#syncWaiters.add(resolve);
    });
  }

  subscribe(listener: (changes: readonly Change[]) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  onState(listener: (state: StoreState) => void): () => void {
    this.#stateListeners.add(listener);
    return () => this.#stateListeners.delete(listener);
  }

  predatesConfig({ network, subnet }: Lease): boolean {
    return (this.#written.get(`${network} ${subnet.toString()}`) ?? 0) < (this.#written.get(network) ?? 0);
  }

  reconnect(): void {
    // There is no connection to renew.
  }

  async seeNetwork(): Promise<void> {
    this.#requireConnection();
  }

  async createNetwork(spec: NetworkSpec): Promise<Network> {
    this.#requireConnection();
    const network = this.#allocated(spec);
    this.#change((view) => [
      ...this.#dropRemoval(view, 'network', spec.name),
      view.put({ kind: 'network', name: spec.name, value: network }),
    ]);
    return network;
  }

  checkNetwork(spec: NetworkSpec): Network {
    this.#allocated(spec);
    return networkOf(spec);
  }

  async removeNetwork(
    name: string,
    { force, unleased = false }: { force: boolean; unleased?: boolean },
  ): Promise<void> {
    this.#requireConnection();
    const bad = unservedConfig(this.#view, name);
    const network = this.#view.networks.get(name);
    if (network === undefined && bad === undefined)
      throw notFound(`network ${name}: there is no such network`);
    const endpoints = this.#view.endpoints.get(name)?.size ?? 0;
    if (endpoints > 0 && !force) {
      throw failedPrecondition(
        `network ${name}: ${endpoints} endpoints are on it`,
        'Detach them first, or use --force.',
      );
    }
    if (unleased && (this.#view.leases.get(name)?.size ?? 0) > 0) {
      throw failedPrecondition(`network ${name}: other nodes have a subnet in it`);
    }
    this.#change((view) => [
      ...inNetwork(view, name, () => true),
      ...(network === undefined ? [] : [view.remove({ kind: 'network', name, value: network })]),
      ...(bad === undefined ? [] : [view.removeBad(bad)]),
      this.#mark(view, 'network', name, force),
    ]);
  }

  async updateNetwork(name: string, change: NetworkChange): Promise<Network> {
    this.#requireConnection();
    const network = this.#view.networks.get(name);
    if (network === undefined) throw notFound(`network ${name}: there is no such network`);
    const { routes: before = [] } = network;
    const routes = [...new Set([...before, ...(change.addRoutes ?? [])])].filter(
      (other) => change.removeRoutes?.includes(other) !== true,
    );
    const moved = isBridged(network) ? network : this.#moved(network, change.move);
    const { routes: _routes, isolated, ...backend } = moved;
    const changed: Network = {
      ...backend,
      ...((change.isolated ?? isolated) === true && { isolated: true }),
      masquerade: change.masquerade ?? network.masquerade,
      ...(routes.length === 0 ? {} : { routes }),
    };
    this.putNetwork(changed);
    return changed;
  }

  #moved(network: OverlayNetwork, move: NetworkChange['move']): OverlayNetwork {
    const { beside, ...alone } = network;
    if (move === undefined) return network;
    if (move === 'end') return alone;
    if ('prepare' in move) return beside === undefined ? { ...network, beside: move.prepare } : network;
    return beside === undefined ? network : { ...beside, beside: alone as OverlayNetwork };
  }

  async restoreNetwork(network: Network, _own?: LeaseRequest, had?: string): Promise<boolean> {
    this.#requireConnection();
    const { name } = network;
    const removal = this.#view.removals.get(`network ${name}`);
    if (this.#view.networks.has(name) || (removal !== undefined && !predates(removal, had))) return false;
    this.#change((view) => this.#dropRemoval(view, 'network', name));
    this.putNetwork(network);
    return true;
  }

  async proposeSubnet(): Promise<boolean> {
    this.#requireConnection();
    return true;
  }

  async acquireLease(request: LeaseRequest, signal?: AbortSignal): Promise<StoredLease> {
    signal?.throwIfAborted();
    this.#requireConnection();
    this.checkName();
    const { network, node, instance, publicIp, publicIp6, mtu, data } = request;
    const there = [...(this.#view.leases.get(network.name)?.values() ?? [])];
    const own = there.find((lease) => lease.instance === instance || lease.publicIp.equals(publicIp));
    const subnets = own ?? request.wanted ?? request.previous ?? this.#freeSubnets(network, there);
    return this.putLease({
      network: network.name,
      subnet: subnets.subnet,
      ...(subnets.subnet6 === undefined ? {} : { subnet6: subnets.subnet6 }),
      node,
      instance,
      publicIp,
      ...(data === undefined ? {} : { data }),
      ...(request.beside === undefined ? {} : { beside: request.beside }),
      backendType: backendTypeOf(network),
      reservation: own?.reservation ?? false,
      ...(publicIp6 === undefined ? {} : { publicIp6 }),
      ...(mtu === undefined ? {} : { mtu }),
    });
  }

  async renewLease(lease: StoredLease, _ttlSeconds: number): Promise<StoredLease> {
    this.#requireConnection();
    if (lease.reservation) return lease;
    const { etcdLease: _old, ...rest } = lease;
    return this.putLease(rest);
  }

  async releaseLease({ network, subnet }: Lease): Promise<void> {
    this.#requireConnection();
    const text = subnet.toString();
    this.#change((view) => {
      const value = view.leases.get(network)?.get(text);
      return value === undefined ? [] : [view.remove({ kind: 'lease', network, subnet: text, value })];
    });
  }

  async putEndpoint(endpoint: Endpoint, { unique }: { unique: boolean }): Promise<void> {
    this.#requireConnection();
    this.checkName();
    const { network, name, id } = endpoint;
    const displaced = new DisplacedNodes(this.#view);
    const others = [...(this.#view.endpoints.get(network)?.values() ?? [])].filter(
      (it) => it.id !== id && it.name === name,
    );
    const other = others
      .filter((it) => it.node === endpoint.node || !displaced.isGone(it.node))
      .find((it) => unique || it.explicitName);
    if (other !== undefined) throw alreadyExists(`name: "${name}" is endpoint ${other.id}'s`);
    this.putRecordOf(endpoint);
  }

  async deleteEndpoint(network: string, id: string): Promise<void> {
    this.#requireConnection();
    this.#change((view) => {
      const value = view.endpoints.get(network)?.get(id);
      return value === undefined ? [] : [view.remove({ kind: 'endpoint', network, id, value })];
    });
  }

  async claimAddress(wanted: ClaimRequest, signal?: AbortSignal): Promise<Claim> {
    this.#requireConnection();
    const { network, ip, node, endpoint } = wanted;
    const name = network.name;
    const text = ip.toString();
    const other = this.#view.claims.get(name)?.get(text);
    if (other !== undefined && other.endpoint !== endpoint)
      throw alreadyExists(`ip: ${text} is used by ${other.endpoint}`);
    const owner = [...(this.#view.leases.get(name)?.values() ?? [])].find(({ subnet, subnet6 }) => {
      return subnet.contains(ip) || subnet6?.contains(ip) === true;
    });
    if (owner !== undefined && owner.node === undefined) {
      throw failedPrecondition(`ip: ${text} is in the subnet of a flanneld`);
    }
    const lost = wanted.retainedFor?.();
    if (lost !== undefined) throw failedPrecondition(`ip: ${text} ${lost}`);
    const claim: Claim = {
      network: name,
      ip,
      node,
      endpoint,
      state: owner === undefined ? 'granted' : 'asked',
    };
    this.putClaim(claim);
    const answered = claim.state === 'granted' ? claim : await this.#answerOf(name, text, signal);
    if (answered?.state === 'granted') return answered;
    await this.deleteClaim(name, text, endpoint);
    signal?.throwIfAborted();
    throw failedPrecondition(`ip: ${text}: ${answered?.why ?? 'its owner did not answer'}`);
  }

  async answerClaim(
    { network, ip }: Claim,
    answer: { granted: true } | { granted: false; why: string },
  ): Promise<boolean> {
    this.#requireConnection();
    const claim = this.#view.claims.get(network)?.get(ip.toString());
    if (claim === undefined) return false;
    this.putClaim(
      answer.granted ? { ...claim, state: 'granted' } : { ...claim, state: 'refused', why: answer.why },
    );
    return true;
  }

  async restoreClaim(claim: Claim, from?: ClaimHolder): Promise<boolean> {
    this.#requireConnection();
    const there = this.#view.claims.get(claim.network)?.get(claim.ip.toString());
    const isSeized = there !== undefined && there.node === from?.node && there.endpoint === from.endpoint;
    if (isSeized) {
      this.putClaim(claim);
      return true;
    }
    if (there !== undefined && claimsConflict(there, claim))
      throw alreadyExists(`ip: ${claim.ip.toString()} is used by ${there.endpoint}`);
    if (there !== undefined) return false;
    this.putClaim(claim);
    return true;
  }

  async deleteClaim(network: string, ip: string, endpoint: string): Promise<void> {
    this.#requireConnection();
    this.#change((view) => {
      const value = view.claims.get(network)?.get(ip);
      return value?.endpoint === endpoint ? [view.remove({ kind: 'claim', network, ip, value })] : [];
    });
  }

  async addName({ network, name, ips }: NameRequest): Promise<OwnName> {
    this.#requireConnection();
    if (!this.#view.networks.has(network)) throw notFound(`there is no network ${network}`);
    const there = this.#view.names.get(network)?.get(name);
    const fresh = ips.filter((ip) => there?.ips.some((known) => known.equals(ip)) !== true);
    const createdAt = there?.createdAt ?? new Date().toISOString();
    const value: OwnName = { network, name, ips: [...(there?.ips ?? []), ...fresh], createdAt };
    this.#change((view) => [view.put({ kind: 'ownName', network, name, value })]);
    return value;
  }

  async removeName({ network, name, ips }: NameRequest): Promise<void> {
    this.#requireConnection();
    const there = this.#view.names.get(network)?.get(name);
    const missing = ips.some((ip) => there?.ips.some((known) => known.equals(ip)) !== true);
    if (there === undefined || missing) throw notFound(`network ${network} has no name ${name}`);
    const left = ips.length === 0 ? [] : there.ips.filter((ip) => !ips.some((it) => it.equals(ip)));
    this.#change((view) => [
      left.length === 0
        ? view.remove({ kind: 'ownName', network, name, value: there })
        : view.put({ kind: 'ownName', network, name, value: { ...there, ips: left } }),
    ]);
  }

  async createPolicy(policy: Policy): Promise<Policy> {
    this.#requireConnection();
    const there = this.#view.policies.get(policy.name);
    if (there !== undefined && !allowSame(there, policy))
      throw alreadyExists(`policy ${policy.name}: there is one of that name that allows something else`);
    const value = there ?? policy;
    this.#change((view) => [view.put({ kind: 'policy', name: policy.name, value })]);
    return value;
  }

  async removePolicy(name: string): Promise<void> {
    this.#requireConnection();
    const value = this.#view.policies.get(name);
    if (value === undefined) throw notFound(`policy ${name}: there is no such policy`);
    this.#change((view) => [view.remove({ kind: 'policy', name, value })]);
  }

  announce(node: () => NodeRecord, { onConflict }: AnnounceOptions): Announcement {
    this.#announced = node;
    const write = (): void => {
      const record = node();
      const holder = this.#view.alive.get(record.name);
      if (holder !== undefined && holder !== record.instance) {
        return onConflict({ instance: holder, publicIp: this.#view.nodes.get(record.name)?.publicIp ?? '' });
      }
      this.#change((view) => this.#dropRemoval(view, 'node', record.name));
      this.putNode(record);
    };
    write();
    return {
      refresh: write,
      stop: async () => {
        if (this.#view.alive.get(node().name) === node().instance) this.setAlive(node().name, undefined);
      },
    };
  }

  checkName(): void {
    const node = this.#announced?.();
    const holder = node === undefined ? undefined : this.#view.alive.get(node.name);
    if (node !== undefined && holder !== undefined && holder !== node.instance)
      throw failedPrecondition(`the name ${node.name} is another node's`);
  }

  async removeNode(name: string, { force }: { force: boolean }): Promise<void> {
    this.#requireConnection();
    const node = this.#view.nodes.get(name);
    const alive = this.#view.alive.get(name);
    const belongings = [...this.#view.leases.values(), ...this.#view.endpoints.values()].flatMap((byKey) => [
      ...byKey.values(),
    ]);
    if (node === undefined && !belongings.some((it) => it.node === name))
      throw notFound(`node ${name}: there is no such node`);
    if (alive !== undefined && !force)
      throw failedPrecondition(`node ${name}: is up`, 'Stop its agent, or use --force.');
    const networks = new Set([
      ...this.#view.leases.keys(),
      ...this.#view.endpoints.keys(),
      ...this.#view.claims.keys(),
    ]);
    this.#change((view) => [
      ...[...networks].flatMap((network) => inNetwork(view, network, (it) => it.node === name)),
      ...(node === undefined ? [] : [view.remove({ kind: 'node', name, value: node })]),
      ...(alive === undefined ? [] : [view.remove({ kind: 'alive', name, value: alive })]),
      this.#mark(view, 'node', name, force),
    ]);
  }

  async leaseTimes(leases: readonly StoredLease[]): Promise<Map<StoredLease, number>> {
    this.#requireConnection();
    this.leaseTimesAsked += 1;
    return new Map(
      leases.filter((lease) => !lease.reservation).map((lease) => [lease, this.remainingSeconds]),
    );
  }

  async campaign(
    _name: string,
    _id: string,
    lead: (signal: AbortSignal) => Promise<void>,
    signal: AbortSignal,
  ): Promise<void> {
    if (this.#leading) await new Promise<void>((resolve) => this.#campaigns.push(resolve));
    if (signal.aborted) return;
    this.#leading = true;
    await lead(signal);
    this.#leading = false;
    this.#campaigns.shift()?.();
  }

  async close(): Promise<void> {
    this.#listeners.clear();
    this.#stateListeners.clear();
  }

  #requireConnection(): void {
    if (!this.#state.connected) throw unavailable('etcd does not answer', 'See that etcd runs.');
  }

  #change(operation: Operation): void {
    if (this.#state.connected || !this.isSynced) this.#deliver(operation);
    else this.#waiting.push(operation);
  }

  #deliver(...operations: Operation[]): void {
    const changes = operations.flatMap((operation) => operation(this.#view));
    if (changes.length === 0) return;
    this.#state = { ...this.#state, revision: this.#state.revision + 1 };
    for (const listener of this.#listeners) listener(changes);
  }

  /** The network with what must differ from all others. @throws WeftError where it cannot be beside them */
  #allocated(spec: NetworkSpec): Network {
    const wanted = networkOf(spec);
    if (this.#view.networks.has(spec.name)) throw alreadyExists(`network ${spec.name} exists already`);
    const others = [...this.#view.networks.values()];
    const network = isBridged(wanted)
      ? wanted
      : backendIn(wanted).allocate(
          wanted,
          others.flatMap((other) =>
            isBridged(other)
              ? []
              : [{ name: other.name, network: other, ports: driverOf(other).udpPorts(other) }],
          ),
          () => 0,
        );
    checkOverlap(
      network,
      others,
      [...this.#view.nodes.values()].map(({ name, publicIp }) => ({
        node: name,
        ip: IpAddress.parse(publicIp),
      })),
    );
    driverOf(network).checkBeside(network, others);
    return network;
  }

  #mark(view: LiveView, kind: Removal['kind'], name: string, forced: boolean): Change {
    const value: Removal = { kind, name, at: new Date().toISOString(), forced };
    return view.put({ kind: 'removal', key: `${kind} ${name}`, value });
  }

  #dropRemoval(view: LiveView, kind: Removal['kind'], name: string): Change[] {
    const key = `${kind} ${name}`;
    const value = view.removals.get(key);
    return value === undefined ? [] : [view.remove({ kind: 'removal', key, value })];
  }

  async #answerOf(network: string, ip: string, signal?: AbortSignal): Promise<Claim | undefined> {
    return new Promise((resolve) => {
      const settle = (claim: Claim | undefined): void => {
        unsubscribe();
        clearTimeout(deadline);
        signal?.removeEventListener('abort', giveUp);
        resolve(claim);
      };
      const look = (): void => {
        const claim = this.#view.claims.get(network)?.get(ip);
        if (claim?.state !== 'asked') settle(claim);
      };
      const giveUp = (): void => settle(undefined);
      const unsubscribe = this.subscribe(look);
      const deadline = setTimeout(giveUp, 2000);
      signal?.addEventListener('abort', giveUp, { once: true });
      look();
    });
  }

  #freeSubnets(network: Network, there: readonly StoredLease[]): { subnet: IpNetwork; subnet6?: IpNetwork } {
    const free = (first: IpNetwork, last: IpNetwork, taken: (subnet: IpNetwork) => boolean): IpNetwork => {
      for (let subnet = first; subnet.base.value <= last.base.value; subnet = nextOf(subnet)) {
        if (!taken(subnet)) return subnet;
      }
      throw resourceExhausted(`network ${network.name}: every subnet is taken`);
    };
    const { range, range6 } = network;
    const subnet = free(range.first, range.last, (it) => there.some((lease) => lease.subnet.overlaps(it)));
    if (range6 === undefined) return { subnet };
    return {
      subnet,
      subnet6: free(range6.first, range6.last, (it) =>
        there.some((lease) => lease.subnet6?.overlaps(it) === true),
      ),
    };
  }
}

const nextOf = (subnet: IpNetwork): IpNetwork => IpNetwork.of(subnet.base.plus(subnet.size), subnet.length);

/** Deletes those leases, endpoints and claims of a network that match. */
function inNetwork(
  view: LiveView,
  network: string,
  wanted: (record: { node?: string | undefined }) => boolean,
): Change[] {
  const leases = [...(view.leases.get(network) ?? [])].filter(([, lease]) => wanted(lease));
  const endpoints = [...(view.endpoints.get(network) ?? [])].filter(([, endpoint]) => wanted(endpoint));
  const claims = [...(view.claims.get(network) ?? [])].filter(([, claim]) => wanted(claim));
  // Without an owner: they are deleted only with the network.
  const names = wanted({}) ? [...(view.names.get(network) ?? [])] : [];
  return [
    ...leases.map(([subnet, value]) => view.remove({ kind: 'lease', network, subnet, value })),
    ...endpoints.map(([id, value]) => view.remove({ kind: 'endpoint', network, id, value })),
    ...claims.map(([ip, value]) => view.remove({ kind: 'claim', network, ip, value })),
    ...names.map(([name, value]) => view.remove({ kind: 'ownName', network, name, value })),
  ];
}
