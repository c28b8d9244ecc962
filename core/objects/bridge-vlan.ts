// VLAN membership of a bridge port, or of the bridge itself.
import { asKey, PHASE, type ItemKind } from './kind.js';
import { guardsBridge } from './link.js';

/** `bridge vlan`. */
export interface BridgeVlanObject {
  kind: 'vlan';
  link: string;
  /** Equal to `link` for the bridge itself. */
  bridge: string;
  vlan: number;
  /** Untagged frames belong to it, both ways (pvid untagged). Absent: its frames are tagged. */
  untagged?: boolean;
}

export const bridgeVlan: ItemKind<BridgeVlanObject> = {
  key: ({ link, vlan }) => asKey(`vlan ${link} ${vlan}`),
  describe: ({ link, vlan, untagged }) => `vlan ${vlan}${untagged === true ? ' untagged' : ''} dev ${link}`,
  order: ({ link, bridge }) => (link === bridge ? PHASE.vlan : PHASE.portVlan),
  same: (a, b) => a.bridge === b.bridge && (a.untagged ?? false) === (b.untagged ?? false),
  link: ({ link }) => link,
  bridge: ({ bridge }) => bridge,
  guards: ({ bridge }) => guardsBridge(bridge),
  onAnyLink: () => true,
};
