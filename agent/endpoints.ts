// The containers that are attached on this node: attaching and detaching them, all or nothing, and knowing which address
// is whose. The state directory is the truth about them; the reconciler keeps them right; the store is told.
import { randomBytes } from 'node:crypto';

import { parseInterface, type IpAddress, type IpNetwork } from '../core/address.js';
import { compileEndpoint, hostIfname, macOf, type Membership } from '../core/compile.js';
import { alreadyExists, invalidArgument, messageOf, notFound, WeftError } from '../core/errors.js';
import { addressingOf, vlanFor } from '../core/bridged.js';
import { gatewayFor } from '../core/compile-bridged.js';
import { pickAddress, pickFromBlock, reservedIn, withLength } from '../core/ipam.js';
import type { Network } from '../core/network.js';
import type { Actual } from '../core/objects.js';
import { assume } from '../core/plan.js';
import type { Endpoint, Sandbox } from '../core/records.js';
import type { EngineAddress } from '../daemon/kinds.js';
import type { Logger } from '../daemon/log.js';
import type { Store } from '../store/store.js';
import { checkAddresses, checkSame, type AttachRequest } from './attach-request.js';
import type { Kernel, KernelNamespace } from './kernel/kernel.js';
import { Locks } from './locks.js';
import type { Memberships, MembershipListener } from './memberships.js';
import type { Publisher } from './publisher.js';
import { sameSandbox, type Reconciler, type SandboxRecord } from './reconciler.js';
import { canonicalForms, resolveTarget, type Target } from './runtime/targets.js';
import type { State } from './state.js';

export interface EndpointsOptions {
  kernel: Kernel;
  store: Store;
  reconciler: Reconciler;
  memberships: Memberships;
  publisher: Publisher;
  state: State;
  log: Logger;
  node: string;
  /** Address of the Docker engine that docker:NAME means. */
  docker: EngineAddress;
}

const recordOf = (id: string): string => `endpoint ${id}`;
const bareIp = (text: string): string => parseInterface(text).address.toString();

