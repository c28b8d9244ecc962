// IPIP device: the one tunnel of a node for IP packets in IP packets (RFC 2003), or in UDP (FOU). Its routes' gateways are the
// peers.
import { PHASE, type LinkKind } from './kind.js';
import { ANY_LINK, guardsItself } from './link.js';

export interface IpipLink {
  kind: 'link';
  type: 'ipip';
  name: string;
  /** IFLA_IFALIAS; what `ip -d link` shows. Empty: not compared. */
  alias: string;
  mtu: number;
  /** The underlay address that it sends from and receives at. */
  local: string;
  /** The UDP port at which FOU puts its packets into UDP, with no IP header between; absent: they go as IP in IP. */
  fou?: number;
  /** Of a tunnel to one peer alone, which weft makes none of. */
  remote?: string;
}

export const ipip: LinkKind<IpipLink> = {
  ...ANY_LINK,
  order: () => PHASE.tunnel,
  same: (a, b) => a.mtu === b.mtu && a.alias === b.alias,
  remade: (current, wanted) =>
    current.local !== wanted.local || current.remote !== wanted.remote || current.fou !== wanted.fou,
  // ip_tunnel_find (net/ipv4/ip_tunnel.c).
  excludedBy: (wanted, other) =>
    wanted.local === other.local && wanted.remote === other.remote
      ? {
          why: `is the tunnel for IP in IP of ${wanted.local} with any peer`,
          otherwise: 'move the networks to another backend (weft network update NAME --backend vxlan)',
        }
      : undefined,
  guards: guardsItself,
};
