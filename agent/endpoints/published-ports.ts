// Published ports of this node: bindings to endpoints, and the firewall.
//
// They are ports of this node's endpoints, and ingress ports: those that other nodes' endpoints have on every node.
//
//   reserve ──▶ a binding, with a socket that reserves the port ──open──▶ the firewall forwards it ──close──▶ removed
//
// An endpoint's record is authoritative; the bindings follow from it and are rebuilt at every start.
import { randomInt } from 'node:crypto';

import { compilePort, type Membership } from '../../core/compile.js';
import { invalidArgument, messageOf, resourceExhausted } from '../../core/errors.js';
import { firewallPortKey, type FirewallPort } from '../../core/firewall.js';
import type { Family } from '../../core/address.js';
import { familiesIn } from '../../core/families.js';
import { CHOSEN_PORTS, familiesOf, formatHostPort, type PublishRequest } from '../../core/publish.js';
import type { Endpoint, PublishedPort } from '../../core/records.js';
import type { Logger } from '../../daemon/log.js';
import { allOrNothing } from '../../daemon/rollback.js';
import { DisplacedNodes } from '../../store/displaced-nodes.js';
import type { Change, Store } from '../../store/store.js';
import type { Kernel } from '../kernel/index.js';
import type { Memberships } from '../networks/index.js';
import {
  changedIngress,
  goneNodes,
  ingressPorts,
  portConflict,
  withPortsElsewhere,
  type Known,
} from './port-conflicts.js';
import { endpointScope, type Problems } from '../health/index.js';
import type { Reconciler } from '../reconcile/index.js';
import { holdPort, PortBindings, textOf, type PortBinding, type PortHolder } from './port-bindings.js';
import { holdsPorts } from './managers.js';
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

/** Between attempts to reserve ports that were taken. */
const RETRY_MS = 10_000;

export class PublishedPorts {
  readonly #bindings = new PortBindings();
  readonly #displaced: DisplacedNodes;
  /** The nodes that are not coming back, as text; asked for only while other nodes have ingress ports. */
  #gone = '';
  /** Ids of other nodes' endpoints with ingress ports. */
  readonly #remote = new Set<string>();
  #tick: NodeJS.Timeout | undefined;

  constructor(private readonly options: PortsOptions) {
    this.#displaced = new DisplacedNodes(options.store.view);
  }

  start(): void {
    this.#tick = setInterval(() => void this.#retry(), RETRY_MS);
  }

  /** The kernel releases reserved ports when the process ends; firewall entries stay. */
  stop(): void {
    clearInterval(this.#tick);
  }

  /** Every port that this node opens or should open. */
  list(): readonly Readonly<Pick<PortBinding, 'holder' | 'published' | 'problem'>>[] {
    return this.#bindings.all();
  }

  /**
   * Reserves ports of the host for an endpoint, all or none. The firewall forwards them from `open` on.
   * @param container the families of the endpoint's addresses
   * @throws WeftError ALREADY_EXISTS with the owner of a port, INVALID_ARGUMENT, RESOURCE_EXHAUSTED; the signal's reason
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
      const known = everywhere ? await withPortsElsewhere(this.options.store, holder.network) : undefined;
      for (const request of unique(requests)) {
        const binding = await this.#reserveOne(holder, request, known, container);
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
    /** Whose ports an ingress port may conflict with; undefined: it is none. */
    known: Known | undefined,
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
    // A port that weft chooses is random, so that a released one rests; a range that is asked for is taken in order.
    const start = hostPorts === undefined ? randomInt(count) : 0;
    for (let i = 0; i < count; i++) {
      const hostPort = range.first + ((start + i) % count);
      const published: PublishedPort = { hostIp, hostPort, port, protocol, everywhere: known !== undefined };
      const conflict = this.#conflict(holder, published, known);
      if (conflict !== undefined) {
        if (count === 1) throw taken(published, { by: ` by ${nameOf(conflict, this.options.node)}` });
        continue;
      }
      const held = this.#hold(holder, published, families);
      if (typeof held === 'object') {
        const binding: PortBinding = { holder, published, families, held, open: [] };
        this.#bindings.add(binding);
        return binding;
      }
      if (held === 'away') {
        throw invalidArgument(
          `publish: ${hostIp} is not an address of node ${this.options.node}`,
          'Give one of its addresses (ip address), or leave it out to open the port on all of them.',
        );
      }
      if (count === 1) throw taken(published, await inUse(published));
    }
    throw resourceExhausted(
      `none of the ports ${range.first} to ${range.last}/${protocol} of node ${this.options.node} is free`,
      'Give another range, or close a port: weft port ls shows which are published.',
    );
  }

