// host-gw: plain routes over the underlay's link, as flannel's backend.
//
// Each peer is the gateway of its own subnet, so it must be on a link of this node: a router in between does not know the
// subnets and would misroute the packets. No device, no header, the underlay's whole MTU.
// What no peer has is unreachable, rather than sent to such a router.
import { subnetIn } from '../families.js';
import { ownBridgeName } from '../link-names.js';
import { goObject } from '../parse.js';
import type { Backend } from './backend.js';
import { directRoute, linkTo, nowhere, ON_THE_HOSTS_LINK, whereIs } from './direct.js';

export const hostGw: Backend<'host-gw'> = {
  type: 'host-gw',
  summary: "routes over the hosts' own link, without a tunnel",
  options: [],
  words: [],
  overhead: { 4: 0, 6: 0 },
  devices: 'none',
  needs: [],

  config: { schema: goObject({}), encode: () => ({}), saved: {} },
  data: undefined,

  parse: () => ({}),
  refuses: ({ internal }) => (internal ? ON_THE_HOSTS_LINK : undefined),
  allocate: (network) => network,
  settle: (network) => network,
  checkBeside: () => undefined,

  carriers: (_network, family) => [family],
  bridge: ({ name }) => ownBridgeName(name),
  tunnels: () => [],
  isPlain: () => true,
  vnis: () => [],
  udpPorts: () => [],

  compileNetwork: ({ network }, { family }) => {
    const whole = subnetIn(network, family);
    return whole === undefined ? [] : [nowhere(whole)];
  },
  compilePeer: (membership, remote) => hostGw.routesTo(membership, remote, remote.subnet),
  routesTo(membership, remote, to) {
    const link = linkTo(membership, remote);
    return link === undefined ? [] : [directRoute(membership, remote, to, link)];
  },
  unreachable: (membership, remote) =>
    linkTo(membership, remote) === undefined
      ? `${whereIs(membership, remote)}, and host-gw goes through no router`
      : undefined,
  /** The peer's gateway: with host-gw no node has the base address of a subnet. */
  probeAddress: ({ subnet }) => subnet.at(1),
  advice: () =>
    'Check that nothing on the link (a firewall, a cloud, the security of a switch port) drops packets of the containers’ addresses.',

  describe: () => ({}),
  describeLease: () => ({}),
};
