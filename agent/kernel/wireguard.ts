// WireGuard devices by generic netlink (include/uapi/linux/wireguard.h).
import { failedPrecondition } from '../../core/errors.js';
import { IpAddress } from '../../core/address.js';
import { GENL_HEADER, genlFamily, genlHeader as header } from './generic-netlink.js';
import { AF_INET, AF_INET6 } from './libc.js';
import {
  attr,
  decodeAttrList,
  decodeAttrs,
  nested,
  readIp,
  textAttr,
  u16Attr,
  u32Attr,
  u8Attr,
  type Attrs,
  type Request,
} from './netlink-message.js';
import { NetlinkSocket, type KernelError } from './netlink-socket.js';

const WG_CMD = { GET_DEVICE: 0, SET_DEVICE: 1 } as const;
const DEVICE = { IFNAME: 2, PRIVATE_KEY: 3, PUBLIC_KEY: 4, LISTEN_PORT: 6, PEERS: 8 } as const;
const PEER = {
  PUBLIC_KEY: 1,
  PRESHARED_KEY: 2,
  FLAGS: 3,
  ENDPOINT: 4,
  KEEPALIVE: 5,
  LAST_HANDSHAKE: 6,
  RX_BYTES: 7,
  TX_BYTES: 8,
  ALLOWEDIPS: 9,
} as const;
const ALLOWEDIP = { FAMILY: 1, IPADDR: 2, CIDR_MASK: 3 } as const;
const PEER_FLAG = { REMOVE_ME: 1, REPLACE_ALLOWEDIPS: 2, UPDATE_ONLY: 4 } as const;
const KEY_BYTES = 32;

export interface WireguardPeer {
  /** Base64. */
  publicKey: string;
  /** Base64; absent: none. */
  psk?: string;
  /** ADDRESS:PORT; absent where the kernel knows none. */
  endpoint?: string;
  keepalive: number;
  /** Milliseconds since the epoch; absent: there was none yet. */
  handshakeAt?: number;
  rxBytes: number;
  txBytes: number;
  prefixes: string[];
}

export interface WireguardDevice {
  /** Base64; absent: it has no key. */
  publicKey?: string;
  port: number;
  peers: WireguardPeer[];
}

/** A change of one peer. */
export interface PeerChange {
  publicKey: string;
  remove?: true;
  /** Only where it is there already. */
  updateOnly?: true;
  endpoint?: string;
  /** Empty: none. */
  psk?: string;
  keepalive?: number;
  prefixes?: readonly string[];
  /** The prefixes are all that it has. */
  replacePrefixes?: true;
}

/** A socket for the WireGuard devices of the namespace that it is opened in. */
export class WireguardSocket {
  readonly #socket: NetlinkSocket;
  readonly #family: number;

  /** @throws WeftError FAILED_PRECONDITION where the kernel has no WireGuard */
  constructor() {
    this.#socket = new NetlinkSocket('generic');
    try {
      this.#family = this.#lookUp();
    } catch (error) {
      this.#socket.close();
      throw error;
    }
  }

  #lookUp(): number {
    const id = genlFamily(this.#socket, 'wireguard');
    if (id !== undefined) return id;
    throw failedPrecondition('this kernel has no WireGuard', 'Load its module: modprobe wireguard.');
  }

  /** @throws SystemError where there is no such device */
  device(name: string): WireguardDevice {
    const body = Buffer.concat([header(WG_CMD.GET_DEVICE), textAttr(DEVICE.IFNAME, name)]);
    return decodeDevice(this.#socket.dump({ type: this.#family, flags: 0, body }).map(({ body }) => body));
  }

  setKey(name: string, privateKey: Buffer, port?: number): KernelError | undefined {
    return this.#set(
      name,
      attr(DEVICE.PRIVATE_KEY, privateKey),
      ...(port === undefined ? [] : [u16Attr(DEVICE.LISTEN_PORT, port)]),
    );
  }

  setPeer(name: string, change: PeerChange): KernelError | undefined {
    return this.#set(name, nested(DEVICE.PEERS, encodePeer(change)));
  }

  #set(name: string, ...attrs: Buffer[]): KernelError | undefined {
    const body = Buffer.concat([header(WG_CMD.SET_DEVICE), textAttr(DEVICE.IFNAME, name), ...attrs]);
    const request: Request = { type: this.#family, flags: 0, body };
    return this.#socket.batch([request])[0];
  }

  close(): void {
    this.#socket.close();
  }
}

const keyBytes = (key: string): Buffer => Buffer.from(key, 'base64');

