// ipip: IP packets in IP packets (RFC 2003), as flannel's backend. IPv4 alone.
//
// The kernel makes one such device for an underlay address, so a node has one for all networks, and a route's gateway is the
// peer's underlay address. What tells the networks apart is their addresses: for the firewall they come as without a tunnel.
import { addressBits } from '../address.js';
import { subnetIn } from '../families.js';
import { ownBridgeName } from '../link-names.js';
import type { OverlayMembership } from '../membership.js';
import { flag, goObject } from '../parse.js';
import * as z from 'zod';
import { hostSource, routeMtu, type Backend, type Remote } from './backend.js';
import { directRoute, linkTo, nowhere } from './direct.js';

/** Outer IPv4 header. */
const OVERHEAD = 20;

const LINK = 'wfipip';

export const ipip: Backend<'ipip'> = {
  type: 'ipip',
  summary: 'puts IP packets into IP packets (RFC 2003)',
  options: ['directRouting'],
  words: [],
  overhead: { 4: OVERHEAD, 6: OVERHEAD },
  devices: 'node',
  needs: ['ipip'],
  inIp: true,

  config: {
    schema: goObject({ DirectRouting: flag.default(false) }).transform(({ DirectRouting }) =>
      DirectRouting ? { directRouting: true as const } : {},
    ),
    encode: ({ directRouting }) => ({ DirectRouting: directRouting }),
    saved: { directRouting: z.literal(true).optional() },
  },
  data: undefined,

  parse: ({ directRouting }) => (directRouting === true ? { directRouting } : {}),
  refuses(network) {
    if (subnetIn(network, 6) !== undefined) return "it carries IPv4 alone, as flannel's";
    return network.internal
      ? "its packets arrive by a device that all of a node's ipip networks share"
      : undefined;
  },
  allocate: (network) => network,
  settle: (network) => network,
  checkBeside: () => undefined,

  carriers: (_network, family) => (family === 4 ? [4] : []),
  bridge: ({ name }) => ownBridgeName(name),
  tunnels: () => [LINK],
  isPlain: () => true,
  vnis: () => [],
  udpPorts: () => [],

  compileNetwork({ network, underlay }, { family, subnet, local }) {
    const whole = subnetIn(network, family);
    return [
      ...(whole === undefined ? [] : [nowhere(whole)]),
      {
        kind: 'link',
        type: 'ipip',
        name: LINK,
        // Equal in all networks, like its MTU.
        alias: 'weft ipip',
        mtu: underlay.mtu - OVERHEAD,
        local: local.toString(),
      },
      { kind: 'address', link: LINK, address: `${subnet.base.toString()}/${addressBits(family)}` },
    ];
  },
  compilePeer: (membership, remote) => ipip.routesTo(membership, remote, remote.subnet),
  routesTo(membership, remote, to) {
    const direct = directLink(membership, remote);
    if (direct !== undefined) return [directRoute(membership, remote, to, direct)];
    return [
      {
        kind: 'route',
        to: to.toString(),
        link: LINK,
        via: remote.publicIp.toString(),
        onlink: true,
        // The device has an address of each network; the kernel would take the first.
        src: subnetIn(membership.lease, remote.family)?.base.toString() ?? '',
        ...hostSource(membership, remote.family),
        ...routeMtu(membership, remote, OVERHEAD),
      },
    ];
  },
  unreachable: () => undefined,
  /** The base address of a node's subnet is on its device. */
  probeAddress: ({ subnet }) => subnet.base,
  advice: () => 'Check that IP protocol 4 (IP in IP) passes between the two hosts, in both directions.',

  describe: ({ directRouting = false }) => ({ directRouting }),
  describeLease: () => ({}),
};

/** With DirectRouting, the link on which the peer is a neighbour; otherwise packets to it are tunnelled. */
const directLink = (membership: OverlayMembership<'ipip'>, remote: Remote): string | undefined =>
  membership.network.directRouting === true ? linkTo(membership, remote) : undefined;
