// Endpoints of this node: containers that are attached, and those whose namespace is still to come. The state directory is
// the truth about them, the reconciler keeps the kernel so, and the publisher writes them to etcd.
import { parseInterface, type IpNetwork } from '../../core/address.js';
import { compileEndpoint, isHost } from '../../core/compile.js';
import { messageOf, notFound } from '../../core/errors.js';
import { reservedIn } from '../../core/drivers/index.js';
import { KeyedMutex } from '../../core/keyed-mutex.js';
import type { ForeignKey } from '../../core/manager.js';
import type { Endpoint, Sandbox } from '../../core/records.js';
import type { Logger } from '../../daemon/log.js';
import type { Addresses } from './addresses.js';
import { type MembershipListener, type Memberships, ownSubnets } from '../networks/index.js';
import { addressesOf } from './endpoint-addresses.js';
import { EndpointTable } from './endpoint-table.js';
import { ownsAddresses, queueOf } from './managers.js';
import type { EndpointResolvConf } from './resolv-conf.js';
import type { PublishedPorts } from './published-ports.js';
import { type Attempt, attempt, endpointScope, type Problems } from '../health/index.js';
import type { Publisher } from './publisher.js';
import { type Reconciler, type SandboxKey, type SandboxRecord } from '../reconcile/index.js';
import type { State } from '../state/index.js';

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
  /** Told at once of what came and what went. */
  onChange?: (endpoint: Endpoint, there: boolean) => void;
}

export const recordOf = ({ network, id }: Endpoint): SandboxKey => ({ kind: 'endpoint', network, id });

const removalOf = (endpoint: Endpoint): Pick<Attempt, 'scope' | 'kind' | 'what'> => ({
  scope: endpointScope(endpoint),
  kind: 'removal',
  what: `the removal of endpoint ${endpoint.name} (${endpoint.id}) of network ${endpoint.network}`,
});

export class Endpoints implements MembershipListener {
  readonly #table: EndpointTable;
  readonly #locks = new KeyedMutex();

  constructor(private readonly options: EndpointsOptions) {
    this.#table = options.table ?? new EndpointTable();
  }

  list(): Endpoint[] {
    return this.#table.list();
  }

  get(id: string): Endpoint | undefined {
    return this.#table.get(id);
  }

  /** By what its manager calls it. */
  findByKey(key: ForeignKey): Endpoint | undefined {
    return this.#table.findByKey(key);
  }

  /** By its container. */
  find(network: string, sandbox: Sandbox): Endpoint | undefined {
    return this.#table.find(network, sandbox);
  }

  /** Runs `work` when everything else for that namespace is done. @param cookie of the namespace */
  exclusively<T>(cookie: string, work: () => Promise<T>): Promise<T> {
    return this.#locks.run(cookie, work);
  }

  /** Runs `work` on an endpoint as it is when its turn comes; on undefined where it has gone meanwhile. */
  inTurn<T>(endpoint: Endpoint, work: (there: Endpoint | undefined) => Promise<T>): Promise<T> {
    return this.#locks.run(queueOf(endpoint), () => work(this.#table.get(endpoint.id)));
  }

  /** Takes up what is remembered; containers that have gone meanwhile are noticed by the first comparison. */
  async restore(endpoints: readonly Endpoint[]): Promise<void> {
    for (const endpoint of endpoints) {
      if (this.#table.has(endpoint.id)) continue;
      this.#table.set(endpoint);
      this.options.onChange?.(endpoint, true);
      if (ownsAddresses(endpoint)) this.#hold(endpoint);
      await this.#adopt(endpoint);
    }
  }

  #hold(endpoint: Endpoint): void {
    for (const ip of addressesOf(endpoint)) this.options.addresses.hold(endpoint.network, ip, endpoint.id);
  }

  /** Takes one up that only the store remembers; its network is joined with it. Where that fails, its addresses stay held. */
  async recover(endpoint: Endpoint): Promise<void> {
    if (ownsAddresses(endpoint)) this.#hold(endpoint);
    await this.options.memberships.join(endpoint.network);
    this.options.state.saveEndpoint(endpoint);
    await this.restore([endpoint]);
  }

  async changed(network: string): Promise<void> {
    for (const { id } of this.list()) {
      // As it is now: the list is of a moment ago.
      const endpoint = this.#table.get(id);
      if (endpoint?.network !== network) continue;
      this.options.resolvConf.trySet(endpoint, endpoint);
      await this.#adopt(endpoint);
    }
    await this.options.ports.follow(network);
  }

  async left(network: string): Promise<void> {
    for (const endpoint of this.list()) {
      if (endpoint.network !== network) continue;
      // The others go all the same, and so does the network.
      await attempt(
        this.options,
        { ...removalOf(endpoint), again: 'Detach it, or end its container: it is tried again then.' },
        () => this.remove(endpoint),
      );
    }
    await this.options.ports.left(network);
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
    for (const subnet of ownSubnets(membership.lease)) {
      const { address } = parseInterface(`${ip}/${subnet.family === 4 ? 32 : 128}`);
      const why = subnet.contains(address) ? reservedIn(membership.network, subnet, address) : undefined;
      if (why !== undefined) return `${ip} ${why}`;
    }
    return undefined;
  }

