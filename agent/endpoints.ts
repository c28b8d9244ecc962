// The containers that are attached on this node: attaching and detaching them, all or nothing. The state directory is the
// truth about them; the reconciler keeps them right; the store is told. Which address is whose is the business of Addresses.
import { randomBytes } from 'node:crypto';

import { parseInterface, type Family, type IpAddress, type IpNetwork } from '../core/address.js';
import { compileEndpoint, hostIfname, macOf, ownGateways, type Membership } from '../core/compile.js';
import { vlanFor } from '../core/bridged.js';
import { gatewayFor } from '../core/compile-bridged.js';
import {
  alreadyExists,
  failedPrecondition,
  invalidArgument,
  messageOf,
  notFound,
  resourceExhausted,
  WeftError,
} from '../core/errors.js';
import { reservedIn, withLength } from '../core/ipam.js';
import type { Actual } from '../core/objects.js';
import { assume } from '../core/plan.js';
import { MAX_PORTS, satisfies, type PublishRequest } from '../core/publish.js';
import type { Endpoint, PublishedPort, Sandbox } from '../core/records.js';
import type { EngineAddress } from '../daemon/kinds.js';
import type { Logger } from '../daemon/log.js';
import { givesOut, type Addresses, type Wish } from './addresses.js';
import type { NetnsResolvConf } from './dns/netns-resolv-conf.js';
import { checkAddresses, checkSame, type AttachRequest } from './attach-request.js';
import type { Kernel, KernelNamespace } from './kernel/kernel.js';
import { Locks } from './locks.js';
import type { Memberships, MembershipListener } from './memberships.js';
import { checkPublishable, type Ports } from './ports.js';
import type { Publisher } from './publisher.js';
import { sameSandbox, type Reconciler, type SandboxRecord } from './reconciler.js';
import { canonicalForms, resolveTarget, type Target } from './runtime/targets.js';
import type { State } from './state.js';

export interface EndpointsOptions {
  kernel: Kernel;
  reconciler: Reconciler;
  memberships: Memberships;
  addresses: Addresses;
  publisher: Publisher;
  ports: Ports;
  state: State;
  log: Logger;
  node: string;
  resolvConf: NetnsResolvConf;
  /** The text of a container's resolv.conf, by its networks. */
  resolvConfText: (networks: readonly string[]) => string;
  /** Told at once of what came and what went. */
  onChange?: (endpoint: Endpoint, there: boolean) => void;
  /** Address of the Docker engine that docker:NAME means. */
  docker: EngineAddress;
}

const recordOf = (id: string): string => `endpoint ${id}`;
const bareIp = (text: string): string => parseInterface(text).address.toString();

export class Endpoints implements MembershipListener {
  readonly #byId = new Map<string, Endpoint>();
  readonly #locks = new Locks();

  constructor(private readonly options: EndpointsOptions) {}

