// Networks for plugins: list, propose a subnet, create, join and leave.
import { randomInt } from 'node:crypto';

import { addressBits, IpAddress, IpNetwork } from '../../core/address.js';
import { containerMtu, gatewayOf, type Membership } from '../../core/compile.js';
import { addressingOf } from '../../core/drivers/index.js';
import {
  failedPrecondition,
  messageOf,
  resourceExhausted,
  unavailable,
  WeftError,
} from '../../core/errors.js';
import { keepsOut } from '../../core/host-routes.js';
import type { Manager } from '../../core/manager.js';
import { fitsRange, parseRange, prefixesOf, type Network, type NetworkSpec } from '../../core/network.js';
import type { Logger } from '../../daemon/log.js';
import type { HostNetworks, NodeSubnets, Subnets } from '../../daemon/plugin-host.js';
import type { Store } from '../../store/store.js';
import type { Endpoints } from '../endpoints/index.js';
import type { Kernel } from '../kernel/index.js';
import { checkHostRoutes, hostRoutesBeside, type Memberships } from '../networks/index.js';
import type { State } from '../state/index.js';

export interface PluginNetworksOptions {
  store: Store;
  kernel: Kernel;
  memberships: Memberships;
  endpoints: Endpoints;
  log: Logger;
  instance: string;
  state: Pick<State, 'formerSubnet'>;
}

/** Subnets that are tried before the call fails. */
const ATTEMPTS = 200;

/** @throws WeftError FAILED_PRECONDITION for a network without a subnet for each node */
function checkServed(network: Network): void {
  if (addressingOf(network) === 'subnets') return;
  const { name, driver } = network;
  throw failedPrecondition(
    `network ${name} is of the driver ${driver}, and plugins serve overlays only`,
    `Attach the container when it runs: weft attach ${name} CONTAINER.`,
  );
}

export class PluginNetworks {
  constructor(private readonly options: PluginNetworksOptions) {}

  /** The networks as one manager's plugin uses them. */
  of(manager: Manager): HostNetworks {
    const { store, memberships } = this.options;
    return {
      list: () => this.#list(),
      get: (name) => {
        const membership = memberships.get(name);
        return membership && subnetsOf(membership);
      },
      nodes: (name) => [...(store.view.leases.get(name)?.values() ?? [])].flatMap(({ node }) => node ?? []),
      known: (withinMs) => this.#known(withinMs),
      usedPrefixes: () => this.#usedPrefixes(),
      propose: (request) => this.#propose(request),
      check: (spec) => this.#check(spec),
      create: async (spec) => {
        await this.#check(spec);
        return store.createNetwork({ ...spec, madeBy: manager });
      },
      join: (name, wanted) => this.#join(name, wanted),
      leave: (name) => this.#leave(manager, name),
    };
  }

