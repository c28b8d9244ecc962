// Endpoints of this node: attached containers, and those without a namespace yet.
//
// The state directory is authoritative; the reconciler programs the kernel, and the publisher writes to etcd.
import { IpAddress, parseInterface, type IpNetwork } from '../../core/address.js';
import {
  canResolve,
  compileEndpoint,
  isHost,
  type CompiledEndpoint,
  type Membership,
} from '../../core/compile.js';
import { messageOf, notFound } from '../../core/errors.js';
import { reservedIn } from '../../core/drivers/index.js';
import { KeyedMutex } from '../../core/keyed-mutex.js';
import type { ForeignKey } from '../../core/manager.js';
import { addressesOf, type Endpoint, type Sandbox } from '../../core/records.js';
import type { Logger } from '../../daemon/log.js';
import type { Addresses } from './addresses.js';
import { type MembershipListener, type Memberships, ownSubnets } from '../networks/index.js';
import { EndpointTable, inOneSandbox, isToCome } from './endpoint-table.js';
import { ownsAddresses, queueOf } from './managers.js';
import { PortSecurity } from './port-security.js';
import type { Policies } from '../policy/index.js';
import type { EndpointResolvConf } from './resolv-conf.js';
import type { PublishedPorts } from './published-ports.js';
import { type Attempt, attempt, endpointScope, type Problems } from '../health/index.js';
import type { Publisher } from './publisher.js';
import { type Reconciler, type SandboxKey, type SandboxRecord } from '../reconcile/index.js';
import type { State } from '../state/index.js';

/** Told what has become of an endpoint. */
export type EndpointHappening = (reason: 'attached' | 'detached' | 'vanished', endpoint: Endpoint) => void;

export interface EndpointsOptions {
  table?: EndpointTable;
  reconciler: Reconciler;
  memberships: Memberships;
  addresses: Addresses;
  publisher: Publisher;
  ports: PublishedPorts;
  state: State;
  problems: Problems;
  log: Logger;
  resolvConf: EndpointResolvConf;
  policies?: Policies;
  /** Called synchronously; `there` is false for a removed endpoint. */
  onChange?: (endpoint: Endpoint, there: boolean) => void;
  /** Called when the endpoints of a network that was compiled anew have been, too, or have ended with it. */
  onNetworkChange?: () => void;
  onEndpoint?: EndpointHappening;
}

export const recordOf = ({ network, id }: Endpoint): SandboxKey => ({ kind: 'endpoint', network, id });

const removalOf = (endpoint: Endpoint): Pick<Attempt, 'scope' | 'kind' | 'what'> => ({
  scope: endpointScope(endpoint),
  kind: 'removal',
  what: `the removal of endpoint ${endpoint.name} (${endpoint.id}) of network ${endpoint.network}`,
});

export class Endpoints implements MembershipListener {
  readonly #table: EndpointTable;
  readonly #portSecurity: PortSecurity;
  readonly #locks = new KeyedMutex();

  constructor(private readonly options: EndpointsOptions) {
    this.#table = options.table ?? new EndpointTable();
    this.#portSecurity = new PortSecurity({ ...options, current: () => this.list() });
  }

  list(): Endpoint[] {
    return this.#table.list();
  }

  get(id: string): Endpoint | undefined {
    return this.#table.get(id);
  }

  /** By its manager's key. */
  findByKey(key: ForeignKey): Endpoint | undefined {
    return this.#table.findByKey(key);
  }

  /** By its container. */
  find(network: string, sandbox: Sandbox): Endpoint | undefined {
    return this.#table.find(network, sandbox);
  }

  /** Runs `work` after all other work on that namespace. @param cookie of the namespace */
  exclusively<T>(cookie: string, work: () => Promise<T>): Promise<T> {
    return this.#locks.run(cookie, work);
  }

  /** Runs `work` on the endpoint as it is when its turn comes; undefined if it was removed meanwhile. */
  inTurn<T>(endpoint: Endpoint, work: (there: Endpoint | undefined) => Promise<T>): Promise<T> {
    return this.#locks.run(queueOf(endpoint), () => work(this.#table.get(endpoint.id)));
  }

