// The ports of this node that lead to containers: whose each is, that nobody else has it, and that the firewall leads it
// there. Ports of this node's endpoints, and those that other nodes' endpoints have everywhere.
//
//   reserve ──▶ a claim, and a socket that keeps others off the port ──open──▶ the firewall leads it ──close──▶ gone
//
// An endpoint's record says what it has; here is only what follows from it, made anew at every start.
import { randomInt } from 'node:crypto';

import { compilePort, type Membership } from '../../core/compile.js';
import { failedPrecondition, invalidArgument, messageOf, resourceExhausted } from '../../core/errors.js';
import { gatewayNodeOf, hasOwnGateway } from '../../core/drivers/index.js';
import { firewallPortKey, type FirewallPort } from '../../core/firewall.js';
import type { Family } from '../../core/address.js';
import {
  ANY_HOST_IP,
  CHOSEN_PORTS,
  clashes,
  familiesOf,
  formatHostPort,
  type PublishRequest,
} from '../../core/publish.js';
import type { Endpoint, PublishedPort } from '../../core/records.js';
import type { Logger } from '../../daemon/log.js';
import type { Change, Store } from '../../store/store.js';
import type { PortReservation, Kernel } from '../kernel/index.js';
import type { Memberships } from '../networks/index.js';
import { ingressPorts, portConflict } from './port-conflicts.js';
import type { Problems } from '../health/index.js';
import type { Reconciler } from '../reconcile/index.js';
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

/** Whose a port is. */
export type PortHolder = Pick<Endpoint, 'id' | 'name' | 'network' | 'node'>;

interface Claim {
  holder: PortHolder;
  published: PublishedPort;
  families: readonly Family[];
  held: PortReservation[];
  /** What the firewall was told. */
  open: FirewallPort[];
  /** Why it is not as it should be. */
  problem?: string;
}

/** How often ports that could not be had are tried again. */
const RETRY_MS = 10_000;

export class PublishedPorts {
  readonly #byPort = new Map<string, Claim[]>();
  readonly #byEndpoint = new Map<string, Claim[]>();
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
  *list(): Iterable<{ holder: PortHolder; published: PublishedPort; problem?: string }> {
    for (const claims of this.#byEndpoint.values()) yield* claims;
  }

  /**
   * Takes ports of the host for an endpoint: all of them or none. They lead nowhere before `open`.
   * @param container the families that the endpoint has addresses of
   * @throws WeftError ALREADY_EXISTS naming who has a port, INVALID_ARGUMENT, RESOURCE_EXHAUSTED
   */
  async reserve(
    holder: PortHolder,
    requests: readonly PublishRequest[],
    everywhere: boolean,
    container: readonly Family[],
  ): Promise<PublishedPort[]> {
    const made: Claim[] = [];
    try {
      for (const request of unique(requests))
        made.push(await this.#reserveOne(holder, request, everywhere, container));
    } catch (error) {
      for (const claim of made) this.#drop(claim);
      throw error;
    }
    return made.map(({ published }) => published);
  }

  async #reserveOne(
    holder: PortHolder,
    request: PublishRequest,
    everywhere: boolean,
    container: readonly Family[],
  ): Promise<Claim> {
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
      const held = this.#hold(published, families);
      if (typeof held === 'object') {
        const claim: Claim = { holder, published, families, held, open: [] };
        this.#add(claim);
        return claim;
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
    const here = this.#byPort.get(portKey(published))?.find((claim) => clashes(claim.published, published));
    if (here !== undefined) return here.holder;
    return published.everywhere ? portConflict(this.options.store.view, holder, published) : undefined;
  }

  /** Keeps the port from everybody else. @throws WeftError as Kernel.reservePort; then nothing of it is held */
  #hold(
    { hostIp, hostPort, protocol }: PublishedPort,
    families: readonly Family[],
  ): PortReservation[] | 'taken' | 'away' {
    const held: PortReservation[] = [];
    const any = hostIp === ANY_HOST_IP;
    const giveBack = (): void => held.forEach((one) => one.release());
    try {
      for (const ip of any ? families.map((family) => (family === 4 ? ANY_HOST_IP : '::')) : [hostIp]) {
        const one = this.options.kernel.reservePort(ip, hostPort, protocol);
        if (typeof one === 'object') held.push(one);
        // A node without IPv6 has nothing to be kept there.
        else if (one === 'taken' || !any) {
          giveBack();
          return one;
        }
      }
      return held;
    } catch (error) {
      giveBack();
      throw error;
    }
  }

  /** Leads reserved ports to their endpoint. @throws WeftError where the firewall refuses; the reservations stay */
  async open(
    membership: Membership,
    endpoint: Endpoint,
    ports: readonly PublishedPort[] = endpoint.publish,
  ): Promise<void> {
    const wanted = new Set(ports.map(textOf));
    const claims = (this.#byEndpoint.get(endpoint.id) ?? []).filter(({ published }) =>
      wanted.has(textOf(published)),
    );
    await this.#lead(membership, endpoint, claims);
  }

  async #lead(membership: Membership, endpoint: Endpoint, claims: readonly Claim[]): Promise<void> {
    const changes = claims.map((claim) => ({
      ...{ claim, before: claim.open },
      open: compilePort(membership, endpoint, claim.published),
    }));
    const added = changes.flatMap(({ before, open }) => without(open, before));
    const removed = changes.flatMap(({ before, open }) => without(before, open));
    // Noted first: who closes one of them meanwhile closes what is being opened.
    for (const { claim, open } of changes) claim.open = open;
    if (added.length + removed.length === 0) return;
    try {
      await this.options.reconciler.changePorts(added, removed);
    } catch (error) {
      for (const { claim, before } of changes) claim.open = before;
      throw error;
    }
  }

