// Bridge: what containers, and NICs of the host, are ports of.
import { PHASE, type LinkKind } from './kind.js';
import { ANY_LINK, guardsItself } from './link.js';

export interface BridgeLink {
  kind: 'link';
  type: 'bridge';
  name: string;
  alias: string;
  mac: string;
  mtu: number;
  /** It tells VLANs apart (vlan_filtering), and a port is in none until it is put into one. Absent: false. */
  vlans?: boolean;
}

export const bridge: LinkKind<BridgeLink> = {
  ...ANY_LINK,
  order: () => PHASE.bridge,
  same: (a, b) => a.mtu === b.mtu && a.alias === b.alias && a.mac === b.mac,
  remade: (current, wanted) => (current.vlans ?? false) !== (wanted.vlans ?? false),
  guards: guardsItself,
};
