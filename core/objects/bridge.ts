// Bridge, whose ports are containers and host NICs.
import { PHASE, type LinkKind } from './kind.js';
import { ANY_LINK, guardsItself } from './link.js';

export interface BridgeLink {
  kind: 'link';
  type: 'bridge';
  name: string;
  alias: string;
  mac: string;
  mtu: number;
  /** VLAN filtering (vlan_filtering); a port is in no VLAN until it is added to one. Absent: false. */
  vlans?: boolean;
}

export const bridge: LinkKind<BridgeLink> = {
  ...ANY_LINK,
  order: () => PHASE.bridge,
  same: (a, b) => a.mtu === b.mtu && a.alias === b.alias && a.mac === b.mac,
  remade: (current, wanted) => (current.vlans ?? false) !== (wanted.vlans ?? false),
  guards: guardsItself,
};
