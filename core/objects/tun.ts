// TUN device: IP packets to and from a process (Documentation/networking/tuntap.rst).
//
// Persistent, so that device, addresses and routes outlive the process.
import { PHASE, type LinkKind } from './kind.js';
import { ANY_LINK, guardsItself } from './link.js';

export interface TunLink {
  kind: 'link';
  type: 'tun';
  name: string;
  /** IFLA_IFALIAS; what `ip -d link` shows. Empty: not compared. */
  alias: string;
  mtu: number;
}

export const tun: LinkKind<TunLink> = {
  ...ANY_LINK,
  order: () => PHASE.tunnel,
  same: (a, b) => a.mtu === b.mtu && a.alias === b.alias,
  remade: () => false,
  guards: guardsItself,
};
