// Reads the ruleset's generation and a table's flags by netlink.
//
// Each takes a microsecond or two. The generation is incremented by every nf_tables transaction, including iptables-nft's, so
// that an unchanged one saves a full comparison; the flags are read before libnftables lists the table (see Nftables.listTable).
import koffi from 'koffi';

const AF_NETLINK = 16;
const SOCK_RAW_CLOEXEC = 3 | 0o2000000;
const NETLINK_NETFILTER = 12;
const MSG_DONTWAIT = 0x40;
const NLM_F_REQUEST = 1;
/** NFNL_SUBSYS_NFTABLES and the messages of linux/netfilter/nf_tables.h. */
const SUBSYSTEM = 10 << 8;
const NFT_MSG = {
  NEWTABLE: SUBSYSTEM,
  GETTABLE: SUBSYSTEM | 1,
  NEWGEN: SUBSYSTEM | 15,
  GETGEN: SUBSYSTEM | 16,
};
const NFTA_TABLE = { NAME: 1, FLAGS: 2 };
const NFTA_GEN_ID = 1;
/** NFPROTO_* of linux/netfilter.h, by nft's names. */
const FAMILIES: Readonly<Record<string, number>> = { inet: 1, ip: 2, arp: 3, netdev: 5, bridge: 7, ip6: 10 };
/** nlmsghdr and nfgenmsg. */
const HEADERS = 20;

function load() {
  const libc = koffi.load('libc.so.6');
  return {
    socket: libc.func('socket', 'int', ['int', 'int', 'int']),
    send: libc.func('send', 'int64_t', ['int', 'void *', 'size_t', 'int']),
    recv: libc.func('recv', 'int64_t', ['int', 'void *', 'size_t', 'int']),
    close: libc.func('close', 'int', ['int']),
  };
}

/** Belongs to the network namespace that it was created in. */
export class RulesetProbe {
  readonly #libc = load();
  #fd: number;

  constructor() {
    this.#fd = this.#libc.socket(AF_NETLINK, SOCK_RAW_CLOEXEC, NETLINK_NETFILTER) as number;
  }

  /** Undefined where the kernel has no nf_tables. */
  generation(): number | undefined {
    return this.#ask(NFT_MSG.GETGEN, NFT_MSG.NEWGEN, 0, Buffer.alloc(0))?.get(NFTA_GEN_ID);
  }

  /** NFT_TABLE_F_* of a table (dormant, owner, persist), 0 for none of them; undefined where the table does not exist. */
  tableFlags(family: string, name: string): number | undefined {
    const text = Buffer.from(`${name}\0`);
    const attribute = Buffer.alloc(4 + ((text.length + 3) & ~3));
    attribute.writeUInt16LE(4 + text.length, 0);
    attribute.writeUInt16LE(NFTA_TABLE.NAME, 2);
    text.copy(attribute, 4);
    const found = this.#ask(NFT_MSG.GETTABLE, NFT_MSG.NEWTABLE, FAMILIES[family] ?? 0, attribute);
    return found === undefined ? undefined : (found.get(NFTA_TABLE.FLAGS) ?? 0);
  }

  /** The response's 32-bit attributes by type; undefined for any other response, such as an error. */
  #ask(type: number, answer: number, family: number, attributes: Buffer): Map<number, number> | undefined {
    if (this.#fd < 0) return undefined;
    const header = Buffer.alloc(HEADERS);
    header.writeUInt32LE(HEADERS + attributes.length, 0);
    header.writeUInt16LE(type, 4);
    header.writeUInt16LE(NLM_F_REQUEST, 6);
    header.writeUInt8(family, 16);
    const request = Buffer.concat([header, attributes]);
    if ((this.#libc.send(this.#fd, request, request.length, 0) as number) !== request.length)
      return undefined;
    const reply = Buffer.alloc(4096);
    // The kernel responds to these requests within send(2).
    const length = this.#libc.recv(this.#fd, reply, reply.length, MSG_DONTWAIT) as number;
    if (length < HEADERS || reply.readUInt16LE(4) !== answer) return undefined;
    const found = new Map<number, number>();
    for (let at = HEADERS; at + 8 <= length;) {
      const size = reply.readUInt16LE(at);
      if (size === 8) found.set(reply.readUInt16LE(at + 2), reply.readUInt32BE(at + 4));
      at += Math.max(4, (size + 3) & ~3);
    }
    return found;
  }

  close(): void {
    if (this.#fd >= 0) this.#libc.close(this.#fd);
    this.#fd = -1;
  }
}