  list(): Endpoint[] {
    return [...this.#byId.values()];
  }

  get(id: string): Endpoint | undefined {
    return this.#byId.get(id);
  }

  /** Takes up what is remembered; containers that have gone meanwhile are noticed by the first comparison. */
  async restore(endpoints: readonly Endpoint[]): Promise<void> {
    for (const endpoint of endpoints) {
      if (this.#byId.has(endpoint.id)) continue;
      this.#byId.set(endpoint.id, endpoint);
      this.options.onChange?.(endpoint, true);
      for (const ip of addressesOf(endpoint)) this.options.addresses.hold(endpoint.network, ip, endpoint.id);
      await this.#adopt(endpoint);
    }
  }

  /** Takes one up that only the store remembers; its network is joined with it. */
  async recover(endpoint: Endpoint): Promise<void> {
    await this.options.memberships.join(endpoint.network);
    this.options.state.saveEndpoint(endpoint);
    await this.restore([endpoint]);
  }

  async changed(network: string): Promise<void> {
    for (const endpoint of this.list()) {
      if (endpoint.network !== network) continue;
      await this.#adopt(endpoint);
      this.#tryResolvConf(endpoint, endpoint);
    }
    await this.options.ports.follow(network);
  }

  async left(network: string): Promise<void> {
    for (const endpoint of this.list()) if (endpoint.network === network) await this.#remove(endpoint);
    await this.options.ports.left(network);
  }

  isUsed(network: string): boolean {
    return this.list().some((endpoint) => endpoint.network === network);
  }

  refusal(network: string, ip: string): string | undefined {
    const membership = this.options.memberships.get(network);
    const id = this.options.addresses.holder(network, ip);
    if (id !== undefined)
      return `${ip} is in use by ${this.#byId.get(id)?.name ?? 'a container that is being attached'}`;
    for (const subnet of subnetsOf(membership)) {
      const { address } = parseInterface(`${ip}/${subnet.family === 4 ? 32 : 128}`);
      const why =
        membership !== undefined && subnet.contains(address)
          ? reservedIn(membership.network, subnet, address)
          : undefined;
      if (why !== undefined) return `${ip} ${why}`;
    }
    return undefined;
  }

  async #adopt(endpoint: Endpoint): Promise<void> {
    const membership = this.options.memberships.get(endpoint.network);
    if (membership === undefined) return;
    const { host, container } = compileEndpoint(membership, endpoint);
    await this.options.reconciler.adopt(recordOf(endpoint.id), host, insideOf(endpoint, container));
    if (endpoint.publish.length > 0) await this.options.ports.restore(membership, endpoint);
  }

  /** @throws WeftError; then nothing was changed */
  async attach(request: AttachRequest): Promise<Endpoint> {
    const target = await resolveTarget(request.target, this.options.docker);
    if (request.dns) this.options.resolvConf.require(target.canonical);
    const opened = await this.#open(target);
    try {
      if (opened.isNode) {
        throw invalidArgument(
          `${target.canonical} has the network of this host itself, which cannot be attached`,
          'Give the container a network namespace of its own.',
        );
      }
      return await this.#locks.run(opened.sandbox.cookie, () =>
        this.#attachTo(request, target, opened.sandbox, opened.namespace),
      );
    } finally {
      opened.namespace.close();
    }
  }

