// udp: whole IP packets as the payload of UDP, as flannel's backend, for kernels that have nothing else.
//
// A process on each node, the pump (agent/kernel/pump), carries them between a TUN device and a socket; or the kernel does by
// FOU, which has the same format. A peer is its underlay address and its prefixes; what comes from elsewhere is dropped. IPv4
// alone, and nothing is encrypted.
import { addressBits } from '../address.js';
import { subnetIn } from '../families.js';
import { networkAlias, ownBridgeName, ownTunnelName } from '../link-names.js';
import type { OverlayMembership } from '../membership.js';
import { parseInteger, type OverlayNetwork } from '../network.js';
import { goObject, integer } from '../parse.js';
import { hostSource, routeMtu, tunnelMtu, type Backend } from './backend.js';
import { nowhere } from './direct.js';
import { checkPorts, choosePort } from './ports.js';

/** flannel's. */
export const UDP_PORT = 8285;

/** Outer IPv4 and UDP headers. */
const OVERHEAD = 28;

const isFou = ({ fou, network }: OverlayMembership<'udp'>): boolean =>
  fou === true && network.port === UDP_PORT;

const linkOf = ({ name }: Pick<OverlayNetwork, 'name'>): string => ownTunnelName('wfud-', name);

export const udp: Backend<'udp'> = {
  type: 'udp',
  summary: 'puts packets into UDP in a process, where the kernel has nothing else',
  options: ['port'],
  words: [],
  overhead: { 4: OVERHEAD, 6: OVERHEAD },
  devices: 'network',
  needs: ['tun'],
  unnamed: true,

  // One network at most has flannel's port, and the kernel makes one such device for an address.
  fou: (network) => (network.port === UDP_PORT ? { link: linkOf(network), port: UDP_PORT } : undefined),

  config: {
    // 0 is flannel's default, too.
    schema: goObject({ Port: integer(0, 65_535).default(0) }).transform(({ Port }) => ({
      port: Port || UDP_PORT,
    })),
    encode: ({ port }) => ({ Port: port }),
    saved: { port: integer(1, 65_535) },
  },
  data: undefined,

  /** The port stays 0 if a free one is to be chosen. */
  parse: ({ port }) => ({ port: port === undefined ? 0 : parseInteger(port, 'port', 1, 65_535) }),
  refuses: (network) =>
    subnetIn(network, 6) === undefined ? undefined : "it carries IPv4 alone, as flannel's",
  allocate: (network, others) =>
    network.port === 0 ? { ...network, port: choosePort(network.name, others, UDP_PORT, 1) } : network,
  settle: (network, { port }) => (network.port === 0 ? { ...network, port } : network),
  checkBeside(network, other): void {
    if (other.backend !== 'udp') return;
    checkPorts({ name: network.name, ports: [network.port] }, { name: other.name, ports: [other.port] });
  },

  carriers: (_network, family) => (family === 4 ? [4] : []),
  bridge: ({ name }) => ownBridgeName(name),
  tunnels: ({ network }) => [linkOf(network)],
  isPlain: () => false,
  vnis: () => [],
  udpPorts: ({ port }) => [port],

  compileNetwork(membership, { family, subnet, local }) {
    const { network } = membership;
    const whole = subnetIn(network, family);
    const link = linkOf(network);
    const common = {
      kind: 'link',
      name: link,
      alias: networkAlias(network.name),
      mtu: tunnelMtu(membership, OVERHEAD),
    } as const;
    return [
      ...(whole === undefined ? [] : [nowhere(whole)]),
      isFou(membership)
        ? { ...common, type: 'ipip', local: local.toString(), fou: network.port }
        : { ...common, type: 'tun' },
      { kind: 'address', link, address: `${subnet.base.toString()}/${addressBits(family)}` },
      {
        kind: 'pump',
        link,
        local: local.toString(),
        port: network.port,
        ...(isFou(membership) && { fou: true }),
      },
    ];
  },
  compilePeer: (membership, remote) => udp.routesTo(membership, remote, remote.subnet),
  routesTo(membership, remote, to) {
    const link = linkOf(membership.network);
    return [
      { kind: 'pump-prefix', link, to: to.toString(), via: remote.publicIp.toString() },
      {
        kind: 'route',
        to: to.toString(),
        link,
        // The kernel sends to the route's gateway; the pump to the peer that has the prefix.
        ...(isFou(membership) && { via: remote.publicIp.toString(), onlink: true }),
        ...hostSource(membership, remote.family),
        ...routeMtu(membership, remote, OVERHEAD),
      },
    ];
  },
  unreachable: () => undefined,
  /** The base address of a node's subnet is its device's own. */
  probeAddress: ({ subnet }) => subnet.base,
  advice: ({ port }) => `Check that UDP port ${port} is open between the two hosts, in both directions.`,

  describe: ({ port }) => ({ port }),
  describeLease: () => ({}),
};
