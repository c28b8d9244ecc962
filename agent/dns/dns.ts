// DNS on this node: table of names, listeners, responder and forwarding.
//
// The table holds the records of etcd and the node's own endpoints. Every gateway address answers from it; other queries go
// to the host's servers.
import type { IpAddress } from '../../core/address.js';
import { gatewayOf, hasResolver, ownGateways, RESOLVER_IP, type Membership } from '../../core/compile.js';
import { areSame } from '../../core/differences.js';
import { addressingOf } from '../../core/drivers/index.js';
import { prefixesOf, type Network } from '../../core/network.js';
import { addressesOf, type Endpoint } from '../../core/records.js';
import type { Logger } from '../../daemon/log.js';
import type { DisplacedNodes } from '../../store/displaced-nodes.js';
import type { Change, Store } from '../../store/store.js';
import type { Kernel } from '../kernel/index.js';
import type { Memberships } from '../networks/index.js';
import type { Problems } from '../health/index.js';
import { sameSandbox } from '../reconcile/index.js';
import type { World } from './answer.js';
import { HostResolvConf } from './host-resolv-conf.js';
import { Listeners } from './listeners.js';
import type { DnsMetrics } from './metrics.js';
import { endpointEntry, NameTable, ownNameEntry } from './names.js';
import { NodeHealths } from './node-health.js';
import { containerResolvConf } from './resolv-conf.js';
import { plainAddress, Responder, type Client } from './responder.js';
import { Upstream, type UpstreamServer } from './upstream.js';

export interface DnsOptions {
  store: Store;
  /** Follows the store before this part does. */
  displaced: Pick<DisplacedNodes, 'isGone'>;
  memberships: Pick<Memberships, 'list' | 'get'>;
  kernel: Pick<Kernel, 'ping'>;
  problems: Problems;
  metrics: DnsMetrics;
  log: Logger;
  node: string;
  /** Whether DNS is on. */
  listen: boolean;
  /** The configured servers; without one for all domains, the host's servers are used. */
  servers: readonly UpstreamServer[];
}

/** How often what changes without a notification is looked at: the networks that it listens for, and the host's resolv.conf. */
const LOOK_EVERY_MS = 1000;

const endpointKey = (id: string): string => `endpoint ${id}`;
const ownNameKey = (network: string, name: string): string => `name ${network} ${name}`;

export class Dns {
  readonly table = new NameTable();
  readonly upstream: Upstream;
  readonly #health: NodeHealths;
  readonly #responder: Responder;
  readonly #listeners: Listeners;
  readonly #host: HostResolvConf;
  /** This node's own endpoints, by id and by address. */
  readonly #own = new Map<string, Endpoint>();
  readonly #ownByIp = new Map<string, Endpoint>();
  readonly #ends: (() => void)[] = [];
  #generation = 0;
  #look: NodeJS.Timeout | undefined;
  /** What the last `refresh` went by, and its result. */
  #of: readonly unknown[] | undefined;
  #listening = '';

