// What weft asks of a node's firewall, for all its networks together. Which rules express it is the business of
// agent/kernel, once for nftables and once for iptables.
import type { IpNetwork } from './address.js';

export interface FirewallNetwork {
  name: string;
  /** The links through which the network's packets come: its bridge and its tunnels. */
  links: string[];
  prefixes: IpNetwork[];
  /** Nothing outside reaches it, and it reaches nothing outside. */
  internal: boolean;
  /** Containers leave the overlay under the host's address. */
  masquerade: boolean;
}

/**
 * The rules, in words: a network's link carries only traffic to that network or out of all overlays, so networks do not
 * reach each other; an internal one only traffic to itself; what leaves all overlays from one that has `masquerade` is
 * masqueraded, and nothing else; where the host's own FORWARD policy is DROP, weft's links are accepted there.
 */
export interface Firewall {
  networks: FirewallNetwork[];
}
