// VLAN that a port of a bridge, or the bridge itself, is in.
import { asKey, PHASE, type ItemKind } from './kind.js';
import { guardsBridge } from './link.js';

/** `bridge vlan`. */
export interface BridgeVlanObject {
  kind: 'vlan';
  link: string;
  /** The same as `link` where it is the bridge itself. */
  bridge: string;
  vlan: number;
  /** Frames without a tag belong to it, both ways (pvid untagged). Absent: they carry the tag. */
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
