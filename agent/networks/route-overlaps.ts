// Routes of this host that overlap its networks: a new join is refused, and a membership has a problem or a warning.
//
// A node that is on the network already keeps its data path: the route may be gone again in a moment, as a VPN's is.
import type { IpAddress } from '../../core/address.js';
import type { Membership } from '../../core/compile.js';
import { hostPrefixIn } from '../../core/families.js';
import { failedPrecondition } from '../../core/errors.js';
import {
  routesBeside,
  routesText,
  routeText,
  type HostRoute,
  type NetworkRoutes,
} from '../../core/host-routes.js';
import { prefixesOf, type Network } from '../../core/network.js';
import type { Logger } from '../../daemon/log.js';
import type { Store } from '../../store/store.js';
import { networkScope, type Problem, type Problems } from '../health/index.js';
import type { Kernel } from '../kernel/index.js';
import { Look } from '../reconcile/index.js';

/** IPv4 routes go with their link without a notification. */
const EVERY_MS = 10_000;
/** Routing daemons change routes all the time, and each look lists all of the host's. */
const SETTLE_MS = 1000;

type Sources = {
  kernel: Pick<Kernel, 'routes'>;
  store: Pick<Store, 'view'>;
  /** Networks whose bridge is another program's here: the prefix on its link is a node's subnet. Absent: none. */
  subnetOnly?: readonly string[];
};

function besideOf(
  { store, subnetOnly = [] }: Omit<Sources, 'kernel'>,
  network: Network,
  routes: readonly HostRoute[],
): NetworkRoutes {
  const isBridges = ({ isLan, to }: HostRoute): boolean =>
    isLan && to.length === hostPrefixIn(network, to.family);
  return routesBeside(
    network,
    subnetOnly.includes(network.name) ? routes.filter((route) => !isBridges(route)) : routes,
    [...(store.view.leases.get(network.name)?.values() ?? [])],
  );
}

/** What the routes of this host mean to a network now. */
export const hostRoutesBeside = async (sources: Sources, network: Network): Promise<NetworkRoutes> =>
  besideOf(sources, network, await sources.kernel.routes());

/** @throws WeftError FAILED_PRECONDITION where the host has routes inside the network, unless it was made with --force */
export async function checkHostRoutes(sources: Sources, network: Network): Promise<void> {
  if (network.force === true) return;
  const { inside } = await hostRoutesBeside(sources, network);
  if (inside.length === 0) return;
  throw failedPrecondition(
    `${prefixesOf(network).join(' and ')} overlaps ${inside.length === 1 ? 'a route' : 'routes'} of this host: ${routesText(inside)}`,
    'Choose another subnet, or remove the route. To join all the same, create the network with --force (Docker: --ipam-opt weft.force=true).',
  );
}

export interface RouteOverlapsOptions extends Sources {
  memberships: () => readonly Pick<Membership, 'network'>[];
  /** Other networks are kept from this host by its routes than before. */
  changed: () => Promise<void>;
  problems: Problems;
  log: Pick<Logger, 'debug'>;
}

export class RouteOverlaps {
  /** Routes inside networks of this node, by network. */
  readonly #inside = new Map<string, readonly HostRoute[]>();
  /** As they were last. */
  #routes: readonly HostRoute[] = [];
  #keptOut = '';
  /** A change of a route of the host's or of a membership is a reason to look, too. */
  readonly look: Look;

  constructor(private readonly options: RouteOverlapsOptions) {
    const { log } = options;
    const what = 'routes of this host that overlap its networks';
    this.look = new Look({ what, everyMs: EVERY_MS, settleMs: SETTLE_MS, log }, () => this.#look());
  }

  /** Whether routes of this host keep it out of a network: then it has another network at these addresses. */
  keepsOut(network: Network): boolean {
    return network.force !== true && besideOf(this.options, network, this.#routes).inside.length > 0;
  }

  /** The route of the host's that takes the packets to an address of a network, which are to go to a subnet of this length. */
  over(network: string, ip: IpAddress, length: number): HostRoute | undefined {
    return this.#inside.get(network)?.find(({ to }) => to.length >= length && to.contains(ip));
  }

  async #look(): Promise<void> {
    const { kernel, store, memberships, problems } = this.options;
    this.#routes = await kernel.routes();
    const gone = new Set(this.#inside.keys());
    for (const { network } of memberships()) {
      const { inside, around } = besideOf(this.options, network, this.#routes);
      const scope = networkScope(network.name);
      const isAllowed = network.force === true;
      problems.put({ scope, kind: 'overlap' }, isAllowed ? undefined : problemOf(network, inside));
      problems.put({ scope, kind: 'allowed-overlap' }, isAllowed ? problemOf(network, inside) : undefined);
      problems.put({ scope, kind: 'containing-route' }, warningOf(network, around));
      this.#inside.set(network.name, inside);
      gone.delete(network.name);
    }
    for (const name of gone) this.#left(name);
    const keptOut = [...store.view.networks.values()].filter((network) => this.keepsOut(network));
    const names = keptOut.map(({ name }) => name).join(' ');
    if (names === this.#keptOut) return;
    this.#keptOut = names;
    await this.options.changed();
  }

  #left(name: string): void {
    this.#inside.delete(name);
    for (const kind of ['overlap', 'allowed-overlap', 'containing-route'] as const)
      this.options.problems.clear({ scope: networkScope(name), kind });
  }
}

const shown = (network: Network): string => `network ${network.name} (${prefixesOf(network).join(' and ')})`;

function problemOf(network: Network, inside: readonly HostRoute[]): Problem | undefined {
  if (inside.length === 0) return undefined;
  return {
    what: shown(network),
    why: `it overlaps ${inside.length === 1 ? 'a route' : 'routes'} of this host, and of two things with one address only one is reached: ${routesText(inside)}`,
    fix:
      network.force === true
        ? 'The network was created with --force; keep these addresses out of use on one of the two sides.'
        : 'Remove the route, or create the network again with another subnet. Until then containers may not reach each other, nor what is behind the route.',
  };
}

function warningOf(network: Network, around: readonly HostRoute[]): Problem | undefined {
  const [first] = around.toSorted((a, b) => b.to.length - a.to.length);
  if (first === undefined) return undefined;
  return {
    what: shown(network),
    why: `the route ${routeText(first)} of this host contains it: what is behind that route with addresses of the network is not reached from here`,
    fix: 'Nothing, if no other machine has these addresses; else create the network again with another subnet.',
  };
}
