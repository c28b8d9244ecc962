// host-gw: plain routes over the underlay's link, as flannel's backend.
//
// Each peer is the gateway of its own subnet, so it must be on a link of this node: a router in between does not know the
// subnets and would misroute the packets. No device, no header, the underlay's whole MTU.
import type { IpNetwork } from '../address.js';
import { ownBridgeName } from '../link-names.js';
import { goObject } from '../parse.js';
import { hostSource, routeMtu, type Backend, type Remote } from './backend.js';
import type { OnLink, OverlayMembership } from '../membership.js';

type Member = OverlayMembership<'host-gw'>;

/** The link on which the peer is a neighbour; undefined: it is behind a router. */
const linkTo = ({ underlay }: Member, { publicIp }: Remote): OnLink | undefined =>
  underlay.onLink.find(({ prefix }) => prefix.contains(publicIp));

export const hostGw: Backend<'host-gw'> = {
  type: 'host-gw',
  summary: "routes over the hosts' own link, without a tunnel",
  options: [],
  overhead: { 4: 0, 6: 0 },
  devices: 'none',
  needs: [],

  config: { schema: goObject({}), encode: () => ({}), saved: {} },
  data: undefined,

  parse: () => ({}),
  refuses: ({ internal }) =>
    internal
      ? "its packets arrive by the hosts' own link, where the firewall cannot tell them from what comes from outside"
      : undefined,
  allocate: (network) => network,
  settle: (network) => network,
  checkBeside: () => undefined,

  bridge: ({ name }) => ownBridgeName(name),
  tunnels: () => [],
  udpPorts: () => [],

  compileNetwork: () => [],
  compilePeer: (membership, remote) => [hostGw.routeTo(membership, remote, remote.subnet)],
  routeTo: (membership, remote, to: IpNetwork) => ({
    kind: 'route',
    to: to.toString(),
    link: linkTo(membership, remote)?.link ?? membership.underlay.link,
    via: remote.publicIp.toString(),
    underlay: true,
    ...hostSource(membership, remote.family),
    ...routeMtu(membership, remote, hostGw.overhead[remote.family]),
  }),
  unreachable(membership, remote) {
    if (linkTo(membership, remote) !== undefined) return undefined;
    const { link, onLink } = membership.underlay;
    const here = onLink.map(({ prefix }) => prefix.toString()).join(', ');
    return `its address ${remote.publicIp.toString()} is not on a link of this node (${link}: ${here}), and host-gw goes through no router`;
  },
  /** The peer's gateway: with host-gw no node has the base address of a subnet. */
  probeAddress: ({ subnet }) => subnet.at(1),
  advice: () =>
    'Check that nothing on the link (a firewall, a cloud, the security of a switch port) drops packets of the containers’ addresses.',

  describe: () => ({}),
  describeLease: () => ({}),
};