  /** Restores saved endpoints. Those whose container ended meanwhile are detected by the first reconciliation. */
  async restore(endpoints: readonly Endpoint[]): Promise<void> {
    const fresh = endpoints.filter(({ id }) => !this.#table.has(id));
    for (const endpoint of fresh) {
      this.#table.set(endpoint);
      this.options.onChange?.(endpoint, true);
      if (ownsAddresses(endpoint)) this.#hold(endpoint);
    }
    // What a container has by one endpoint depends on its others.
    for (const { id } of this.list()) {
      const endpoint = this.#table.get(id);
      if (endpoint === undefined) continue;
      if (fresh.some((one) => one.id === id || inOneSandbox(one, endpoint))) await this.#adopt(endpoint);
    }
  }

  #hold(endpoint: Endpoint): void {
    for (const ip of addressesOf(endpoint)) this.options.addresses.hold(endpoint.network, ip, endpoint.id);
  }

  /** Restores an endpoint that only the store has, and joins its network. If that fails, its addresses stay held. */
  async recover(endpoint: Endpoint): Promise<void> {
    if (ownsAddresses(endpoint)) this.#hold(endpoint);
    await this.options.memberships.join(endpoint.network, { again: true });
    this.options.state.saveEndpoint(endpoint);
    await this.restore([endpoint]);
  }

  async changed(network: string): Promise<void> {
    for (const { id } of this.list()) {
      // Read again: the list may be out of date after an await.
      const endpoint = this.#table.get(id);
      if (endpoint?.network !== network) continue;
      this.options.resolvConf.trySet(endpoint, endpoint);
      await this.#adopt(endpoint);
    }
    await this.options.ports.follow(network);
    this.options.onNetworkChange?.();
  }

  async left(network: string): Promise<void> {
    for (const endpoint of this.list()) {
      if (endpoint.network !== network) continue;
      // One that fails keeps neither the others nor the network.
      await attempt(
        this.options,
        { ...removalOf(endpoint), again: 'Detach it or end its container to try again.' },
        () => this.remove(endpoint),
      );
    }
    await this.options.ports.left(network);
    this.options.onNetworkChange?.();
  }

  isUsed(network: string, within?: IpNetwork): boolean {
    const hasOne = ({ ip }: Endpoint): boolean => within?.contains(parseInterface(ip).address) ?? true;
    return this.list().some((endpoint) => endpoint.network === network && hasOne(endpoint));
  }

  refusal(network: string, ip: string, endpoint: string): string | undefined {
    const membership = this.options.memberships.get(network);
    const id = this.options.addresses.holder(network, ip);
    if (id !== undefined && id !== endpoint)
      return `${ip} is in use by ${this.#table.get(id)?.name ?? 'a container that is being attached'}`;
    if (membership === undefined) return undefined;
    const address = IpAddress.parse(ip);
    for (const subnet of ownSubnets(membership.lease)) {
      const why = subnet.contains(address) ? reservedIn(membership.network, subnet, address) : undefined;
      if (why !== undefined) return `${ip} ${why}`;
    }
    return undefined;
  }