export function encodePeer(change: PeerChange): Buffer {
  const { publicKey, endpoint, psk, keepalive, prefixes } = change;
  const flags =
    (change.remove === true ? PEER_FLAG.REMOVE_ME : 0) |
    (change.updateOnly === true ? PEER_FLAG.UPDATE_ONLY : 0) |
    (change.replacePrefixes === true ? PEER_FLAG.REPLACE_ALLOWEDIPS : 0);
  return nested(
    0,
    attr(PEER.PUBLIC_KEY, keyBytes(publicKey)),
    u32Attr(PEER.FLAGS, flags),
    ...(psk === undefined
      ? []
      : [attr(PEER.PRESHARED_KEY, psk === '' ? Buffer.alloc(KEY_BYTES) : keyBytes(psk))]),
    ...(endpoint === undefined ? [] : [attr(PEER.ENDPOINT, encodeEndpoint(endpoint))]),
    ...(keepalive === undefined ? [] : [u16Attr(PEER.KEEPALIVE, keepalive)]),
    ...(prefixes === undefined ? [] : [nested(PEER.ALLOWEDIPS, ...prefixes.map(encodePrefix))]),
  );
}

function encodePrefix(prefix: string): Buffer {
  const [address = '', length = ''] = prefix.split('/');
  const ip = IpAddress.parse(address);
  return nested(
    0,
    u16Attr(ALLOWEDIP.FAMILY, ip.family === 4 ? AF_INET : AF_INET6),
    attr(ALLOWEDIP.IPADDR, ip.toBytes()),
    u8Attr(ALLOWEDIP.CIDR_MASK, Number(length)),
  );
}

/** sockaddr_in or sockaddr_in6. */
function encodeEndpoint(text: string): Buffer {
  const [, address = '', port = ''] = /^\[?([^\]]*?)\]?:(\d+)$/.exec(text) ?? [];
  const ip = IpAddress.parse(address);
  const bytes = Buffer.alloc(ip.family === 4 ? 16 : 28);
  bytes.writeUInt16LE(ip.family === 4 ? AF_INET : AF_INET6, 0);
  bytes.writeUInt16BE(Number(port), 2);
  bytes.set(ip.toBytes(), ip.family === 4 ? 4 : 8);
  return bytes;
}

function decodeEndpoint(bytes: Buffer): string | undefined {
  const family = bytes.readUInt16LE(0);
  const port = bytes.readUInt16BE(2);
  if (family === AF_INET) return `${readIp(bytes.subarray(4, 8))}:${port}`;
  return family === AF_INET6 ? `[${readIp(bytes.subarray(8, 24))}]:${port}` : undefined;
}

/** The messages of one dump: a device with many peers takes several, and a peer with many prefixes, too. */
export function decodeDevice(messages: readonly Buffer[]): WireguardDevice {
  const device: WireguardDevice = { port: 0, peers: [] };
  const peers = new Map<string, WireguardPeer>();
  for (const body of messages) {
    const attrs = decodeAttrs(body, GENL_HEADER);
    const key = attrs.get(DEVICE.PUBLIC_KEY);
    if (key !== undefined) device.publicKey = key.toString('base64');
    device.port = attrs.get(DEVICE.LISTEN_PORT)?.readUInt16LE() ?? device.port;
    for (const bytes of decodeAttrList(attrs.get(DEVICE.PEERS))) {
      const peer = decodePeer(decodeAttrs(bytes));
      const known = peers.get(peer.publicKey);
      if (known === undefined) peers.set(peer.publicKey, peer);
      else known.prefixes.push(...peer.prefixes);
    }
  }
  device.peers = [...peers.values()];
  return device;
}

function decodePeer(attrs: Attrs): WireguardPeer {
  const psk = attrs.get(PEER.PRESHARED_KEY);
  const endpoint = attrs.get(PEER.ENDPOINT);
  const address = endpoint && decodeEndpoint(endpoint);
  const seconds = Number(attrs.get(PEER.LAST_HANDSHAKE)?.readBigInt64LE(0) ?? 0n);
  return {
    publicKey: attrs.get(PEER.PUBLIC_KEY)?.toString('base64') ?? '',
    ...(psk === undefined || psk.every((byte) => byte === 0) ? {} : { psk: psk.toString('base64') }),
    ...(address === undefined ? {} : { endpoint: address }),
    keepalive: attrs.get(PEER.KEEPALIVE)?.readUInt16LE() ?? 0,
    ...(seconds === 0 ? {} : { handshakeAt: seconds * 1000 }),
    rxBytes: Number(attrs.get(PEER.RX_BYTES)?.readBigUInt64LE() ?? 0n),
    txBytes: Number(attrs.get(PEER.TX_BYTES)?.readBigUInt64LE() ?? 0n),
    prefixes: [...decodeAttrList(attrs.get(PEER.ALLOWEDIPS))].flatMap((bytes) => {
      const prefix = decodeAttrs(bytes);
      const ip = prefix.get(ALLOWEDIP.IPADDR);
      return ip === undefined ? [] : [`${readIp(ip)}/${prefix.get(ALLOWEDIP.CIDR_MASK)?.[0] ?? 0}`];
    }),
  };
}