  /** Neither gone nor described anew. */
  #isCurrent(endpoint: Endpoint): boolean {
    return this.#table.get(endpoint.id) === endpoint;
  }

  async #adopt(endpoint: Endpoint): Promise<void> {
    const membership = this.options.memberships.get(endpoint.network);
    if (membership === undefined) return;
    const { host, container } = compileEndpoint(membership, endpoint);
    const record = recordOf(endpoint);
    if (isHost(endpoint)) {
      await this.options.reconciler.set([[record, host]]);
      if (this.#isCurrent(endpoint)) await this.options.memberships.expose(endpoint.network, endpoint);
      return;
    }
    if (isToCome(endpoint)) await this.options.reconciler.set([[record, host]]);
    else await this.options.reconciler.adopt(record, host, insideOf(endpoint, container));
    // It may have been removed meanwhile, or its ports changed.
    if (endpoint.publish.length > 0 && this.#isCurrent(endpoint))
      await this.options.ports.restore(membership, endpoint);
  }

  /** What is wanted now, and not damage to be put right. */
  async #reprogram(endpoint: Endpoint): Promise<void> {
    const membership = this.options.memberships.get(endpoint.network);
    if (membership === undefined) return;
    const { host } = compileEndpoint(membership, endpoint);
    await this.options.reconciler.set([[recordOf(endpoint), host]]);
    await this.#adopt(endpoint);
  }

  /** Removes an endpoint; what is gone is no error. */
  async disconnect(id: string): Promise<void> {
    const endpoint = this.#table.get(id);
    if (endpoint === undefined) return;
    await this.inTurn(endpoint, async (there) => {
      if (there !== undefined) await this.remove(endpoint);
    });
  }

  /** Writes down what is learnt about an endpoint later. */
  async describe(id: string, about: Partial<Endpoint>): Promise<void> {
    const known = this.#table.get(id);
    if (known === undefined) return;
    await this.inTurn(known, async (endpoint) => {
      if (endpoint === undefined) return;
      const described: Endpoint = { ...endpoint, ...about };
      this.put(described);
      await this.#reprogram(described);
    });
  }

  /**
   * Takes note of an endpoint as the kernel has it now; who wants to know is told once the caller has its answer.
   * @throws WeftError NOT_FOUND for a new one whose network is gone by now, FAILED_PRECONDITION where it cannot be written
   * down
   */
  put(endpoint: Endpoint): void {
    const { id, network } = endpoint;
    if (!this.#table.has(id) && this.options.memberships.get(network) === undefined)
      throw notFound(`this node is not on network ${network} any more`, 'See `weft network ls`.');
    this.options.state.saveEndpoint(endpoint);
    this.#table.set(endpoint);
    setImmediate(() => {
      if (this.#table.get(endpoint.id) !== endpoint) return;
      this.options.onChange?.(endpoint, true);
      this.options.publisher.publish(endpoint);
    });
  }

  /** A container went by itself. Where its endpoint cannot be removed now, the next comparison says so again. */
  sandboxGone(id: string): void {
    const endpoint = this.#table.get(id);
    if (endpoint === undefined) return;
    void this.inTurn(endpoint, async (there) => {
      if (there === undefined) return;
      await attempt(this.options, { ...removalOf(there), again: 'It is tried again every 10 seconds.' }, () =>
        this.remove(there),
      );
      if (this.#table.has(there.id)) return;
      this.options.log.info('a container is gone: its endpoint is removed', {
        endpoint: there.name,
        network: there.network,
        target: there.target,
      });
    });
  }

  /**
   * Takes one away: from the kernel, from what is remembered, and from the store.
   * @throws WeftError where the state directory or the firewall refuses; then it is there as before
   */
  async remove(endpoint: Endpoint): Promise<void> {
    const { reconciler, memberships, addresses, publisher } = this.options;
    await this.#forget(endpoint);
    this.options.problems.clearScope(endpointScope(endpoint));
    this.options.onChange?.(endpoint, false);
    this.options.resolvConf.trySet(endpoint);
    // The routes first: with the address the kernel would take away those that name it as their source.
    if (isHost(endpoint)) await memberships.expose(endpoint.network, undefined).catch(this.#late(endpoint));
    await reconciler.detach(recordOf(endpoint)).catch(this.#late(endpoint));
    if (ownsAddresses(endpoint))
      for (const ip of addressesOf(endpoint)) addresses.free(endpoint.network, ip, endpoint.id);
    publisher.withdraw(endpoint);
    memberships.endpointGone(endpoint.network);
  }

  /** What the kernel keeps of a forgotten endpoint is in no record any more: the next comparison takes it away. */
  #late({ id, name }: Endpoint): (error: unknown) => void {
    return (error) =>
      this.options.log.warn('a removed endpoint is not gone yet', {
        id,
        endpoint: name,
        error: messageOf(error),
      });
  }

  /** What may be refused, all or nothing. */
  async #forget(endpoint: Endpoint): Promise<void> {
    const { state, ports } = this.options;
    // The file first: killed after this line, the leftover link is pruned at the next start; the other way round an
    // endpoint without a container would be made anew.
    state.deleteEndpoint(endpoint.id);
    this.#table.delete(endpoint.id);
    try {
      // Nothing may lead to an address that is the next container's.
      await ports.close(endpoint.id);
    } catch (error) {
      this.#table.set(endpoint);
      state.saveEndpoint(endpoint);
      throw error;
    }
  }
}

/** Of a container whose namespace is still to come. */
export const isToCome = (endpoint: Endpoint): boolean => endpoint.sandbox.cookie === '';

export const insideOf = (endpoint: Endpoint, objects: SandboxRecord['objects']): SandboxRecord => ({
  sandbox: endpoint.sandbox,
  hostIfname: endpoint.hostIfname,
  objects,
});