  /** Closes ports of an endpoint, or all that it has, and gives them back. */
  async close(endpoint: string, ports?: readonly PublishedPort[]): Promise<void> {
    const wanted = ports === undefined ? undefined : new Set(ports.map(textOf));
    const claims = (this.#byEndpoint.get(endpoint) ?? []).filter(
      ({ published }) => wanted?.has(textOf(published)) !== false,
    );
    const open = claims.flatMap((claim) => claim.open);
    // Others get the port only when nothing leads it here any more.
    if (open.length > 0) await this.options.reconciler.changePorts([], open);
    for (const claim of claims) this.#drop(claim);
  }

  /**
   * Takes up what an endpoint of this node has. It stays open also where a process took the port while no agent held it:
   * the process would not get a packet either way, and the problem says so.
   */
  async restore(membership: Membership, endpoint: Endpoint): Promise<void> {
    const container: Family[] = endpoint.ip6 === undefined ? [4] : [4, 6];
    const known = new Set(
      (this.#byEndpoint.get(endpoint.id) ?? []).map(({ published }) => textOf(published)),
    );
    for (const published of endpoint.publish) {
      if (known.has(textOf(published))) continue;
      const claim: Claim = {
        holder: endpoint,
        published,
        families: familiesOf(published.hostIp, container),
        held: [],
        open: [],
      };
      this.#add(claim);
      await this.#holdAgain(claim);
    }
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
    for (const [id, [claim]] of [...this.#byEndpoint]) {
      if (claim?.holder.network === network && claim.holder.node !== node && !ids.has(id))
        await this.close(id);
    }
    if (membership !== undefined) for (const endpoint of wanted) await this.#followOne(membership, endpoint);
  }

  async #followOne(membership: Membership, endpoint: Endpoint): Promise<void> {
    const wanted = endpoint.publish.filter(({ everywhere }) => everywhere);
    const texts = new Set(wanted.map(textOf));
    const claims = this.#byEndpoint.get(endpoint.id) ?? [];
    const gone = claims.filter(({ published }) => !texts.has(textOf(published)));
    if (gone.length > 0)
      await this.close(
        endpoint.id,
        gone.map(({ published }) => published),
      );
    const known = new Set(claims.map(({ published }) => textOf(published)));
    for (const published of wanted) {
      if (known.has(textOf(published))) continue;
      const families = familiesOf(published.hostIp, endpoint.ip6 === undefined ? [4] : [4, 6]);
      this.#add({ holder: endpoint, published, families, held: [], open: [] });
    }
    await this.#openRemote(membership, endpoint);
  }

  async #openRemote(membership: Membership, endpoint: Endpoint): Promise<void> {
    for (const claim of this.#byEndpoint.get(endpoint.id) ?? []) await this.#holdAgain(claim);
    // A process of this node keeps its port: nobody asked it.
    const able = (this.#byEndpoint.get(endpoint.id) ?? []).filter(({ held }) => held.length > 0);
    try {
      await this.#lead(membership, endpoint, able);
      for (const claim of able) this.#say(claim, undefined);
    } catch (error) {
      for (const claim of able) this.#say(claim, messageOf(error));
    }
  }

  /** This node is on the network no more. */
  async left(network: string): Promise<void> {
    for (const [id, [claim]] of [...this.#byEndpoint])
      if (claim?.holder.network === network) await this.close(id);
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
    const waiting = [...this.#byEndpoint.values()].flat().filter(({ problem }) => problem !== undefined);
    for (const claim of waiting) {
      await this.#holdAgain(claim);
      if (claim.held.length === 0 || claim.holder.node === node) continue;
      const endpoint = store.view.endpoints.get(claim.holder.network)?.get(claim.holder.id);
      const membership = memberships.get(claim.holder.network);
      if (endpoint !== undefined && membership !== undefined) await this.#openRemote(membership, endpoint);
    }
  }

  /** Takes the port of a claim that has none. */
  async #holdAgain(claim: Claim): Promise<void> {
    const lacksIt = (): boolean => this.#has(claim) && claim.held.length === 0;
    if (!lacksIt()) return;
    const { published, holder } = claim;
    const conflict = this.#byPort
      .get(portKey(published))
      ?.find((other) => other !== claim && other.held.length > 0 && clashes(other.published, published));
    if (conflict !== undefined)
      return this.#say(claim, `${nameOf(conflict.holder, this.options.node)} has it`);
    let why: string;
    let next: string | undefined;
    try {
      const held = this.#hold(published, claim.families);
      if (typeof held === 'object') {
        claim.held = held;
        return this.#say(claim, undefined);
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
    this.#say(claim, why, next);
  }

  #say(
    claim: Claim,
    why: string | undefined,
    fix = 'End what has the port, or publish another one; it is tried again every 10 seconds.',
  ): void {
    const { published, holder } = claim;
    const key = `port ${holder.id} ${textOf(published)}`;
    if (why === undefined) {
      delete claim.problem;
      this.options.problems.clear(key);
      return;
    }
    if (!this.#has(claim)) return;
    claim.problem = why;
    this.options.problems.set(key, {
      what: `port ${formatHostPort(published)}/${published.protocol}, published by ${nameOf(holder, this.options.node)}`,
      why,
      fix,
    });
  }

  #add(claim: Claim): void {
    push(this.#byPort, portKey(claim.published), claim);
    push(this.#byEndpoint, claim.holder.id, claim);
  }

  /** Whether it has not been given back. */
  #has(claim: Claim): boolean {
    return this.#byEndpoint.get(claim.holder.id)?.includes(claim) === true;
  }

  #drop(claim: Claim): void {
    for (const held of claim.held.splice(0)) held.release();
    this.#say(claim, undefined);
    pull(this.#byPort, portKey(claim.published), claim);
    pull(this.#byEndpoint, claim.holder.id, claim);
  }
}

const portKey = ({ protocol, hostPort }: PublishedPort): string => `${protocol} ${hostPort}`;
const textOf = ({ hostIp, hostPort, port, protocol, everywhere }: PublishedPort): string =>
  `${hostIp} ${hostPort} ${port} ${protocol} ${everywhere}`;

/** Those of `some` that `others` has not. */
function without(some: readonly FirewallPort[], others: readonly FirewallPort[]): FirewallPort[] {
  const keys = new Set(others.map(firewallPortKey));
  return some.filter((port) => !keys.has(firewallPortKey(port)));
}

function push<T>(map: Map<string, T[]>, key: string, value: T): void {
  const list = map.get(key);
  if (list === undefined) map.set(key, [value]);
  else list.push(value);
}

function pull<T>(map: Map<string, T[]>, key: string, value: T): void {
  const list = map.get(key)?.filter((one) => one !== value) ?? [];
  if (list.length === 0) map.delete(key);
  else map.set(key, list);
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

/** @throws WeftError FAILED_PRECONDITION */
export function checkPublishable(network: Membership['network']): void {
  if (!hasOwnGateway(network) || gatewayNodeOf(network) !== undefined) {
    throw failedPrecondition(
      `network ${network.name} has no gateway of this node's own, so no port of the node can lead into it`,
      'Its containers are reached at their own addresses; or attach to another network, too, and publish the port there.',
    );
  }
  if (!network.internal) return;
  throw failedPrecondition(
    `network ${network.name} is internal: nothing outside reaches it, so no port can lead into it`,
    'Attach the container to another network, too, and publish the port there.',
  );
}
