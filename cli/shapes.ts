// Shapes of JSON and YAML output, which are stable.
//
// Every key is always present: an absent value is null.
import type { OpenPort } from '../proto/gen/weft/v1/agent.js';
import type { Event } from '../proto/gen/weft/v1/events.js';
import type { Authority, Token } from '../proto/gen/weft/v1/identity.js';
import type {
  Endpoint,
  Lease,
  Network,
  Node,
  Peer,
  Problem,
  Publish,
  Status,
} from '../proto/gen/weft/v1/types.js';

const orNull = <T>(value: T | undefined): T | null => value ?? null;

/** A text that the services leave empty where there is none. */
const textOrNull = (text: string): string | null => (text === '' ? null : text);

const leaseShape = (lease: Lease): object => ({
  node: orNull(lease.node),
  subnet: textOrNull(lease.subnet),
  subnet6: orNull(lease.subnet6),
  publicIp: lease.publicIp,
  vtepMac: orNull(lease.vtepMac),
  publicKey: orNull(lease.publicKey),
  expires: orNull(lease.expires),
});

export const networkShape = (network: Network): object => ({
  name: network.name,
  driver: network.driver,
  backend: orNull(network.backend),
  subnet: textOrNull(network.subnet),
  subnet6: orNull(network.subnet6),
  hostPrefix: network.subnet === '' ? null : network.hostPrefix,
  hostPrefix6: orNull(network.hostPrefix6),
  vni: orNull(network.vni),
  port: orNull(network.port),
  directRouting: orNull(network.directRouting),
  encrypted: orNull(network.encrypted),
  move: orNull(network.move),
  mtu: orNull(network.mtu),
  internal: network.internal,
  masquerade: network.masquerade,
  portSecurity: network.portSecurity,
  directAccess: network.directAccess,
  isolated: network.isolated,
  vlan: orNull(network.vlan),
  parent: orNull(network.parent),
  gateway: orNull(network.gateway),
  gatewayNode: orNull(network.gatewayNode),
  range: orNull(network.range),
  allowVlan: orNull(network.allowVlan),
  routes: network.routes,
  leases: network.leases.map(leaseShape),
  endpoints: network.endpoints,
});

const publishShape = ({ hostIp, hostPort, port, protocol, everywhere }: Publish): object => ({
  hostIp,
  hostPort,
  port,
  protocol,
  everywhere,
});

export const endpointShape = (endpoint: Endpoint): object => ({
  id: endpoint.id,
  name: endpoint.name,
  network: endpoint.network,
  node: endpoint.node,
  target: endpoint.target,
  ifname: endpoint.ifname,
  hostIfname: endpoint.hostIfname,
  mac: endpoint.mac,
  ip: textOrNull(endpoint.ip),
  ip6: orNull(endpoint.ip6),
  gateway: textOrNull(endpoint.gateway),
  mtu: endpoint.mtu,
  vlan: orNull(endpoint.vlan),
  aliases: endpoint.aliases,
  publish: endpoint.publish.map(publishShape),
  allowedAddresses: endpoint.allowedAddresses,
  drops: endpoint.drops.map(({ reason, packets }) => ({ reason, packets })),
  manager: endpoint.manager ?? 'weft',
  labels: endpoint.labels,
});

export const openPortShape = (open: OpenPort): object => ({
  ...(open.publish === undefined ? {} : publishShape(open.publish)),
  endpoint: open.endpoint,
  name: open.name,
  network: open.network,
  node: open.node,
  ip: textOrNull(open.ip),
  ip6: orNull(open.ip6),
  problem: textOrNull(open.problem),
});

const problemShape = ({ what, why, fix, consequences }: Problem): object => ({
  what,
  why,
  fix,
  consequences,
});

export const nodeShape = (node: Node): object => ({
  name: node.name,
  publicIp: node.publicIp,
  publicIp6: orNull(node.publicIp6),
  state: node.state,
  lastSeen: orNull(node.lastSeen),
  since: orNull(node.since),
  why: orNull(node.why),
  version: node.version,
  networks: node.networks,
  endpoints: node.endpoints,
  problems: node.problems.map(problemShape),
});

export const eventShape = ({ time, type, node, reason, object, message, actor, count }: Event): object => ({
  time,
  type,
  node: textOrNull(node),
  reason,
  object,
  message,
  actor: textOrNull(actor),
  count,
});

/** Without its secret. */
export const tokenShape = ({ id, role, node, uses, expires }: Token): object => ({
  id,
  role,
  node: orNull(node),
  uses: orNull(uses),
  expires,
});

export const authorityShape = (authority: Authority): object => ({
  hash: authority.hash,
  expires: authority.expires,
  certificate: authority.certificate,
  plainText: authority.servesPlainText,
  nodesWithout: authority.nodesWithout,
  former: orNull(authority.former),
  waitsFor: authority.waitsFor,
});

/** A flanneld has no name: it is null. */
const peerShape = ({ node, publicIp, state, rttMs, handshakeAgeS, paths }: Peer): object => ({
  node: node === '' ? null : node,
  publicIp,
  state,
  rttMs: orNull(rttMs),
  handshakeAgeS: orNull(handshakeAgeS),
  paths: paths.map(({ network, family, state, mtu, rttMs }) => ({
    ...{ network, family, state },
    mtu: orNull(mtu),
    rttMs: orNull(rttMs),
  })),
});

export const statusShape = (status: Status): object => ({
  health: status.health,
  node: nulls(status.node),
  store: nulls(status.store),
  controller: nulls(status.controller),
  networks: status.networks.map((it) => ({ ...nulls(it), subnet: textOrNull(it.subnet) })),
  peers: status.peers.map(peerShape),
  plugins: status.plugins.map(({ manager, socket }) => ({ manager, socket })),
  problems: status.problems.map(problemShape),
  warnings: status.warnings.map(problemShape),
});

/**
 * A controller's answer: what is the node's stays empty, and the cluster is beside it.
 * @param here what this host has found wrong
 */
export const clusterStatusShape = (
  { node, store, networks, peers, ...status }: Status,
  here: readonly Problem[],
): object => ({
  ...statusShape({
    ...status,
    ...{ node: undefined, store: undefined, networks: [], peers: [] },
    problems: [...here, ...status.problems],
  }),
  controller: {
    ...nulls(status.controller),
    version: node?.version ?? null,
    startedAt: node?.startedAt ?? null,
    certificateExpires: node?.certificateExpires ?? null,
  },
  cluster: {
    store: nulls(store),
    networks: networks.map(({ name, subnet, subnet6, vni, endpoints, peers: nodes }) =>
      nulls({ name, subnet: textOrNull(subnet), subnet6, vni, endpoints, nodes }),
    ),
    nodes: peers.map(({ node: name, publicIp, state }) => ({ name, publicIp, state })),
  },
});

function nulls(message: object | undefined): object {
  return Object.fromEntries(
    Object.entries(message ?? {}).map(([key, value]: [string, unknown]) => [key, value ?? null]),
  );
}
