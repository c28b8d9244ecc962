// VXLAN device: the tunnel of a network in one family.
import { PHASE, type LinkKind } from './kind.js';
import { ANY_LINK, guardsItself } from './link.js';

export interface VxlanLink {
  kind: 'link';
  type: 'vxlan';
  name: string;
  /** IFLA_IFALIAS; what `ip -d link` shows. Empty: not compared. */
  alias: string;
  mac: string;
  mtu: number;
  vni: number;
  /** The underlay address that it sends from; its family is the family of the tunnel. */
  local: string;
  /** UDP destination port. */
  port: number;
}

const isV6 = ({ local }: VxlanLink): boolean => local.includes(':');

export const vxlan: LinkKind<VxlanLink> = {
  ...ANY_LINK,
  order: () => PHASE.tunnel,
  same: (a, b) => a.mtu === b.mtu && a.alias === b.alias && a.mac === b.mac && a.local === b.local,
  // vxlan_changelink refuses to change these (drivers/net/vxlan/vxlan_core.c).
  remade: (current, wanted) =>
    current.vni !== wanted.vni || current.port !== wanted.port || isV6(current) !== isV6(wanted),
  // vxlan_vni_in_use (drivers/net/vxlan/vxlan_core.c).
  excludedBy: (wanted, other) =>
    wanted.vni === other.vni && wanted.port === other.port && isV6(wanted) === isV6(other)
      ? {
          why: `has VNI ${wanted.vni} on UDP port ${wanted.port}`,
          otherwise: 'give one of the two another VNI or port',
        }
      : undefined,
  guards: guardsItself,
};