  /** In the store, and against the routes of this node, which is to join it. */
  async #check(spec: NetworkSpec): Promise<Network> {
    const network = this.options.store.checkNetwork(spec);
    await checkHostRoutes(this.options, network);
    return network;
  }

  /** Includes networks of this node that have not arrived from etcd yet. */
  #list(): Network[] {
    const known = new Map(this.options.memberships.list().map(({ network }) => [network.name, network]));
    for (const network of this.options.store.view.networks.values()) known.set(network.name, network);
    return [...known.values()];
  }

  async #known(withinMs: number): Promise<void> {
    try {
      await this.options.store.synced(AbortSignal.timeout(withinMs));
    } catch (error) {
      throw unavailable('the networks are not known yet: etcd has not answered', 'Try again when it does.', {
        cause: error,
      });
    }
  }

  async #usedPrefixes(): Promise<IpNetwork[]> {
    const { store, kernel } = this.options;
    const nodes = [...store.view.nodes.values()].flatMap(({ publicIp, publicIp6 }) =>
      [publicIp, publicIp6].flatMap((text) => {
        const ip = text === undefined ? undefined : IpAddress.tryParse(text);
        return ip === undefined ? [] : [IpNetwork.of(ip, addressBits(ip.family))];
      }),
    );
    const routes = await kernel.routes();
    return [...this.#list().flatMap(prefixesOf), ...routes.map(({ to }) => to), ...nodes];
  }

  async #propose(request: Parameters<HostNetworks['propose']>[0]): Promise<IpNetwork> {
    const { store, instance, state } = this.options;
    const { whole, hostPrefix, within } = request;
    const network = this.#list().find((other) => prefixesOf(other).some((prefix) => prefix.equals(whole)));
    if (network !== undefined) checkServed(network);
    const own = network && this.#own(network.name, whole);
    if (own !== undefined) {
      if (within === undefined || within.overlaps(own)) return own;
      throw failedPrecondition(
        `network ${network?.name ?? ''}: this node has ${own.toString()}, which is not in ${within.toString()}`,
        `Leave --ip-range out, or ask for ${own.toString()}.`,
      );
    }
    const isForced = (network ?? request).force === true;
    const avoid = isForced ? await this.#avoided(network, whole, hostPrefix) : [];
    const range = rangeOf(network, whole, hostPrefix);
    const bits = BigInt(addressBits(whole.family) - hostPrefix);
    const lowest = max(range.first.base.value, (within ?? whole).base.value) >> bits;
    const highest = min(range.last.base.value, (within ?? whole).last.value) >> bits;
    const count = highest - lowest + 1n;
    const taken = [...(network === undefined ? [] : this.#taken(network.name)), ...avoid];
    // A random start: nodes that search at the same time seldom try the same subnet.
    const start = count > 0n ? BigInt(randomInt(Number(min(count, 2n ** 40n)))) : 0n;
    const drawn = function* (): Generator<IpNetwork> {
      const former = state.formerSubnet(whole);
      // The node's gateway may be written somewhere, as a name server for instance.
      if (former !== undefined && within?.overlaps(former) !== false) yield former;
      for (let i = 0n; i < min(count, BigInt(ATTEMPTS)); i++) {
        const number = lowest + ((start + i) % count);
        yield IpNetwork.of(whole.at((number << bits) - whole.base.value), hostPrefix);
      }
    };
    for (const subnet of drawn()) {
      if (!fitsRange(range, hostPrefix, subnet) || taken.some((other) => other.overlaps(subnet))) continue;
      if (await store.proposeSubnet(whole, subnet, instance)) return subnet;
    }
    throw resourceExhausted(
      `${whole.toString()}: no /${hostPrefix} is free for this host${within === undefined ? '' : ` in ${within.toString()}`}${avoid.length === 0 ? '' : `, which has other networks at ${avoid.join(', ')}`}`,
      within === undefined
        ? 'Remove hosts that do not return (weft node rm), or make a larger network.'
        : 'Ask for another --ip-range, or leave it out.',
    );
  }

  /** The subnet that this node has, or had when it was on the network. */
  #own(name: string, whole: IpNetwork): IpNetwork | undefined {
    const { store, memberships, instance } = this.options;
    const lease =
      memberships.get(name)?.lease ??
      [...(store.view.leases.get(name)?.values() ?? [])].find((other) => other.instance === instance);
    return (
      lease && [lease.subnet, lease.subnet6].find((subnet) => subnet !== undefined && whole.contains(subnet))
    );
  }

  #taken(name: string): IpNetwork[] {
    const leases = [...(this.options.store.view.leases.get(name)?.values() ?? [])];
    return leases.flatMap(({ subnet, subnet6 }) => (subnet6 === undefined ? [subnet] : [subnet, subnet6]));
  }

  /** Where a node takes no subnet of a network that it may join beside its routes; without --force the join is refused. */
  async #avoided(network: Network | undefined, whole: IpNetwork, hostPrefix: number): Promise<IpNetwork[]> {
    if (network !== undefined) return (await hostRoutesBeside(this.options, network)).avoid;
    const routes = await this.options.kernel.routes();
    return routes
      .filter((route) => !route.isOwn && whole.contains(route.to) && keepsOut(route, hostPrefix))
      .map(({ to }) => to);
  }

  async #join(name: string, wanted: Subnets | undefined): Promise<NodeSubnets> {
    const network = this.#list().find((other) => other.name === name);
    if (network !== undefined) checkServed(network);
    // Without an endpoint no container is on the bridge.
    const how = wanted === undefined ? ({ withoutBridge: true } as const) : { wanted };
    return subnetsOf(await this.options.memberships.join(name, how));
  }

  async #leave(manager: Manager, name: string): Promise<void> {
    const { memberships, endpoints, store, log } = this.options;
    const network = memberships.get(name)?.network ?? store.view.networks.get(name);
    const others = endpoints.list().filter((other) => other.network === name && other.manager !== manager);
    if (others.length > 0) {
      log.info('this node stays on a network for containers of other managers', {
        network: name,
        manager,
        containers: others.length,
      });
      return;
    }
    await memberships.leave(name);
    if (network?.madeBy !== manager) return;
    try {
      await store.removeNetwork(name, { force: false, unleased: true });
      log.info('removed a network with its last node', { network: name, madeBy: manager });
    } catch (error) {
      const stays = error instanceof WeftError && ['FAILED_PRECONDITION', 'NOT_FOUND'].includes(error.code);
      if (!stays) throw error;
      log.debug('the network stays', { network: name, why: messageOf(error) });
    }
  }
}

function rangeOf(network: Network | undefined, whole: IpNetwork, hostPrefix: number): Network['range'] {
  const known = whole.family === network?.subnet.family ? network.range : network?.range6;
  return known ?? parseRange(whole, hostPrefix, undefined, undefined);
}

const min = (a: bigint, b: bigint): bigint => (a < b ? a : b);
const max = (a: bigint, b: bigint): bigint => (a > b ? a : b);

function subnetsOf(membership: Membership): NodeSubnets {
  const { network, lease } = membership;
  return {
    network,
    subnet: lease.subnet,
    gateway: gatewayOf(lease.subnet),
    ...(lease.subnet6 !== undefined && { subnet6: lease.subnet6, gateway6: gatewayOf(lease.subnet6) }),
    mtu: containerMtu(membership),
    subnetOnly: membership.subnetOnly === true,
  };
}
