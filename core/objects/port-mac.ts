// Static FDB entry of a bridge: the port that a container's MAC address is behind.
import { asKey, PHASE, type ItemKind } from './kind.js';

/** The bridge learns the address from no other port. */
export interface PortMacObject {
  kind: 'port-mac';
  /** The port. */
  link: string;
  bridge: string;
  mac: string;
}

export const portMac: ItemKind<PortMacObject> = {
  key: ({ link, mac }) => asKey(`port-mac ${link} ${mac}`),
  describe: ({ link, mac }) => `fdb ${mac} dev ${link} master sticky static`,
  order: () => PHASE.fdb,
  same: (a, b) => a.bridge === b.bridge,
  link: ({ link }) => link,
  bridge: ({ bridge }) => bridge,
  guards: ({ link }) => [link],
};