export class Endpoints implements MembershipListener {
  readonly #byId = new Map<string, Endpoint>();
  /** By network and address: the endpoint that has it, or is about to. */
  readonly #addresses = new Map<string, string>();
  /** The address that was given out last, by subnet: the search goes on after it. */
  readonly #last = new Map<string, IpAddress>();
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
      for (const ip of addressesOf(endpoint)) this.#addresses.set(`${endpoint.network} ${ip}`, endpoint.id);
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
    for (const endpoint of this.list()) if (endpoint.network === network) await this.#adopt(endpoint);
  }

  async left(network: string): Promise<void> {
    for (const endpoint of this.list()) if (endpoint.network === network) await this.#remove(endpoint);
  }

  refusal(network: string, ip: string): string | undefined {
    const membership = this.options.memberships.get(network);
    const id = this.#addresses.get(`${network} ${ip}`);
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
  }

  /** @throws WeftError; then nothing was changed */
  async attach(request: AttachRequest): Promise<Endpoint> {
    const target = await resolveTarget(request.target, this.options.docker);
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
    const inside = await this.#look(request, target, namespace);
    const id = randomBytes(8).toString('hex');
    const undo: (() => Promise<void>)[] = [];
    try {
      const ip = await this.#take(membership, membership.lease.subnet, request.ip, id, undo);
      const ip6 =
        membership.lease.subnet6 === undefined
          ? undefined
          : await this.#take(
              membership,
              membership.lease.subnet6,
              request.ip6,
              id,
              undo,
              samePlace(membership, ip),
            );
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
        createdAt: new Date().toISOString(),
      };
      await this.#program(membership, endpoint, namespace, inside.actual, undo);
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
    state.saveEndpoint(endpoint);
    this.#byId.set(endpoint.id, endpoint);
    publisher.publish(endpoint);
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

  /** An address for an endpoint: the one asked for, or the next free one of the subnet. */
  async #take(
    membership: Membership,
    subnet: IpNetwork,
    asked: IpAddress | undefined,
    id: string,
    undo: (() => Promise<void>)[],
    preferred?: IpAddress,
  ): Promise<IpAddress> {
    const { network } = membership;
    const key = (ip: string): string => `${network.name} ${ip}`;
    const inUse = (ip: string): boolean => this.#addresses.has(key(ip)) || this.#isClaimed(network.name, ip);
    const hold = (ip: IpAddress): IpAddress => {
      this.#addresses.set(key(ip.toString()), id);
      undo.push(() => {
        this.#addresses.delete(key(ip.toString()));
        return Promise.resolve();
      });
      return ip;
    };
    if (asked === undefined) {
      if (addressingOf(network) === 'claims') throw noRange(network);
      const likely = preferred !== undefined && !inUse(preferred.toString()) ? preferred : undefined;
      const after = this.#last.get(key(subnet.toString()));
      const ip =
        likely ??
        (network.driver === 'overlay'
          ? pickAddress(subnet, inUse, after)
          : pickFromBlock(network, subnet, inUse, after));
      this.#last.set(key(subnet.toString()), ip);
      return hold(ip);
    }
    const holder = this.#addresses.get(key(asked.toString()));
    if (holder !== undefined) throw taken(asked, network, this.#byId.get(holder)?.name, this.options.node);
    if (isOwn(membership, subnet, asked)) {
      const why = reservedIn(network, subnet, asked);
      if (why !== undefined)
        throw invalidArgument(`ip: ${asked.toString()} ${why}`, 'Choose another address.');
      const claim = this.options.store.view.claims.get(network.name)?.get(asked.toString());
      if (inUse(asked.toString())) throw taken(asked, network, undefined, claim?.node ?? 'another node');
      return hold(asked);
    }
    hold(asked);
    await this.options.store.claimAddress({ network, ip: asked, node: this.options.node, endpoint: id });
    undo.push(() => this.options.store.deleteClaim(network.name, asked.toString(), id));
    return asked;
  }

  #isClaimed(network: string, ip: string): boolean {
    const claim = this.options.store.view.claims.get(network)?.get(ip);
    return (
      (claim !== undefined && claim.state !== 'refused') || this.options.memberships.isGranted(network, ip)
    );
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
    await reconciler.detach(recordOf(endpoint.id));
    for (const ip of addressesOf(endpoint)) this.#addresses.delete(`${endpoint.network} ${ip}`);
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

/** Whether the node gives the address out without asking anybody. */
function isOwn({ network }: Membership, subnet: IpNetwork, ip: IpAddress): boolean {
  const how = addressingOf(network);
  return how === 'node' || (how !== 'claims' && subnet.contains(ip));
}

/** An address with the length by which the container has it. Where all are on one link that is the network's. */
function givenAs(membership: Membership, ip: IpAddress): Pick<Endpoint, 'ip' | 'claimed'> {
  const { network, lease } = membership;
  if (network.driver === 'overlay') return { ip: withLength(ip, lease.subnet) };
  const claimed = !isOwn(membership, lease.subnet, ip);
  return { ip: `${ip.toString()}/${network.subnet.length}`, ...(claimed ? { claimed } : {}) };
}

function noRange(network: Network): WeftError {
  return invalidArgument(
    `ip: network ${network.name} has no range that addresses could be given out of`,
    'Give an address of it with --ip, or create the network with --range.',
  );
}

function taken(ip: IpAddress, network: Network, name: string | undefined, node: string): WeftError {
  return alreadyExists(
    `${ip.toString()} of network ${network.name} is in use${name === undefined ? '' : ` by ${name}`} on ${node}`,
    'Choose another address, or leave it out.',
  );
}

function notAttached(network: string, target: string): WeftError {
  return notFound(`${target} is not attached to network ${network} on this node`, 'See `weft endpoint ls`.');
}
