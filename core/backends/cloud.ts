// Backends whose packets the cloud routes: the router of the hosts' own link has a route to each node's subnet.
//
// No device and no header. A peer is reached by way of this node's router, whether or not it is on the same link: a cloud
// delivers a packet by its own tables and not by the address that a neighbour has. What no peer has is unreachable. The routes
// of the cloud are no kernel objects: core/cloud.ts plans them.
import { subnetIn } from '../families.js';
import { ownBridgeName } from '../link-names.js';
import type { OverlayMembership, Router } from '../membership.js';
import type { Backend, Remote } from './backend.js';
import { hostSource, routeMtu } from './backend.js';
import { nowhere, ON_THE_HOSTS_LINK } from './direct.js';
import type { BackendType } from './types.js';

/** The router of the widest prefix: the default route's, where the node has one. */
function routerOf({ underlay }: OverlayMembership, { family }: Remote): Router | undefined {
  const routers = (underlay.routers ?? []).filter(({ via }) => via.family === family);
  return routers.reduce<Router | undefined>(
    (best, router) => (best === undefined || router.prefix.length < best.prefix.length ? router : best),
    undefined,
  );
}

type Shared =
  | 'overhead'
  | 'devices'
  | 'needs'
  | 'data'
  | 'unnamed'
  | 'refuses'
  | 'allocate'
  | 'settle'
  | 'checkBeside'
  | 'carriers'
  | 'bridge'
  | 'tunnels'
  | 'isPlain'
  | 'vnis'
  | 'udpPorts'
  | 'compileNetwork'
  | 'compilePeer'
  | 'routesTo'
  | 'unreachable'
  | 'probeAddress'
  | 'describe'
  | 'describeLease';

/** What such backends have in common. */
export function cloudBackend<T extends BackendType>(): Pick<Backend<T>, Shared> {
  const routesTo: Backend<T>['routesTo'] = (membership, remote, to) => {
    const router = routerOf(membership, remote);
    if (router === undefined) return [];
    return [
      {
        kind: 'route',
        to: to.toString(),
        link: membership.underlay.link,
        via: router.via.toString(),
        underlay: true,
        ...hostSource(membership, remote.family),
        ...routeMtu(membership, remote, 0),
      },
    ];
  };
  return {
    overhead: { 4: 0, 6: 0 },
    devices: 'none',
    needs: [],
    data: undefined,
    unnamed: true,
    refuses: ({ internal, subnet, subnet6 }) =>
      subnet.family === 6 || subnet6 !== undefined
        ? 'it routes IPv4 alone, and the network has IPv6'
        : internal
          ? ON_THE_HOSTS_LINK
          : undefined,
    allocate: (network) => network,
    settle: (network) => network,
    checkBeside: () => undefined,

    carriers: (_network, family) => (family === 4 ? [4] : []),
    bridge: ({ name }) => ownBridgeName(name),
    tunnels: () => [],
    isPlain: () => true,
    vnis: () => [],
    udpPorts: () => [],

    compileNetwork: ({ network }, { family }) => {
      const whole = subnetIn(network, family);
      return whole === undefined ? [] : [nowhere(whole)];
    },
    compilePeer: (membership, remote) => routesTo(membership, remote, remote.subnet),
    routesTo,
    unreachable: (membership, remote) =>
      routerOf(membership, remote) === undefined
        ? `this node has no route through a router on ${membership.underlay.link}, and the cloud's network is behind it`
        : undefined,
    /** The peer's gateway: no node has the base address of a subnet. */
    probeAddress: ({ subnet }) => subnet.at(1),

    describe: () => ({}),
    describeLease: () => ({}),
  };
}