  /** Neither removed nor changed meanwhile. */
  #isCurrent(endpoint: Endpoint): boolean {
    return this.#table.get(endpoint.id) === endpoint;
  }

  compile(membership: Membership, endpoint: Endpoint): CompiledEndpoint {
    const shared = this.#portSecurity.sharedWith(endpoint);
    return compileEndpoint(membership, endpoint, this.resolves(endpoint), shared);
  }

  /**
   * Whether its container reaches the node's name server by it: the first of the container's endpoints that can. Two routes to
   * one address would replace each other.
   */
  resolves(endpoint: Endpoint): boolean {
    const can = (one: Endpoint): boolean => {
      const membership = this.options.memberships.get(one.network);
      return membership !== undefined && canResolve(membership, one);
    };
    const isBefore = (one: Endpoint): boolean =>
      one.createdAt < endpoint.createdAt || (one.createdAt === endpoint.createdAt && one.id < endpoint.id);
    return (
      can(endpoint) && !this.list().some((one) => inOneSandbox(one, endpoint) && isBefore(one) && can(one))
    );
  }

  /** An endpoint of the container is gone: another one may lead to the name server now. */
  async #moveResolver(gone: Endpoint): Promise<void> {
    const next = this.list().find((one) => inOneSandbox(one, gone) && this.resolves(one));
    if (next === undefined) return;
    await this.inTurn(next, async (there) => {
      if (there !== undefined) await this.#adopt(there);
    });
  }

  /** Whether these are the only ones with their addresses has changed. Not awaited: each has its own turn. */
  #followShared(endpoints: readonly Endpoint[]): void {
    for (const one of endpoints)
      void this.inTurn(one, async (there) => {
        if (there !== undefined) await this.#reprogram(there);
      }).catch((error: unknown) =>
        this.options.log.warn('a neighbour entry could not be changed', {
          endpoint: one.name,
          error: messageOf(error),
        }),
      );
  }

  async #adopt(endpoint: Endpoint): Promise<void> {
    const membership = this.options.memberships.get(endpoint.network);
    if (membership === undefined) return;
    const { host, container } = this.compile(membership, endpoint);
    const record = recordOf(endpoint);
    if (isHost(endpoint)) {
      await this.bind(endpoint);
      await this.options.reconciler.set([[record, host]]);
      if (this.#isCurrent(endpoint)) await this.options.memberships.expose(endpoint.network, endpoint);
      return;
    }
    await this.bind(endpoint);
    if (isToCome(endpoint)) await this.options.reconciler.set([[record, host]]);
    else await this.options.reconciler.adopt(record, host, insideOf(endpoint, container));
    // Meanwhile it may have been removed, or its ports changed.
    if (endpoint.publish.length > 0 && this.#isCurrent(endpoint))
      await this.options.ports.restore(membership, endpoint);
  }

  /** Binds the ports of its container. @throws WeftError with the firewall's error */
  bind(endpoint: Endpoint): Promise<void> {
    return this.#portSecurity.bind(endpoint);
  }

  /** Ends what was bound of an endpoint that is gone. */
  async release(endpoint: Endpoint): Promise<void> {
    await this.#portSecurity.release(endpoint).catch(this.#late(endpoint));
  }

  /** Sets the desired state, so that the change does not count as drift. */
  async #reprogram(endpoint: Endpoint): Promise<void> {
    const membership = this.options.memberships.get(endpoint.network);
    if (membership === undefined) return;
    const { host } = this.compile(membership, endpoint);
    await this.options.reconciler.set([[recordOf(endpoint), host]]);
    await this.#adopt(endpoint);
  }

  /** Removes an endpoint; an unknown id is no error. */
  async disconnect(id: string): Promise<void> {
    const endpoint = this.#table.get(id);
    if (endpoint === undefined) return;
    await this.inTurn(endpoint, async (there) => {
      if (there !== undefined) await this.remove(endpoint);
    });
  }

  /** Saves fields that are learnt later, and reprograms the endpoint. @param about as it is when its turn comes */
  async describe(
    id: string,
    about: Partial<Endpoint> | ((endpoint: Endpoint) => Partial<Endpoint>),
  ): Promise<void> {
    const known = this.#table.get(id);
    if (known === undefined) return;
    await this.inTurn(known, async (endpoint) => {
      if (endpoint === undefined) return;
      const change = typeof about === 'function' ? about(endpoint) : about;
      const described: Endpoint = { ...endpoint, ...change };
      this.put(described);
      await this.#reprogram(described);
    });
  }

  /**
   * Saves an endpoint that the kernel has. `onChange` and the publisher run after the caller has its answer.
   * @throws WeftError NOT_FOUND for a new one whose network was left meanwhile, FAILED_PRECONDITION if it cannot be saved
   */
  put(endpoint: Endpoint): void {
    const { id, network } = endpoint;
    if (!this.#table.has(id) && this.options.memberships.get(network) === undefined)
      throw notFound(`this node is not on network ${network} any more`, 'See `weft network ls`.');
    this.options.state.saveEndpoint(endpoint);
    const before = this.#table.get(id);
    this.#table.set(endpoint);
    if (before === undefined) this.options.onEndpoint?.('attached', endpoint);
    this.#followShared(this.#portSecurity.sharers(endpoint, before));
    setImmediate(() => {
      if (this.#table.get(endpoint.id) !== endpoint) return;
      this.options.onChange?.(endpoint, true);
      this.options.publisher.publish(endpoint);
    });
  }

  /** A container has ended. If its endpoint cannot be removed now, the next reconciliation reports it again. */
  sandboxGone(id: string): void {
    const endpoint = this.#table.get(id);
    if (endpoint === undefined) return;
    void this.inTurn(endpoint, async (there) => {
      if (there === undefined) return;
      await attempt(this.options, { ...removalOf(there), again: 'It is tried again every 10 seconds.' }, () =>
        this.remove(there, 'vanished'),
      );
      if (this.#table.has(there.id)) return;
      this.options.log.info('removed the endpoint of a container that ended', {
        endpoint: there.name,
        network: there.network,
        target: there.target,
      });
    });
  }

  /**
   * Removes an endpoint from the state directory, the kernel and the store.
   * @throws WeftError if the state directory or the firewall fails; then nothing was changed
   */
  async remove(endpoint: Endpoint, reason: 'detached' | 'vanished' = 'detached'): Promise<void> {
    const { reconciler, memberships, addresses, publisher } = this.options;
    await this.#forget(endpoint);
    this.options.problems.clearScope(endpointScope(endpoint));
    this.options.onEndpoint?.(reason, endpoint);
    this.options.onChange?.(endpoint, false);
    this.options.resolvConf.trySet(endpoint);
    // Routes first: the kernel deletes routes whose source address is deleted.
    if (isHost(endpoint)) await memberships.expose(endpoint.network, undefined).catch(this.#late(endpoint));
    await reconciler.detach(recordOf(endpoint)).catch(this.#late(endpoint));
    await this.release(endpoint);
    if (ownsAddresses(endpoint))
      for (const ip of addressesOf(endpoint)) addresses.free(endpoint.network, ip, endpoint.id);
    publisher.withdraw(endpoint);
    this.#followShared(this.#portSecurity.sharers({ ...endpoint, allowedAddresses: [] }, endpoint));
    memberships.endpointGone(endpoint.network);
    // Whether this one had the route cannot be asked any more where its network was left. Not awaited: endpoints of one
    // container change in turn, and this is the turn of the one that goes.
    void this.#moveResolver(endpoint).catch((error: unknown) =>
      this.options.log.warn('the route to the name server could not be moved', {
        endpoint: endpoint.name,
        error: messageOf(error),
      }),
    );
  }

  /** Objects that the kernel still has of a removed endpoint are in no record: the next reconciliation prunes them. */
  #late({ id, name }: Endpoint): (error: unknown) => void {
    return (error) =>
      this.options.log.warn('a removed endpoint is still in the kernel', {
        id,
        endpoint: name,
        error: messageOf(error),
      });
  }

  /** Deletes the state file and closes the ports, all or nothing. */
  async #forget(endpoint: Endpoint): Promise<void> {
    const { state, ports } = this.options;
    // The file first: if the agent is killed after this line, the leftover link is pruned at the next start. The other way
    // round, an endpoint without a container would be restored.
    state.deleteEndpoint(endpoint.id);
    this.#table.delete(endpoint.id);
    try {
      // No port may lead to an address that the next container gets.
      await ports.close(endpoint.id);
    } catch (error) {
      this.#table.set(endpoint);
      state.saveEndpoint(endpoint);
      throw error;
    }
  }
}

export const insideOf = (endpoint: Endpoint, objects: SandboxRecord['objects']): SandboxRecord => ({
  sandbox: endpoint.sandbox,
  hostIfname: endpoint.hostIfname,
  objects,
});