  async #open(target: Target): ReturnType<Kernel['openNamespace']> {
    try {
      return await this.options.kernel.openNamespace(target.path);
    } catch (error) {
      if (!(error instanceof WeftError) || error.code !== 'NOT_FOUND') throw error;
      throw notFound(`container ${target.canonical} is gone: ${error.message}`, error.next, { cause: error });
    }
  }

  async #attachTo(
    request: AttachRequest,
    target: Target,
    sandbox: Sandbox,
    namespace: KernelNamespace,
  ): Promise<Endpoint> {
    const there = this.#find(request.network, sandbox);
    if (there !== undefined) {
      checkSame(request, there);
      return there;
    }
    const membership = await this.options.memberships.join(request.network);
    const { network } = membership;
    checkAddresses(request, network);
    const vlan = vlanFor(network, request.vlan);
    if (request.publish.length > 0) checkPublishable(network);
    if (request.dns) checkAnswers(membership);
    const inside = await this.#look(request, target, namespace);
    const id = randomBytes(8).toString('hex');
    const undo: (() => Promise<void>)[] = [];
    try {
      const { ip, ip6 } = await this.#take(membership, request, id, undo);
      const endpoint: Endpoint = {
        id,
        name: request.name ?? target.name,
        explicitName: request.name !== undefined,
        network: request.network,
        node: this.options.node,
        target: target.canonical,
        sandbox,
        ifname: inside.ifname,
        hostIfname: hostIfname(id),
        mac: request.mac ?? macOf(ip),
        ...givenAs(membership, ip),
        ...(ip6 === undefined || membership.lease.subnet6 === undefined
          ? {}
          : { ip6: withLength(ip6, membership.lease.subnet6) }),
        ...(vlan === undefined ? {} : { vlan }),
        defaultRoute:
          request.defaultRoute &&
          !network.internal &&
          !inside.hasDefaultRoute &&
          gatewayFor(membership, vlan === undefined ? {} : { vlan }, 4) !== undefined,
        aliases: request.aliases,
        publish: [],
        ...(request.dns ? { dns: true as const } : {}),
        createdAt: new Date().toISOString(),
      };
      if (request.publish.length > 0) {
        undo.push(() => this.options.ports.close(id));
        endpoint.publish = await this.options.ports.reserve(
          endpoint,
          request.publish,
          request.everywhere,
          endpoint.ip6 === undefined ? [4] : [4, 6],
        );
      }
      await this.#program(membership, endpoint, namespace, inside.actual, undo);
      // Not waited for: what the network is routed with is not what was asked for here.
      void this.options.memberships.followRoutes();
      return endpoint;
    } catch (error) {
      for (const step of undo.reverse()) {
        await step().catch((failure: unknown) => {
          this.options.log.warn('taking a failed attach back', { id, error: messageOf(failure) });
        });
      }
      throw error;
    }
  }

  async #program(
    membership: Membership,
    endpoint: Endpoint,
    namespace: KernelNamespace,
    actual: Actual,
    undo: (() => Promise<void>)[],
  ): Promise<void> {
    const { reconciler, publisher, state } = this.options;
    if (endpoint.explicitName) {
      undo.push(() => publisher.forget(endpoint));
      await publisher.reserveName(endpoint);
    }
    const { host, container } = compileEndpoint(membership, endpoint);
    await reconciler.attach(recordOf(endpoint.id), host, insideOf(endpoint, container), namespace, actual);
    undo.push(() => reconciler.detach(recordOf(endpoint.id)));
    if (endpoint.dns === true) {
      this.#setResolvConf(endpoint, endpoint);
      undo.push(() => Promise.resolve(this.#setResolvConf(endpoint)));
    }
    if (endpoint.publish.length > 0) await this.options.ports.open(membership, endpoint);
    state.saveEndpoint(endpoint);
    this.#byId.set(endpoint.id, endpoint);
    this.options.onChange?.(endpoint, true);
    publisher.publish(endpoint);
  }

  /** The resolv.conf of a namespace follows from those of its endpoints that want it set, `added` among them. */
  #setResolvConf({ id, target }: Endpoint, added?: Endpoint): void {
    const others = this.list().filter((one) => one.dns === true && one.target === target && one.id !== id);
    const networks = [...others, ...(added === undefined ? [] : [added])]
      .sort((a, b) => a.createdAt.localeCompare(b.createdAt))
      .map(({ network }) => network);
    if (networks.length === 0) this.options.resolvConf.reset(target);
    else this.options.resolvConf.set(target, this.options.resolvConfText(networks));
  }

  /** Where it is no reason to stop: what was attached stays, what goes must go. */
  #tryResolvConf(endpoint: Endpoint, added?: Endpoint): void {
    if (endpoint.dns !== true) return;
    try {
      this.#setResolvConf(endpoint, added);
    } catch (error) {
      this.options.log.warn('a resolv.conf could not be set', {
        target: endpoint.target,
        error: messageOf(error),
      });
    }
  }

  /** What the container has already that matters: names that are taken, and a default route of somebody else's. */
  async #look(
    request: AttachRequest,
    target: Target,
    namespace: KernelNamespace,
  ): Promise<{ ifname: string; hasDefaultRoute: boolean; actual: Actual }> {
    const names = await namespace.linkNames();
    const fresh = [...names].every((name) => name === 'lo');
    // A namespace with nothing but lo has nothing to look at.
    const actual = fresh ? assume([]) : await namespace.observe([]);
    const hasDefaultRoute = actual.objects.has('route 0.0.0.0/0') || actual.objects.has('route ::/0');
    const loopback = fresh
      ? {
          ...actual,
          objects: new Map([
            ['link lo', { object: { kind: 'link', type: 'loopback', name: 'lo' } as const, owned: false }],
          ]),
        }
      : actual;
    if (request.ifname !== undefined && names.has(request.ifname)) {
      throw alreadyExists(
        `${target.canonical} has an interface ${request.ifname} already`,
        'Choose another --ifname, or leave it out: the next free ethN is taken.',
      );
    }
    let ifname = request.ifname ?? 'eth0';
    for (let n = 1; names.has(ifname); n++) ifname = `eth${n}`;
    return { ifname, hasDefaultRoute, actual: loopback };
  }

  /** An address in each family that the node has a subnet in. */
  async #take(
    membership: Membership,
    request: AttachRequest,
    holder: string,
    undo: (() => Promise<void>)[],
  ): Promise<{ ip: IpAddress; ip6?: IpAddress }> {
    const { subnet, subnet6 } = membership.lease;
    const take = async (wish: Pick<Wish, 'subnet' | 'asked' | 'preferred'>): Promise<IpAddress> => {
      const taken = await this.options.addresses.take({ membership, holder, ...wish });
      undo.push(taken.undo);
      return taken.ip;
    };
    const ip = await take({ subnet, ...(request.ip && { asked: request.ip }) });
    if (subnet6 === undefined) return { ip };
    const preferred = samePlace(membership, ip);
    return {
      ip,
      ip6: await take({
        subnet: subnet6,
        ...(request.ip6 && { asked: request.ip6 }),
        ...(preferred && { preferred }),
      }),
    };
  }

  #find(network: string, sandbox: Sandbox): Endpoint | undefined {
    return this.list().find(
      (endpoint) => endpoint.network === network && sameSandbox(endpoint.sandbox, sandbox),
    );
  }

  /** @throws WeftError NOT_FOUND */
  async detach(network: string, text: string): Promise<Endpoint> {
    const endpoint = await this.#attached(network, text);
    return this.#locks.run(endpoint.sandbox.cookie, async () => {
      if (!this.#byId.has(endpoint.id)) throw notAttached(network, text);
      await this.#remove(endpoint);
      return endpoint;
    });
  }

  /** By the target's words, or by its namespace, so that a container is found under each of its names, and when gone. */
  async #attached(network: string, text: string): Promise<Endpoint> {
    const forms = canonicalForms(text);
    const byName = this.list().filter(
      (endpoint) => endpoint.network === network && forms.includes(endpoint.target),
    );
    if (byName.length === 1 && byName[0] !== undefined) return byName[0];
    let sandbox: Sandbox | undefined;
    try {
      sandbox = this.options.kernel.identify((await resolveTarget(text, this.options.docker)).path);
    } catch (error) {
      if (byName.length === 0 && error instanceof WeftError && error.code !== 'NOT_FOUND') throw error;
    }
    const endpoint = (sandbox === undefined ? undefined : this.#find(network, sandbox)) ?? byName[0];
    if (endpoint === undefined) throw notAttached(network, text);
    return endpoint;
  }

  /**
   * Opens ports of the host for an endpoint of this node, all of them or none; what it has already is answered as it is.
   * @throws WeftError NOT_FOUND, ALREADY_EXISTS, FAILED_PRECONDITION on an internal network, INVALID_ARGUMENT
   */
  async publish(
    id: string,
    { publish: requests, everywhere }: Pick<AttachRequest, 'publish' | 'everywhere'>,
  ): Promise<PublishedPort[]> {
    return this.#changeOne(id, async (there) => {
      const membership = await this.options.memberships.join(there.network);
      checkPublishable(membership.network);
      const had = (request: PublishRequest): PublishedPort | undefined =>
        there.publish.find((published) => satisfies(published, request, everywhere));
      const fresh = requests.filter((request) => had(request) === undefined);
      if (there.publish.length + fresh.length > MAX_PORTS) {
        throw resourceExhausted(
          `endpoint ${there.name} would have ${there.publish.length + fresh.length} ports`,
          `At most ${MAX_PORTS} are allowed.`,
        );
      }
      const { ports } = this.options;
      const container: Family[] = there.ip6 === undefined ? [4] : [4, 6];
      const made = await ports.reserve(there, fresh, everywhere, container);
      const after = { ...there, publish: [...there.publish, ...made] };
      try {
        await ports.open(membership, after, made);
        await this.#replace(membership, there, after);
      } catch (error) {
        await ports.close(id, made);
        throw error;
      }
      return [...requests.flatMap((request) => had(request) ?? []), ...made];
    });
  }

  /** Closes ports of an endpoint of this node. @throws WeftError NOT_FOUND where it has none of those */
  async unpublish(id: string, isMeant: (published: PublishedPort) => boolean): Promise<PublishedPort[]> {
    return this.#changeOne(id, async (there) => {
      const gone = there.publish.filter(isMeant);
      if (gone.length === 0) {
        throw notFound(
          `endpoint ${there.name} of network ${there.network} has no such port`,
          `See what it has: weft port ls ${there.name}.`,
        );
      }
      const after = { ...there, publish: there.publish.filter((published) => !gone.includes(published)) };
      await this.#replace(this.options.memberships.get(there.network), there, after);
      await this.options.ports.close(id, gone);
      return gone;
    });
  }

  async #changeOne<T>(id: string, change: (there: Endpoint) => Promise<T>): Promise<T> {
    const gone = (): WeftError =>
      notFound(`there is no endpoint ${id} on this node`, 'See `weft endpoint ls`.');
    const endpoint = this.#byId.get(id);
    if (endpoint === undefined) throw gone();
    return this.#locks.run(endpoint.sandbox.cookie, async () => {
      const there = this.#byId.get(id);
      if (there === undefined) throw gone();
      return change(there);
    });
  }

  async #replace(membership: Membership | undefined, before: Endpoint, endpoint: Endpoint): Promise<void> {
    const { state, reconciler, publisher } = this.options;
    state.saveEndpoint(endpoint);
    this.#byId.set(endpoint.id, endpoint);
    publisher.publish(endpoint);
    // The first port and the last one change its link.
    if (membership === undefined || before.publish.length > 0 === endpoint.publish.length > 0) return;
    await reconciler.set(new Map([[recordOf(endpoint.id), compileEndpoint(membership, endpoint).host]]));
  }

  /** A container went by itself. */
  vanished(record: string): void {
    const endpoint = this.#byId.get(record.split(' ')[1] ?? '');
    if (endpoint === undefined) return;
    void this.#locks.run(endpoint.sandbox.cookie, async () => {
      if (!this.#byId.has(endpoint.id)) return;
      this.options.log.info('a container is gone: its endpoint is removed', {
        endpoint: endpoint.name,
        network: endpoint.network,
        target: endpoint.target,
      });
      await this.#remove(endpoint);
    });
  }

  async #remove(endpoint: Endpoint): Promise<void> {
    const { reconciler, publisher, state } = this.options;
    // Forgotten first: killed after this line, the leftover link is pruned at the next start; the other way round an
    // endpoint without a container would be made anew.
    state.deleteEndpoint(endpoint.id);
    this.#byId.delete(endpoint.id);
    this.options.onChange?.(endpoint, false);
    this.#tryResolvConf(endpoint);
    // Nothing may lead to an address that is the next container's.
    await this.options.ports.close(endpoint.id);
    await reconciler.detach(recordOf(endpoint.id));
    for (const ip of addressesOf(endpoint)) this.options.addresses.free(endpoint.network, ip, endpoint.id);
    publisher.withdraw(endpoint);
  }
}