  #hold(
    holder: PortHolder,
    published: PublishedPort,
    families: readonly Family[],
  ): ReturnType<typeof holdPort> {
    return holdsPorts(holder)
      ? [{ release: () => undefined }]
      : holdPort(this.options.kernel, published, families);
  }

  /** The endpoint that has this port, or one that overlaps it. */
  #conflict(holder: PortHolder, published: PublishedPort, known: Known | undefined): PortHolder | undefined {
    const here = this.#bindings.conflicting(published);
    if (here !== undefined) return here.holder;
    return known && portConflict(known, holder, published, this.#displaced);
  }

  /** Forwards reserved ports to their endpoint. @throws WeftError if the firewall fails; the reservations stay */
  async open(
    membership: Membership,
    endpoint: Endpoint,
    ports: readonly PublishedPort[] = endpoint.publish,
  ): Promise<void> {
    const wanted = new Set(ports.map(textOf));
    const bindings = this.#bindings.of(endpoint.id).filter(({ published }) => wanted.has(textOf(published)));
    await this.#forward(membership, endpoint, bindings);
  }

  async #forward(
    membership: Membership,
    endpoint: Endpoint,
    bindings: readonly PortBinding[],
  ): Promise<void> {
    const changes = bindings.map((binding) => ({
      ...{ binding, before: binding.open },
      open: compilePort(membership, endpoint, binding.published),
    }));
    const added = changes.flatMap(({ before, open }) => without(open, before));
    const removed = changes.flatMap(({ before, open }) => without(before, open));
    // Set before the await: a concurrent close then closes what is being opened.
    for (const { binding, open } of changes) binding.open = open;
    if (added.length + removed.length === 0) return;
    try {
      await this.options.reconciler.changePorts(added, removed);
    } catch (error) {
      for (const { binding, before } of changes) binding.open = before;
      throw error;
    }
  }

  /** Closes ports of an endpoint and releases them; without `ports`, all of them. */
  async close(endpoint: string, ports?: readonly PublishedPort[]): Promise<void> {
    const wanted = ports === undefined ? undefined : new Set(ports.map(textOf));
    const bindings = this.#bindings
      .of(endpoint)
      .filter(({ published }) => wanted?.has(textOf(published)) !== false);
    const open = bindings.flatMap((binding) => binding.open);
    // Released last: another process gets the port only after forwarding has ended.
    if (open.length > 0) await this.options.reconciler.changePorts([], open);
    for (const binding of bindings) this.#drop(binding);
  }

  /**
   * Restores the ports of an endpoint of this node. A port stays open even if a process took it while no agent ran: that
   * process gets no packet either way, and a problem reports it.
   */
  async restore(membership: Membership, endpoint: Endpoint): Promise<void> {
    for (const published of this.#bindings.missing(endpoint.id, endpoint.publish))
      await this.#reserveAgain(this.#bind(endpoint, published));
    await this.open(membership, endpoint);
  }

  /** Opens the ingress ports of other nodes' endpoints on this network, and closes those that ended. */
  async follow(network: string): Promise<void> {
    const membership = this.options.memberships.get(network);
    const wanted = this.#ingress(network);
    const ids = new Set(wanted.map(({ id }) => id));
    for (const { id } of this.#followed(network)) if (!ids.has(id)) await this.close(id);
    if (membership !== undefined) for (const endpoint of wanted) await this.#followOne(membership, endpoint);
  }

  /** Endpoints of other nodes whose ingress ports this node is to open. */
  #ingress(network: string): Endpoint[] {
    const { store, memberships, node } = this.options;
    const membership = memberships.get(network);
    if (membership === undefined || membership.network.internal) return [];
    return ingressPorts(store.view.endpoints.get(network)?.values() ?? [], node, this.#displaced);
  }

  /** Those whose ingress ports it has bindings for. */
  #followed(network: string): PortHolder[] {
    return this.#bindings
      .holders()
      .filter((holder) => holder.network === network && holder.node !== this.options.node);
  }

  async #followOne(membership: Membership, endpoint: Endpoint): Promise<void> {
    const wanted = endpoint.publish.filter(({ everywhere }) => everywhere);
    const texts = new Set(wanted.map(textOf));
    const bound = this.#bindings.of(endpoint.id).map(({ published }) => published);
    const ended = bound.filter((published) => !texts.has(textOf(published)));
    if (ended.length > 0) await this.close(endpoint.id, ended);
    for (const published of this.#bindings.missing(endpoint.id, wanted)) this.#bind(endpoint, published);
    await this.#openRemote(membership, endpoint);
  }

  async #openRemote(membership: Membership, endpoint: Endpoint): Promise<void> {
    for (const binding of this.#bindings.of(endpoint.id)) await this.#reserveAgain(binding);
    // An ingress port never takes a port from a process of this node.
    const reserved = this.#bindings.of(endpoint.id).filter(({ held }) => held.length > 0);
    try {
      await this.#forward(membership, endpoint, reserved);
      for (const binding of reserved) this.#setProblem(binding, undefined);
    } catch (error) {
      for (const binding of reserved) this.#setProblem(binding, messageOf(error));
    }
  }

  /** This node has left the network. */
  async left(network: string): Promise<void> {
    for (const holder of this.#bindings.holders())
      if (holder.network === network) await this.close(holder.id);
  }

  /** Handles one batch of the store's changes. */
  async handle(changes: readonly Change[]): Promise<void> {
    const { node, memberships } = this.options;
    const changed = changedIngress(changes, node, this.#remote);
    const networks = new Set(changed.filter((network) => memberships.get(network) !== undefined));
    for (const network of this.#changedByNodes(changes)) networks.add(network);
    for (const network of networks) await this.follow(network);
  }

  /** Networks with ingress ports of a node that is gone now, or is back. */
  #changedByNodes(changes: readonly Change[]): string[] {
    const before = this.#gone;
    this.#displaced.handle(changes);
    this.#gone = this.#remote.size === 0 ? '' : goneNodes(this.#displaced);
    if (this.#gone === before) return [];
    return [...this.options.store.view.endpoints.keys()].filter((network) => {
      const ids = new Set(this.#followed(network).map(({ id }) => id));
      const wanted = this.#ingress(network);
      return wanted.length !== ids.size || wanted.some(({ id }) => !ids.has(id));
    });
  }

  async #retry(): Promise<void> {
    const { store, memberships, node } = this.options;
    const waiting = this.#bindings.all().filter(({ problem }) => problem !== undefined);
    for (const binding of waiting) {
      await this.#reserveAgain(binding);
      const { held, holder } = binding;
      if (held.length === 0 || holder.node === node) continue;
      const endpoint = store.view.endpoints.get(holder.network)?.get(holder.id);
      const membership = memberships.get(holder.network);
      if (endpoint !== undefined && membership !== undefined) await this.#openRemote(membership, endpoint);
    }
  }

  #bind(endpoint: Endpoint, published: PublishedPort): PortBinding {
    const families = familiesOf(published.hostIp, familiesIn(endpoint));
    const binding: PortBinding = { holder: endpoint, published, families, held: [], open: [] };
    this.#bindings.add(binding);
    return binding;
  }

  /** Reserves the port of a binding that lacks it. */
  async #reserveAgain(binding: PortBinding): Promise<void> {
    const lacksIt = (): boolean => this.#bindings.has(binding) && binding.held.length === 0;
    if (!lacksIt()) return;
    const { published, holder } = binding;
    const conflict = this.#bindings.conflicting(
      published,
      (other) => other !== binding && other.held.length > 0,
    );
    if (conflict !== undefined)
      return this.#setProblem(binding, `${nameOf(conflict.holder, this.options.node)} has it`);
    let why: string;
    let next: string | undefined;
    try {
      const held = this.#hold(holder, published, binding.families);
      if (typeof held === 'object') {
        binding.held = held;
        return this.#setProblem(binding, undefined);
      }
      const user = held === 'away' ? undefined : await inUse(published);
      why =
        user === undefined
          ? `${published.hostIp} is no address of this node any more`
          : `it is in use${user.by}`;
      next = user?.next;
    } catch (error) {
      // Such as no descriptors left: a passing failure, which does not change the endpoint.
      why = messageOf(error);
    }
    // Meanwhile it may have been released, or reserved.
    if (!lacksIt()) return;
    this.options.log.warn('a published port cannot be reserved', {
      port: textOf(published),
      endpoint: holder.name,
      why,
    });
    this.#setProblem(binding, why, next);
  }

  #setProblem(
    binding: PortBinding,
    why: string | undefined,
    fix = 'End the process that has the port, or publish another one; it is tried again every 10 seconds.',
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
    this.#setProblem(binding, undefined);
  }
}

/** Those of `some` that are not in `others`. */
function without(some: readonly FirewallPort[], others: readonly FirewallPort[]): FirewallPort[] {
  const keys = new Set(others.map(firewallPortKey));
  return some.filter((port) => !keys.has(firewallPortKey(port)));
}

/** Equal requests of one call are one; two requests for a free port are two. */
const unique = (requests: readonly PublishRequest[]): PublishRequest[] =>
  requests.filter(
    (request, i) =>
      request.hostPorts === undefined ||
      requests.findIndex((other) => JSON.stringify(other) === JSON.stringify(request)) === i,
  );

const nameOf = ({ name, network, node }: PortHolder, own: string): string =>
  `endpoint ${name} of network ${network}${node === own ? '' : ` on node ${node}`}`;
