// WireGuard device: the encrypted tunnel of a network.
//
// The kernel has its key, its peers and their addresses by generic netlink and not with the link: items of their own.
import { asKey, PHASE, type ItemKind, type LinkKind } from './kind.js';
import { ANY_LINK, guardsItself } from './link.js';

export interface WireguardLink {
  kind: 'link';
  type: 'wireguard';
  name: string;
  /** IFLA_IFALIAS; what `ip -d link` shows. Empty: not compared. */
  alias: string;
  mtu: number;
}

export const wireguard: LinkKind<WireguardLink> = {
  ...ANY_LINK,
  order: () => PHASE.tunnel,
  same: (a, b) => a.mtu === b.mtu && a.alias === b.alias,
  remade: () => false,
  guards: guardsItself,
};

/** The device's own end. The private key stays with the node: it is found by the public one. */
export interface WireguardKeyObject {
  kind: 'wireguard-key';
  link: string;
  /** Base64, as `wg` prints it. */
  publicKey: string;
  /** UDP port that it listens on. */
  port: number;
}

export const wireguardKey: ItemKind<WireguardKeyObject> = {
  key: ({ link }) => asKey(`key ${link}`),
  describe: ({ link, publicKey, port }) => `key ${publicKey} port ${port} dev ${link}`,
  order: () => PHASE.tunnelKey,
  same: (a, b) => a.publicKey === b.publicKey && a.port === b.port,
  link: ({ link }) => link,
  guards: ({ link }) => [link],
};

export interface WireguardPeerObject {
  kind: 'wireguard-peer';
  link: string;
  publicKey: string;
  /** Underlay address and UDP port. Absent: the peer was heard from elsewhere since, and that address stays. */
  endpoint?: string;
  /** Base64; absent: none. A secret: it is in no text. */
  psk?: string;
  /** Seconds between packets that keep a NAT open; 0: none are sent. */
  keepalive: number;
}

export const wireguardPeer: ItemKind<WireguardPeerObject> = {
  key: ({ link, publicKey }) => asKey(`peer ${link} ${publicKey}`),
  describe: ({ link, publicKey, endpoint = 'heard elsewhere' }) =>
    `peer ${publicKey} at ${endpoint} dev ${link}`,
  order: () => PHASE.tunnelPeer,
  same: (a, b) =>
    (a.endpoint === undefined || b.endpoint === undefined || a.endpoint === b.endpoint) &&
    a.psk === b.psk &&
    a.keepalive === b.keepalive,
  link: ({ link }) => link,
  guards: ({ link }) => [link],
};

/** A prefix that a peer has: packets to it are encrypted for the peer, and from it are taken from no other. */
export interface WireguardPrefixObject {
  kind: 'wireguard-prefix';
  link: string;
  to: string;
  publicKey: string;
}

export const wireguardPrefix: ItemKind<WireguardPrefixObject> = {
  key: ({ link, to }) => asKey(`prefix ${link} ${to}`),
  describe: ({ link, to, publicKey }) => `prefix ${to} of peer ${publicKey} dev ${link}`,
  order: () => PHASE.tunnelPrefix,
  same: (a, b) => a.publicKey === b.publicKey,
  link: ({ link }) => link,
  guards: ({ link }) => [link],
};
