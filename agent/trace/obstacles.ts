// Why a packet does not get to a point, as far as the kernel and the records say it without a packet.
import type { ProbeObstacle } from '../../proto/gen/weft/v1/trace.js';
import type { TraceLink, TraceNeighbour } from '../kernel/index.js';

/** In a container, and on a node. */
const at = (where: string): string => `${where.startsWith('node ') ? 'on' : 'in'} ${where}`;

/** By the errno of a lookup (inet_rtm_getroute and ip_route_input_slow in net/ipv4/route.c). */
const ROUTE_ERRORS: Readonly<Record<string, string>> = {
  EINVAL: 'a blackhole route, or a source address that is not its own',
  ENETUNREACH: 'no route',
  EHOSTUNREACH: 'an unreachable route, or forwarding is off',
  EACCES: 'a prohibit route',
  EXDEV: 'the reverse path filter (rp_filter) drops it: the way back leads elsewhere',
  ENODEV: 'the link is not there',
};

export const noRoute = (where: string, to: string, errno: string): ProbeObstacle => ({
  reason: `${where} has no way to ${to}: ${ROUTE_ERRORS[errno] ?? errno}`,
  why: `the kernel answers ${errno} to a lookup of its routes`,
  fix: `See \`ip route get ${to}\` and \`ip route show table all\` there, and delete the route that weft did not make.`,
});

export const hasItself = (where: string, ip: string): ProbeObstacle => ({
  reason: `${where} has ${ip} itself, and sends nothing to the other that has it`,
  why: 'the address is on one of its own interfaces, too',
  fix: `Delete it there: see \`ip address show to ${ip}\`.`,
});

export const strangeRoute = (where: string, to: string, link: string): ProbeObstacle => ({
  reason: `a route ${at(where)} takes packets to ${to} to ${link}, which is not of weft`,
  why: 'a more specific route than that of the network is in force',
  fix: `Delete it there: see \`ip route get ${to}\`.`,
});

/** @param size of the packet; 0: it does not matter here */
export function linkObstacle(
  link: TraceLink | undefined,
  name: string,
  where: string,
  size: number,
): ProbeObstacle | undefined {
  if (link === undefined)
    return {
      reason: `${where} has no interface ${name}`,
      why: 'it was deleted or renamed',
      fix: 'See `ip link` there; weft makes it again where it is its own.',
    };
  if (!link.up)
    return {
      reason: `${name} ${at(where)} is down`,
      why: 'somebody set it down',
      fix: `Set it up there: ip link set ${name} up.`,
    };
  // Without a carrier a link of a pair has only the other end down.
  if (!link.running && link.kind !== 'veth')
    return {
      reason: `${name} ${at(where)} has no carrier`,
      why: 'the cable is out, or its other end is down',
      fix: `See \`ip link show ${name}\` there, and what it is connected to.`,
    };
  if (size > link.mtu)
    return {
      reason: `packets of ${size} bytes are larger than the MTU of ${name} ${at(where)}, ${link.mtu}`,
      why: 'they must not be fragmented, and the kernel refuses them',
      fix: `Send at most ${link.mtu} bytes; programs that heed the MTU do.`,
    };
  return undefined;
}

/** @param entry what is known of the neighbour; undefined: nobody has asked yet */
export function neighbourObstacle(
  entry: TraceNeighbour | undefined,
  ip: string,
  link: string,
  where: string,
): ProbeObstacle | undefined {
  if (entry === undefined || entry.isKnown) return undefined;
  return {
    reason: `nobody answers for ${ip} at ${link} ${at(where)}`,
    why: 'its neighbour entry is not resolved (ARP or neighbour discovery)',
    fix: `See \`ip neigh show ${ip}\` there, and whether somebody has that address.`,
  };
}

export const wrongNeighbour = (
  { ip, mac = '', isPermanent }: TraceNeighbour,
  owner: string,
  right: string,
  where: string,
): ProbeObstacle => ({
  reason: isPermanent
    ? `a permanent neighbour entry ${at(where)} has a wrong MAC address for ${ip}`
    : `${ip} is answered for by another than ${owner}`,
  why: `frames to it go to ${mac}, and ${owner} has ${right}`,
  fix: isPermanent
    ? `Delete it there: ip neigh del ${ip}.`
    : `Find who has ${mac}, and give one of the two another address.`,
});

export const notThere = (ip: string, where: string): ProbeObstacle => ({
  reason: `${ip} is not an address of ${where} any more`,
  why: 'somebody deleted it there',
  fix: 'weft puts it back within 10 seconds; see `weft status` where it does not.',
});

export const nobodyHas = (ip: string, link: string, node: string): ProbeObstacle => ({
  reason: `nobody has ${ip} on node ${node}`,
  why: `no container that weft attached has it, and nobody answers for it on ${link}`,
  fix: 'See `weft endpoint ls` for the addresses in use.',
});

export const closedPort = (
  protocol: string,
  port: number,
  where: string,
  atLoopback: boolean,
): ProbeObstacle => ({
  reason: `nobody listens on ${protocol} port ${port} ${at(where)}`,
  why: atLoopback
    ? 'the process listens on the loopback alone (127.0.0.1 or ::1)'
    : 'no process has that port',
  fix: atLoopback
    ? 'Let the process listen on 0.0.0.0, or its address.'
    : 'Start the process, or see which port it has: ss -ltnu.',
});

export const noTunnel = (network: string, why: string): ProbeObstacle => ({
  reason: `network ${network} does not lead there`,
  why,
  fix: 'See `weft status` on this node, and `weft node ls`.',
});
