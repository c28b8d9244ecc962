// Published ports of this node: bound to endpoints, and led to them by the firewall. Ports of this node's endpoints, and
// ingress ports: those that other nodes' endpoints have on every node.
//
//   reserve ──▶ a binding, with a socket that keeps others off the port ──open──▶ the firewall leads it ──close──▶ gone
//
// An endpoint's record says what it has; the bindings follow from it and are made anew at every start.
import { randomInt } from 'node:crypto';

import { compilePort, type Membership } from '../../core/compile.js';
import { invalidArgument, messageOf, resourceExhausted } from '../../core/errors.js';
import { firewallPortKey, type FirewallPort } from '../../core/firewall.js';
import type { Family } from '../../core/address.js';
import { CHOSEN_PORTS, familiesOf, formatHostPort, type PublishRequest } from '../../core/publish.js';
import type { Endpoint, PublishedPort } from '../../core/records.js';
import type { Logger } from '../../daemon/log.js';
import { allOrNothing } from '../../daemon/rollback.js';
import type { Change, Store } from '../../store/store.js';
import type { Kernel } from '../kernel/index.js';
import type { Memberships } from '../networks/index.js';
import { ingressPorts, portConflict } from './port-conflicts.js';
import { endpointScope, type Problems } from '../health/index.js';
import type { Reconciler } from '../reconcile/index.js';
import { holdPort, PortBindings, textOf, type PortBinding, type PortHolder } from './port-bindings.js';
import { inUse, taken } from './port-owner.js';

export interface PortsOptions {
  kernel: Pick<Kernel, 'reservePort'>;
  store: Store;
  memberships: Pick<Memberships, 'get'>;
  reconciler: Pick<Reconciler, 'changePorts'>;
  problems: Problems;
  log: Logger;
  node: string;
}

/** How often ports that could not be had are tried again. */
const RETRY_MS = 10_000;

export class PublishedPorts {
  readonly #bindings = new PortBindings();
  #tick: NodeJS.Timeout | undefined;

  constructor(private readonly options: PortsOptions) {}

  start(): void {
    this.#tick = setInterval(() => void this.#retry(), RETRY_MS);
  }

  /** The kernel lets go of the held ports as the process ends; what is open stays open. */
  stop(): void {
    clearInterval(this.#tick);
  }

  /** Every port that this node opens or should open. */
  list(): readonly Readonly<Pick<PortBinding, 'holder' | 'published' | 'problem'>>[] {
    return this.#bindings.all();
  }

  /**
   * Takes ports of the host for an endpoint: all of them or none. They lead nowhere before `open`.
   * @param container the families that the endpoint has addresses of
   * @throws WeftError ALREADY_EXISTS naming who has a port, INVALID_ARGUMENT, RESOURCE_EXHAUSTED; the signal's reason
   */
  async reserve(
    holder: PortHolder,
    requests: readonly PublishRequest[],
    everywhere: boolean,
    container: readonly Family[],
    signal?: AbortSignal,
  ): Promise<PublishedPort[]> {
    return allOrNothing(this.options.log, holder.id, async (rollback) => {
      const made: PublishedPort[] = [];
      for (const request of unique(requests)) {
        const binding = await this.#reserveOne(holder, request, everywhere, container);
        rollback.add(() => this.#drop(binding));
        signal?.throwIfAborted();
        made.push(binding.published);
      }
      return made;
    });
  }

  async #reserveOne(
    holder: PortHolder,
    request: PublishRequest,
    everywhere: boolean,
    container: readonly Family[],
  ): Promise<PortBinding> {
    const { hostIp, hostPorts, port, protocol } = request;
    const families = familiesOf(hostIp, container);
    if (families.length === 0) {
      throw invalidArgument(
        `publish: ${hostIp} is an IPv6 address, and network ${holder.network} has no IPv6 subnet`,
        'Give an IPv4 address of this host, or leave the address out.',
      );
    }
    const range = hostPorts ?? CHOSEN_PORTS;
    const count = range.last - range.first + 1;
    // Chosen ones from anywhere, so that a port that was given back rests; asked for, they are taken in order.
    const start = hostPorts === undefined ? randomInt(count) : 0;
    for (let i = 0; i < count; i++) {
      const hostPort = range.first + ((start + i) % count);
      const published: PublishedPort = { hostIp, hostPort, port, protocol, everywhere };
      const conflict = this.#conflict(holder, published);
      if (conflict !== undefined) {
        if (count === 1) throw taken(published, { by: ` by ${nameOf(conflict, this.options.node)}` });
        continue;
      }
      const held = holdPort(this.options.kernel, published, families);
      if (typeof held === 'object') {
        const binding: PortBinding = { holder, published, families, held, open: [] };
        this.#bindings.add(binding);
        return binding;
      }
      if (held === 'away') {
        throw invalidArgument(
          `publish: ${hostIp} is not an address of node ${this.options.node}`,
          'Give one of its own (ip address), or leave it out: the port is open on all of them then.',
        );
      }
      if (count === 1) throw taken(published, await inUse(published));
    }
    throw resourceExhausted(
      `none of the ports ${range.first} to ${range.last}/${protocol} of node ${this.options.node} is free`,
      'Give another range, or close a port: weft port ls shows which are published.',
    );
  }

  /** Who has this port, or one that gets in its way, as far as weft knows. */
  #conflict(holder: PortHolder, published: PublishedPort): PortHolder | undefined {
    const here = this.#bindings.conflicting(published);
    if (here !== undefined) return here.holder;
    return published.everywhere ? portConflict(this.options.store.view, holder, published) : undefined;
  }

