// WireGuard device as rtnetlink has it, and its key, peers and prefixes as generic netlink has them.
import type {
  ActualObject,
  WireguardKeyObject,
  WireguardLink,
  WireguardPeerObject,
  WireguardPrefixObject,
} from '../../../core/objects/index.js';
import { u32Attr } from '../netlink-message.js';
import type { KernelError } from '../netlink-socket.js';
import { WireguardSocket, type WireguardDevice, type WireguardPeer } from '../wireguard.js';
import type { DirectContext, ItemCodec, LinkCodec } from './codec.js';
import { bringUp, IFLA, linkInfo, setAttributes } from './link-messages.js';
import type { KernelLink, View } from './readings.js';

/** A session ends this long after its handshake (whitepaper §6.1, Reject-After-Time), in milliseconds. */
const SESSION_MS = 180_000;
const NO_KEY = Buffer.alloc(32);

export const wireguard: LinkCodec<WireguardLink> = {
  infoKind: 'wireguard',
  roles: ['node'],
  create: (link) => [u32Attr(IFLA.MTU, link.mtu), linkInfo('wireguard')],
  change: (link, current) => [...setAttributes(link, current), ...bringUp(current)],
  decode: ({ name, mtu }, alias) => ({ kind: 'link', type: 'wireguard', name, alias, mtu }),
};

/** By index; weft's own devices. */
export function readWireguard(
  links: ReadonlyMap<number, KernelLink>,
  inside: View['inside'],
): Map<number, WireguardDevice> {
  const own = [...links.values()].filter(({ owned, kind }) => owned && kind === wireguard.infoKind);
  if (own.length === 0) return new Map();
  const socket = inside(() => new WireguardSocket());
  try {
    return new Map(own.map(({ index, name }) => [index, socket.device(name)]));
  } finally {
    socket.close();
  }
}

function* devices({ links, wireguard }: View): Iterable<{ link: string; device: WireguardDevice }> {
  for (const [index, device] of wireguard) {
    const link = links.get(index)?.name;
    if (link !== undefined) yield { link, device };
  }
}

function withSocket(
  { inside }: DirectContext,
  work: (socket: WireguardSocket) => KernelError | undefined,
): KernelError | undefined {
  const socket = inside(() => new WireguardSocket());
  try {
    return work(socket);
  } finally {
    socket.close();
  }
}

export const wireguardKey: ItemCodec<WireguardKeyObject> = {
  carryOut({ link, publicKey, port }, how, context) {
    if (how === 'delete') return withSocket(context, (socket) => socket.setKey(link, NO_KEY));
    const key = context.privateKey(publicKey);
    if (key === undefined)
      return { errno: 'ENOKEY', message: `ENOKEY, the state directory has no private key of ${publicKey}` };
    return withSocket(context, (socket) => socket.setKey(link, key, port));
  },
  *observe(view) {
    for (const { link, device } of devices(view)) {
      const { publicKey, port } = device;
      if (publicKey !== undefined)
        yield { object: { kind: 'wireguard-key', link, publicKey, port }, owned: true };
    }
  },
};

/**
 * The endpoint of a peer with a session is where it was heard last, behind a NAT for one. It is left alone until the session
 * is over.
 */
function peerObject(link: string, peer: WireguardPeer): ActualObject {
  const { publicKey, psk, endpoint, keepalive, handshakeAt } = peer;
  const hasSession = handshakeAt !== undefined && Date.now() - handshakeAt < SESSION_MS;
  return {
    owned: true,
    object: {
      kind: 'wireguard-peer',
      link,
      publicKey,
      ...(hasSession ? {} : { endpoint: endpoint ?? '' }),
      ...(psk === undefined ? {} : { psk }),
      keepalive,
    },
  };
}

export const wireguardPeer: ItemCodec<WireguardPeerObject> = {
  carryOut: ({ link, publicKey, endpoint, psk = '', keepalive }, how, context) =>
    withSocket(context, (socket) =>
      socket.setPeer(
        link,
        how === 'delete'
          ? { publicKey, remove: true }
          : { publicKey, psk, keepalive, ...(endpoint === undefined ? {} : { endpoint }) },
      ),
    ),
  *observe(view) {
    for (const { link, device } of devices(view))
      for (const peer of device.peers) yield peerObject(link, peer);
  },
};

export const wireguardPrefix: ItemCodec<WireguardPrefixObject> = {
  carryOut: ({ link, to, publicKey }, how, context) =>
    withSocket(context, (socket) => {
      const change = { publicKey, updateOnly: true } as const;
      // Of a prefix that another peer has, the kernel makes it this one's.
      if (how === 'put') return socket.setPeer(link, { ...change, prefixes: [to] });
      // Before Linux 6.16 a prefix can only be left out when all others are given.
      const had = socket.device(link).peers.find((peer) => peer.publicKey === publicKey)?.prefixes ?? [];
      if (!had.includes(to)) return undefined;
      return socket.setPeer(link, {
        ...change,
        prefixes: had.filter((prefix) => prefix !== to),
        replacePrefixes: true,
      });
    }),
  *observe(view) {
    for (const { link, device } of devices(view))
      for (const { publicKey, prefixes } of device.peers)
        for (const to of prefixes)
          yield { object: { kind: 'wireguard-prefix', link, to, publicKey }, owned: true };
  },
};
