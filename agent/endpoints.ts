// The containers that are attached on this node: attaching and detaching them, all or nothing. The state directory is the
// truth about them; the reconciler keeps them right; the store is told. Which address is whose is the business of Addresses.
import { randomBytes } from 'node:crypto';

import { parseInterface, type IpAddress, type IpNetwork } from '../core/address.js';
import { compileEndpoint, hostIfname, macOf, type Membership } from '../core/compile.js';
import { alreadyExists, invalidArgument, messageOf, notFound, WeftError } from '../core/errors.js';
import { reservedUse, withLength } from '../core/ipam.js';
import type { Actual } from '../core/objects.js';
import { assume } from '../core/plan.js';
import type { Endpoint, Sandbox } from '../core/records.js';
import type { EngineAddress } from '../daemon/kinds.js';
import type { Logger } from '../daemon/log.js';
import type { Addresses, Wish } from './addresses.js';
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
  reconciler: Reconciler;
  memberships: Memberships;
  addresses: Addresses;
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
    for (const endpoint of this.list()) if (endpoint.network === network) await this.#adopt(endpoint);
  }

  async left(network: string): Promise<void> {
    for (const endpoint of this.list()) if (endpoint.network === network) await this.#remove(endpoint);
  }

  inUse(network: string): boolean {
    return this.list().some((endpoint) => endpoint.network === network);
  }

  refusal(network: string, ip: string): string | undefined {
    const membership = this.options.memberships.get(network);
    const id = this.options.addresses.holder(network, ip);
    if (id !== undefined)
      return `${ip} is in use by ${this.#byId.get(id)?.name ?? 'a container that is being attached'}`;
    for (const subnet of subnetsOf(membership)) {
      const { address } = parseInterface(`${ip}/${subnet.family === 4 ? 32 : 128}`);
      const why = subnet.contains(address) ? reservedUse(subnet, address) : undefined;
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
    checkAddresses(request, membership.network);
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
        ip: withLength(ip, membership.lease.subnet),
        ...(ip6 === undefined || membership.lease.subnet6 === undefined
          ? {}
          : { ip6: withLength(ip6, membership.lease.subnet6) }),
        defaultRoute: request.defaultRoute && !membership.network.internal && !inside.hasDefaultRoute,
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

function notAttached(network: string, target: string): WeftError {
  return notFound(`${target} is not attached to network ${network} on this node`, 'See `weft endpoint ls`.');
}
