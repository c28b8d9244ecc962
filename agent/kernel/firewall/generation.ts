// The number of the ruleset's generation: the kernel counts it up with every transaction of nf_tables, iptables-nft's
// included. Where it has not moved, nothing was changed, and a comparison of everything is saved.
import koffi from 'koffi';

const AF_NETLINK = 16;
const SOCK_RAW_CLOEXEC = 3 | 0o2000000;
const NETLINK_NETFILTER = 12;
const MSG_DONTWAIT = 0x40;
const NLM_F_REQUEST = 1;
/** NFNL_SUBSYS_NFTABLES and the messages of linux/netfilter/nf_tables.h. */
const SUBSYSTEM = 10 << 8;
const NFT_MSG_NEWGEN = SUBSYSTEM | 15;
const NFT_MSG_GETGEN = SUBSYSTEM | 16;
const NFTA_GEN_ID = 1;
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

/** Belongs to the network namespace that it was made in. */
export class RulesetGeneration {
  readonly #libc = load();
  #fd: number;

  constructor() {
    this.#fd = this.#libc.socket(AF_NETLINK, SOCK_RAW_CLOEXEC, NETLINK_NETFILTER) as number;
  }

  /** Undefined where the kernel has no nf_tables. */
  read(): number | undefined {
    if (this.#fd < 0) return undefined;
    const request = Buffer.alloc(HEADERS);
    request.writeUInt32LE(HEADERS, 0);
    request.writeUInt16LE(NFT_MSG_GETGEN, 4);
    request.writeUInt16LE(NLM_F_REQUEST, 6);
    if ((this.#libc.send(this.#fd, request, HEADERS, 0) as number) !== HEADERS) return undefined;
    const reply = Buffer.alloc(4096);
    // The kernel answers this request within send(2).
    const length = this.#libc.recv(this.#fd, reply, reply.length, MSG_DONTWAIT) as number;
    if (length < HEADERS || reply.readUInt16LE(4) !== NFT_MSG_NEWGEN) return undefined;
    for (let at = HEADERS; at + 8 <= length;) {
      const size = reply.readUInt16LE(at);
      if (reply.readUInt16LE(at + 2) === NFTA_GEN_ID) return reply.readUInt32BE(at + 4);
      at += Math.max(4, (size + 3) & ~3);
    }
    return undefined;
  }

  close(): void {
    if (this.#fd >= 0) this.#libc.close(this.#fd);
    this.#fd = -1;
  }
}