  constructor(private readonly options: DnsOptions) {
    const { store, displaced, kernel, log, problems, node, metrics } = options;
    this.#host = new HostResolvConf(log);
    this.#health = new NodeHealths({
      view: store.view,
      displaced,
      node,
      ping: (ips, timeoutMs) =>
        kernel.ping(
          ips.map((ip) => ({ ip })),
          timeoutMs,
        ),
      onChange: () => this.#generation++,
    });
    this.upstream = new Upstream({
      servers: () => this.#servers(),
      isOwn: (ip) => this.#isGateway(ip),
      problems,
      onAnswered: (server, seconds) => metrics.upstreamSeconds.observe({ server }, seconds),
    });
    this.#responder = new Responder({
      world: this.world,
      upstream: this.upstream,
      generation: () => this.#generation + this.table.generation,
      clientAt: (ip) => this.clientAt(ip),
      onResult: (result) => {
        metrics.results[result]++;
      },
    });
    this.#listeners = new Listeners({
      handle: (message, ip, transport) => this.#responder.handle(message, ip, transport),
      log,
      problems,
    });
  }

  get world(): World {
    return {
      table: this.table,
      healthOf: (node) => this.#health.of(node),
      isOverlay: (ip) => this.#isOverlay(ip),
    };
  }

  /** Whether this node answers queries. */
  get listens(): boolean {
    return this.options.listen;
  }

  start(): void {
    const { store } = this.options;
    for (const endpoints of store.view.endpoints.values()) {
      for (const endpoint of endpoints.values()) this.#endpointRecord(endpoint.id, endpoint);
    }
    for (const names of store.view.names.values()) {
      for (const name of names.values())
        this.table.put(ownNameKey(name.network, name.name), ownNameEntry(name));
    }
    this.#ends.push(store.subscribe((changes) => this.handle(changes)));
    this.#look = setInterval(() => {
      if (this.#host.look()) this.upstream.reset();
      this.refresh();
    }, LOOK_EVERY_MS);
    this.refresh();
  }

  async stop(): Promise<void> {
    clearInterval(this.#look);
    for (const end of this.#ends) end();
    this.upstream.stop();
    await Promise.all([this.#listeners.stop(), this.#health.stop()]);
  }

  /** Handles changes of the store, at once, so that a name exists as soon as its record. */
  handle(changes: readonly Change[]): void {
    for (const change of changes) {
      if (change.kind === 'endpoint') this.#endpointRecord(change.id, change.after);
      else if (change.kind === 'ownName') {
        const key = ownNameKey(change.network, change.name);
        if (change.after === undefined) this.table.remove(key);
        else this.table.put(key, ownNameEntry(change.after));
      } else if (change.kind === 'network') this.#generation++;
    }
    this.#health.handle(changes);
  }

  /** Handles this node's own endpoints, which the node knows before etcd, and also while etcd is down. */
  ownEndpoint(endpoint: Endpoint, there: boolean): void {
    this.#generation++;
    const before = this.#own.get(endpoint.id);
    if (before !== undefined) for (const ip of addressesOf(before)) this.#ownByIp.delete(ip);
    if (!there) {
      this.#own.delete(endpoint.id);
      this.table.remove(endpointKey(endpoint.id));
      return;
    }
    this.#own.set(endpoint.id, endpoint);
    for (const ip of addressesOf(endpoint)) this.#ownByIp.set(ip, endpoint);
    this.table.put(endpointKey(endpoint.id), endpointEntry(endpoint));
  }

  /** Handles an endpoint in the store; for its own endpoints the node itself is authoritative. */
  #endpointRecord(id: string, after: Endpoint | undefined): void {
    if (this.#own.has(id)) return;
    if (after === undefined || after.node === this.options.node) this.table.remove(endpointKey(id));
    else this.table.put(endpointKey(id), endpointEntry(after));
  }

  /** The node's networks may have changed: listens on exactly their gateways, and at RESOLVER_IP. */
  refresh(): void {
    const memberships = this.options.memberships.list();
    const of = memberships.flatMap((one): unknown[] => Object.values(one));
    if (areSame(of, this.#of)) return;
    this.#of = of;
    const wanted = listenedAt(memberships);
    const key = JSON.stringify([...wanted]);
    if (key !== this.#listening) {
      this.#listening = key;
      this.#generation++;
    }
    this.#listeners.ensure(this.options.listen ? wanted : new Map());
  }

  /** The client at an address: a container of this node, or a host on one of its networks. Undefined: REFUSED. */
  clientAt(text: string): Client | undefined {
    const own = this.#ownByIp.get(text);
    if (own !== undefined) return this.#client(this.networksOf(own), false);
    const ip = plainAddress(text);
    if (ip === undefined) return undefined;
    const membership = this.options.memberships
      .list()
      .find(({ network }) => prefixesOf(network).some((prefix) => prefix.contains(ip)));
    return membership && this.#client([membership.network.name], true);
  }

  #client(networks: readonly string[], external: boolean): Client {
    const isInternal = (name: string): boolean =>
      this.options.memberships.get(name)?.network.internal === true;
    return { networks, external, isolated: networks.every(isInternal) };
  }

  /** Every network of a container: this endpoint's first, then in the order of attachment. */
  networksOf(endpoint: Endpoint): string[] {
    const others = [...this.#own.values()].filter(
      (other) => other.id !== endpoint.id && sameSandbox(other.sandbox, endpoint.sandbox),
    );
    others.sort((a, b) => a.createdAt.localeCompare(b.createdAt));
    return [...new Set([endpoint, ...others].map(({ network }) => network))];
  }

  ownEndpoints(): Endpoint[] {
    return [...this.#own.values()];
  }

  /** The text of resolv.conf for a container on these networks, the most important first. */
  resolvConf(networks: readonly string[]): string {
    const memberships = networks
      .map((network) => this.options.memberships.get(network))
      .filter((membership): membership is Membership => membership !== undefined);
    return containerResolvConf(memberships, this.#host.current);
  }

  #servers(): readonly UpstreamServer[] {
    const { servers } = this.options;
    if (servers.some(({ domain }) => domain === undefined)) return servers;
    return [...servers, ...this.#host.current.nameservers.map((ip) => ({ ip, port: 53 }))];
  }

  /** The gateways of every node's subnet, and what stands for any of them; weft answers on all of them. */
  #isGateway(text: string): boolean {
    if (text === RESOLVER_IP) return true;
    const { store, memberships } = this.options;
    if (memberships.list().some((one) => ownGateways(one).some((gateway) => gateway.toString() === text)))
      return true;
    const ip = plainAddress(text);
    if (ip === undefined || !this.#isOverlay(ip)) return false;
    // Of thousands of leases those of one network are looked at.
    return [...store.view.networks.values()].some(
      (network) =>
        hasSubnets(network) &&
        prefixesOf(network).some((prefix) => prefix.contains(ip)) &&
        [...(store.view.leases.get(network.name)?.values() ?? [])].some(
          (lease) => lease.node !== undefined && gatewaysOf(lease).includes(text),
        ),
    );
  }

  #isOverlay(ip: IpAddress): boolean {
    const networks = [
      ...this.options.store.view.networks.values(),
      ...this.options.memberships.list().map(({ network }) => network),
    ];
    return networks.some((network) => prefixesOf(network).some((prefix) => prefix.contains(ip)));
  }
}

/** The addresses at which the node answers in its networks, and for whom (`network blue`). */
export function listenedAt(memberships: readonly Membership[]): Map<string, string> {
  const places = new Map<string, string>();
  for (const membership of memberships) {
    for (const ip of ownGateways(membership)) places.set(ip.toString(), `network ${membership.network.name}`);
  }
  if (memberships.some(hasResolver)) places.set(RESOLVER_IP, 'every network');
  return places;
}

/** Whether each node has a subnet of its own, and so a gateway. */
const hasSubnets = (network: Network): boolean => addressingOf(network) === 'subnets';

const gatewaysOf = ({ subnet, subnet6 }: Membership['lease']): string[] =>
  [subnet, ...(subnet6 === undefined ? [] : [subnet6])].map((one) => gatewayOf(one).toString());
