// VLAN device: a host link in one VLAN of a bridge (802.1Q).
import { PHASE, type LinkKind } from './kind.js';
import { ANY_LINK, guardsBridge, guardsItself } from './link.js';

/** Its MAC address is the bridge's. */
export interface VlanLink {
  kind: 'link';
  type: 'vlan';
  name: string;
  alias: string;
  mtu: number;
  /** The bridge. */
  base: string;
  vlan: number;
}

export const vlan: LinkKind<VlanLink> = {
  ...ANY_LINK,
  order: () => PHASE.vlan,
  same: (a, b) => a.mtu === b.mtu && a.alias === b.alias,
  remade: (current, wanted) => current.vlan !== wanted.vlan || current.base !== wanted.base,
  link: ({ base }) => base,
  guards: (link, step) => [...guardsItself(link, step), ...guardsBridge(link.base)],
};
