// Container's end of a veth pair, seen from the container's namespace.
import { PHASE, type LinkKind } from './kind.js';
import { ANY_LINK, guardsItself } from './link.js';

/** Created with its other end, never by itself. */
export interface PeerLink {
  kind: 'link';
  type: 'peer';
  name: string;
  mac: string;
  mtu: number;
  /** Another program may change the MAC address, and the change stays. */
  freeMac?: true;
}

export const peer: LinkKind<PeerLink> = {
  ...ANY_LINK,
  order: () => PHASE.inside,
  same: (a, b) => a.mtu === b.mtu && (a.mac === b.mac || a.freeMac === true || b.freeMac === true),
  remade: () => false,
  guards: guardsItself,
};