  /** Leads reserved ports to their endpoint. @throws WeftError where the firewall refuses; the reservations stay */
  async open(
    membership: Membership,
    endpoint: Endpoint,
    ports: readonly PublishedPort[] = endpoint.publish,
  ): Promise<void> {
    const wanted = new Set(ports.map(textOf));
    const bindings = this.#bindings.of(endpoint.id).filter(({ published }) => wanted.has(textOf(published)));
    await this.#lead(membership, endpoint, bindings);
  }

  async #lead(membership: Membership, endpoint: Endpoint, bindings: readonly PortBinding[]): Promise<void> {
    const changes = bindings.map((binding) => ({
      ...{ binding, before: binding.open },
      open: compilePort(membership, endpoint, binding.published),
    }));
    const added = changes.flatMap(({ before, open }) => without(open, before));
    const removed = changes.flatMap(({ before, open }) => without(before, open));
    // Noted first: who closes one of them meanwhile closes what is being opened.
    for (const { binding, open } of changes) binding.open = open;
    if (added.length + removed.length === 0) return;
    try {
      await this.options.reconciler.changePorts(added, removed);
    } catch (error) {
      for (const { binding, before } of changes) binding.open = before;
      throw error;
    }
  }

  /** Closes ports of an endpoint, or all that it has, and gives them back. */
  async close(endpoint: string, ports?: readonly PublishedPort[]): Promise<void> {
    const wanted = ports === undefined ? undefined : new Set(ports.map(textOf));
    const bindings = this.#bindings
      .of(endpoint)
      .filter(({ published }) => wanted?.has(textOf(published)) !== false);
    const open = bindings.flatMap((binding) => binding.open);
    // Others get the port only when nothing leads it here any more.
    if (open.length > 0) await this.options.reconciler.changePorts([], open);
    for (const binding of bindings) this.#drop(binding);
  }

  /**
   * Takes up what an endpoint of this node has. It stays open also where a process took the port while no agent held it:
   * the process would not get a packet either way, and the problem says so.
   */
  async restore(membership: Membership, endpoint: Endpoint): Promise<void> {
    for (const published of this.#bindings.missing(endpoint.id, endpoint.publish))
      await this.#holdAgain(this.#bind(endpoint, published));
    await this.open(membership, endpoint);
  }

  /** What other nodes' endpoints have everywhere, in a network that this node is on. */
  async follow(network: string): Promise<void> {
    const { store, memberships, node } = this.options;
    const membership = memberships.get(network);
    const wanted =
      membership === undefined || membership.network.internal
        ? []
        : ingressPorts(store.view.endpoints.get(network)?.values() ?? [], node);
    const ids = new Set(wanted.map(({ id }) => id));
    for (const holder of this.#bindings.holders()) {
      if (holder.network === network && holder.node !== node && !ids.has(holder.id))
        await this.close(holder.id);
    }
    if (membership !== undefined) for (const endpoint of wanted) await this.#followOne(membership, endpoint);
  }

  async #followOne(membership: Membership, endpoint: Endpoint): Promise<void> {
    const wanted = endpoint.publish.filter(({ everywhere }) => everywhere);
    const texts = new Set(wanted.map(textOf));
    const bound = this.#bindings.of(endpoint.id).map(({ published }) => published);
    const gone = bound.filter((published) => !texts.has(textOf(published)));
    if (gone.length > 0) await this.close(endpoint.id, gone);
    for (const published of this.#bindings.missing(endpoint.id, wanted)) this.#bind(endpoint, published);
    await this.#openRemote(membership, endpoint);
  }

  async #openRemote(membership: Membership, endpoint: Endpoint): Promise<void> {
    for (const binding of this.#bindings.of(endpoint.id)) await this.#holdAgain(binding);
    // A process of this node keeps its port: nobody asked it.
    const able = this.#bindings.of(endpoint.id).filter(({ held }) => held.length > 0);
    try {
      await this.#lead(membership, endpoint, able);
      for (const binding of able) this.#say(binding, undefined);
    } catch (error) {
      for (const binding of able) this.#say(binding, messageOf(error));
    }
  }

  /** This node is on the network no more. */
  async left(network: string): Promise<void> {
    for (const holder of this.#bindings.holders())
      if (holder.network === network) await this.close(holder.id);
  }

  /** One batch of the store's changes. */
  async handle(changes: readonly Change[]): Promise<void> {
    const networks = new Set<string>();
    for (const change of changes) {
      if (change.kind !== 'endpoint') continue;
      const mine = (change.after ?? change.before)?.node === this.options.node;
      const matters = [change.before, change.after].some((it) =>
        it?.publish.some(({ everywhere }) => everywhere),
      );
      if (!mine && matters && this.options.memberships.get(change.network) !== undefined)
        networks.add(change.network);
    }
    for (const network of networks) await this.follow(network);
  }

  async #retry(): Promise<void> {
    const { store, memberships, node } = this.options;
    const waiting = this.#bindings.all().filter(({ problem }) => problem !== undefined);
    for (const binding of waiting) {
      await this.#holdAgain(binding);
      const { held, holder } = binding;
      if (held.length === 0 || holder.node === node) continue;
      const endpoint = store.view.endpoints.get(holder.network)?.get(holder.id);
      const membership = memberships.get(holder.network);
      if (endpoint !== undefined && membership !== undefined) await this.#openRemote(membership, endpoint);
    }
  }

  #bind(endpoint: Endpoint, published: PublishedPort): PortBinding {
    const families = familiesOf(published.hostIp, endpoint.ip6 === undefined ? [4] : [4, 6]);
    const binding: PortBinding = { holder: endpoint, published, families, held: [], open: [] };
    this.#bindings.add(binding);
    return binding;
  }

  /** Holds the port of a binding that has none. */
  async #holdAgain(binding: PortBinding): Promise<void> {
    const lacksIt = (): boolean => this.#bindings.has(binding) && binding.held.length === 0;
    if (!lacksIt()) return;
    const { published, holder } = binding;
    const conflict = this.#bindings.conflicting(
      published,
      (other) => other !== binding && other.held.length > 0,
    );
    if (conflict !== undefined)
      return this.#say(binding, `${nameOf(conflict.holder, this.options.node)} has it`);
    let why: string;
    let next: string | undefined;
    try {
      const held = holdPort(this.options.kernel, published, binding.families);
      if (typeof held === 'object') {
        binding.held = held;
        return this.#say(binding, undefined);
      }
      const user = held === 'away' ? undefined : await inUse(published);
      why =
        user === undefined
          ? `${published.hostIp} is not an address of this node now`
          : `it is in use${user.by}`;
      next = user?.next;
    } catch (error) {
      // Out of descriptors, as one: that goes by, and the endpoint stays what it is.
      why = messageOf(error);
    }
    // Meanwhile it may have been given back, or had.
    if (!lacksIt()) return;
    this.options.log.warn('a published port cannot be held', {
      port: textOf(published),
      endpoint: holder.name,
      why,
    });
    this.#say(binding, why, next);
  }

  #say(
    binding: PortBinding,
    why: string | undefined,
    fix = 'End what has the port, or publish another one; it is tried again every 10 seconds.',
  ): void {
    const { published, holder } = binding;
    const key = { scope: endpointScope(holder), kind: 'port', id: textOf(published) } as const;
    if (why === undefined) {
      delete binding.problem;
      this.options.problems.clear(key);
      return;
    }
    if (!this.#bindings.has(binding)) return;
    binding.problem = why;
    this.options.problems.set(key, {
      what: `port ${formatHostPort(published)}/${published.protocol}, published by ${nameOf(holder, this.options.node)}`,
      why,
      fix,
    });
  }

  #drop(binding: PortBinding): void {
    this.#bindings.remove(binding);
    this.#say(binding, undefined);
  }
}

/** Those of `some` that `others` has not. */
function without(some: readonly FirewallPort[], others: readonly FirewallPort[]): FirewallPort[] {
  const keys = new Set(others.map(firewallPortKey));
  return some.filter((port) => !keys.has(firewallPortKey(port)));
}

/** The same thing asked for twice in one call is one thing; two free ports for one port are two. */
const unique = (requests: readonly PublishRequest[]): PublishRequest[] =>
  requests.filter(
    (request, i) =>
      request.hostPorts === undefined ||
      requests.findIndex((other) => JSON.stringify(other) === JSON.stringify(request)) === i,
  );

const nameOf = ({ name, network, node }: PortHolder, own: string): string =>
  `endpoint ${name} of network ${network}${node === own ? '' : ` on node ${node}`}`;
