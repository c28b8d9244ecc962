// FOU (foo over UDP) by generic netlink: the UDP ports at which the kernel itself takes packets (include/uapi/linux/fou.h).
import { GENL_HEADER, genlHeader, loadedGenlFamily } from './generic-netlink.js';
import { addressOf, AF_INET, closeFd, ioctl, openSocketOf, SOCK_DGRAM } from './libc.js';
import { be16Attr, decodeAttrs, ipAttr, readIp, u8Attr, type Request } from './netlink-message.js';
import { NetlinkSocket, type KernelError } from './netlink-socket.js';

const COMMAND = { ADD: 1, DEL: 2, GET: 3 } as const;
const ATTR = { PORT: 1, AF: 2, IPPROTO: 3, TYPE: 4, LOCAL_V4: 6 } as const;
/** A packet follows the UDP header at once (FOU_ENCAP_DIRECT). */
const DIRECT = 1;
/** What is in the datagrams: IPv4 (RFC 2003). */
const IPPROTO_IPIP = 4;

// include/uapi/linux/sockios.h, ethtool.h, if.h
const SIOCETHTOOL = 0x8946;
const ETHTOOL_STXCSUM = 0x17;
const IFREQ_BYTES = 40;
const IFREQ_DATA = 16;

export interface FouPort {
  local: string;
  port: number;
}

const same = (a: FouPort, b: FouPort): boolean => a.local === b.local && a.port === b.port;

/** The ports of the namespace that it is opened in. */
export class FouSocket {
  readonly #socket = new NetlinkSocket('generic');
  readonly #family: number | undefined;

  constructor() {
    try {
      this.#family = loadedGenlFamily(this.#socket, 'fou');
    } catch (error) {
      this.#socket.close();
      throw error;
    }
  }

  /** Whether the kernel has FOU. It never loads the module by itself, which has no alias. */
  get isThere(): boolean {
    return this.#family !== undefined;
  }

  /** The ports that take IPv4 packets for one address. */
  list(): FouPort[] {
    if (this.#family === undefined) return [];
    const body = genlHeader(COMMAND.GET);
    return this.#socket.dump({ type: this.#family, flags: 0, body }).flatMap(({ body: found }) => {
      const attrs = decodeAttrs(found, GENL_HEADER);
      const [port, local] = [attrs.get(ATTR.PORT), attrs.get(ATTR.LOCAL_V4)];
      if (port === undefined || local === undefined) return [];
      const isPlain = attrs.get(ATTR.IPPROTO)?.[0] === IPPROTO_IPIP && attrs.get(ATTR.TYPE)?.[0] === DIRECT;
      return isPlain ? [{ local: readIp(local), port: port.readUInt16BE() }] : [];
    });
  }

  /** One that is there already is no error. */
  add(wanted: FouPort): KernelError | undefined {
    if (this.#family === undefined)
      return { errno: 'EOPNOTSUPP', message: 'EOPNOTSUPP, the kernel has no FOU (module fou)' };
    if (this.list().some((port) => same(port, wanted))) return undefined;
    const kind = [u8Attr(ATTR.IPPROTO, IPPROTO_IPIP), u8Attr(ATTR.TYPE, DIRECT)];
    return this.#socket.batch([this.#request(COMMAND.ADD, wanted, ...kind)])[0];
  }

  /** One that is not there is no error. */
  delete(port: FouPort): void {
    if (this.#family !== undefined) this.#socket.batch([this.#request(COMMAND.DEL, port)]);
  }

  #request(command: number, { local, port }: FouPort, ...more: Buffer[]): Request {
    const attrs = [
      be16Attr(ATTR.PORT, port),
      u8Attr(ATTR.AF, AF_INET),
      ipAttr(ATTR.LOCAL_V4, local),
      ...more,
    ];
    return { type: this.#family ?? 0, flags: 0, body: Buffer.concat([genlHeader(command), ...attrs]) };
  }

  close(): void {
    this.#socket.close();
  }
}

/**
 * Packets get their checksums before they are put into UDP. Otherwise a virtual link hands them on without (the outer one has
 * none to complete, RFC 768), and a peer whose pump is a process loses all of TCP.
 * @throws SystemError
 */
export function completeChecksums(link: string): void {
  const value = Buffer.alloc(8);
  value.writeUInt32LE(ETHTOOL_STXCSUM, 0);
  const request = Buffer.alloc(IFREQ_BYTES);
  request.write(link, 'latin1');
  request.writeBigUInt64LE(BigInt(addressOf(value)), IFREQ_DATA);
  const socket = openSocketOf(AF_INET, SOCK_DGRAM);
  try {
    ioctl(socket, SIOCETHTOOL, request);
  } finally {
    closeFd(socket);
  }
}