const addressesOf = (endpoint: Endpoint): string[] =>
  endpoint.ip6 === undefined ? [bareIp(endpoint.ip)] : [bareIp(endpoint.ip), bareIp(endpoint.ip6)];

const subnetsOf = (membership: Membership | undefined): IpNetwork[] =>
  membership === undefined
    ? []
    : [
        membership.lease.subnet,
        ...(membership.lease.subnet6 === undefined ? [] : [membership.lease.subnet6]),
      ];

/** The IPv6 address as far from its base as the IPv4 one is from its own: easier to read side by side. */
function samePlace({ lease }: Membership, ip: IpAddress): IpAddress | undefined {
  if (lease.subnet6 === undefined || !lease.subnet.contains(ip)) return undefined;
  return lease.subnet6.at(ip.value - lease.subnet.base.value);
}

const insideOf = (endpoint: Endpoint, objects: SandboxRecord['objects']): SandboxRecord => ({
  sandbox: endpoint.sandbox,
  hostIfname: endpoint.hostIfname,
  objects,
});

/** Names are answered on the gateways. */
function checkAnswers(membership: Membership): void {
  if (ownGateways(membership).length > 0) return;
  throw failedPrecondition(
    `network ${membership.network.name} has no gateway of this node's own that could answer names`,
    'Leave --dns out, or attach to another network, too, and give it there.',
  );
}

/** An address with the length by which the container has it. Where all are on one link that is the network's. */
function givenAs(membership: Membership, ip: IpAddress): Pick<Endpoint, 'ip' | 'claimed'> {
  const { network, lease } = membership;
  if (network.driver === 'overlay') return { ip: withLength(ip, lease.subnet) };
  const claimed = !givesOut(membership, lease.subnet, ip);
  return { ip: `${ip.toString()}/${network.subnet.length}`, ...(claimed ? { claimed } : {}) };
}

function notAttached(network: string, target: string): WeftError {
  return notFound(`${target} is not attached to network ${network} on this node`, 'See `weft endpoint ls`.');
}
