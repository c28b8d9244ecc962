// Asking the kernel by netlink. It works on a request inside the send call and has the answer ready when that returns, so
// a question and its answer are two calls in a row: nothing waits for the event loop, and no answer can be lost or mixed up.
import { failedPrecondition } from '../../core/errors.js';
import {
  AF_NETLINK,
  bindSocket,
  closeFd,
  errnoName,
  getSocketOption,
  openSocket,
  receiveFrom,
  sendAside,
  sendOn,
  setOption,
  setSocketOption,
  SystemError,
} from './libc.js';
import {
  decodeMessages,
  encodeRequest,
  NLM_F,
  type Incoming,
  type Message,
  type Request,
} from './netlink-message.js';

// include/uapi/linux/netlink.h
const PROTOCOLS = { route: 0, netfilter: 12 } as const;
const SOL_NETLINK = 270;
const NETLINK_CAP_ACK = 10;
const NETLINK_EXT_ACK = 11;
const SO_RCVBUFFORCE = 33;
const SO_NETNS_COOKIE = 71;

/** Acknowledgements of this many requests fit any receive buffer. */
export const BATCH = 64;
const READ_BYTES = 256 * 1024;
/** A dump that a change came in between is begun anew this often. */
const TRIES = 5;

/** The answer to one request of a batch: undefined for done. */
export interface Refusal {
  errno: string;
  message: string;
}

export class NetlinkSocket {
  #fd: number;
  /** One for all sockets: reading is over before anything else can read. */
  static readonly #buffer = Buffer.alloc(READ_BYTES);
  #sequence = 0;

  /** Belongs for good to the namespace that the thread is in now. */
  constructor(protocol: keyof typeof PROTOCOLS = 'route') {
    this.#fd = openSocket(AF_NETLINK, PROTOCOLS[protocol]);
    try {
      const address = Buffer.alloc(12);
      address.writeUInt16LE(AF_NETLINK, 0);
      bindSocket(this.#fd, address);
      setOption(this.#fd, SOL_NETLINK, NETLINK_EXT_ACK, 1);
      setOption(this.#fd, SOL_NETLINK, NETLINK_CAP_ACK, 1);
      setSocketOption(this.#fd, SO_RCVBUFFORCE, 4 * 1024 * 1024);
    } catch (error) {
      closeFd(this.#fd);
      throw error;
    }
  }

  /** What no other namespace has until the next boot. */
  cookie(): string {
    try {
      return getSocketOption(this.#fd, SO_NETNS_COOKIE, 8).toString(16);
    } catch (error) {
      if (!(error instanceof SystemError) || error.errno !== 'ENOPROTOOPT') throw error;
      throw failedPrecondition(
        'this kernel cannot tell network namespaces apart: it has no SO_NETNS_COOKIE',
        'weft needs Linux 5.14 or newer; see `uname -r`.',
        { cause: error },
      );
    }
  }

  /** Carries requests out in order, and answers for each what was refused. */
  batch(requests: readonly Request[]): (Refusal | undefined)[] {
    const results: (Refusal | undefined)[] = [];
    for (let from = 0; from < requests.length; from += BATCH) {
      results.push(...this.#sendBatch(requests.slice(from, from + BATCH)));
    }
    return results;
  }

  #sendBatch(requests: readonly Request[]): (Refusal | undefined)[] {
    const first = this.#sequence + 1;
    const bytes = requests.map((request) =>
      encodeRequest({ ...request, flags: request.flags | NLM_F.ACK }, ++this.#sequence),
    );
    sendOn(this.#fd, Buffer.concat(bytes));
    const results = Array.from<Refusal | undefined>({ length: requests.length });
    for (let open = requests.length; open > 0;) {
      for (const incoming of this.#read()) {
        if (incoming.kind !== 'error' || incoming.sequence < first) continue;
        open--;
        if (requests[incoming.sequence - first]?.optional === true) continue;
        results[incoming.sequence - first] = refusalOf(incoming);
      }
    }
    return results;
  }

  /** As a batch of one, while this thread goes on; until it settles the socket is good for nothing else. */
  async aside(request: Request): Promise<Refusal | undefined> {
    const bytes = encodeRequest({ ...request, flags: request.flags | NLM_F.ACK }, ++this.#sequence);
    await sendAside(this.#fd, bytes);
    for (const incoming of this.#read()) if (incoming.kind === 'error') return refusalOf(incoming);
    return undefined;
  }

  /** One object, or undefined where there is none. */
  get(request: Request): Message | undefined {
    const sequence = ++this.#sequence;
    sendOn(this.#fd, encodeRequest(request, sequence));
    for (const incoming of this.#read()) {
      if (incoming.sequence !== sequence) continue;
      if (incoming.kind === 'message') return incoming;
      if (incoming.kind === 'error' && incoming.errno !== 0) return undefined;
    }
    return undefined;
  }

  /** All objects of a kind. @throws SystemError */
  dump(request: Request): Message[] {
    for (let attempt = 1; ; attempt++) {
      const { messages, interrupted } = this.#dumpOnce(request);
      // Where everything changes all the time the last look is the best there is.
      if (!interrupted || attempt >= TRIES) return messages;
    }
  }

  /** @returns whether something changed meanwhile, so that objects may be missing or come twice (NLM_F_DUMP_INTR) */
  #dumpOnce(request: Request): { messages: Message[]; interrupted: boolean } {
    const sequence = ++this.#sequence;
    let interrupted = false;
    sendOn(this.#fd, encodeRequest({ ...request, flags: request.flags | NLM_F.DUMP }, sequence));
    const messages: Message[] = [];
    for (;;) {
      for (const incoming of this.#read()) {
        if (incoming.sequence !== sequence) continue;
        if (incoming.kind !== 'message' && incoming.errno !== 0) {
          throw new SystemError('netlink dump', errnoName(incoming.errno));
        }
        if (incoming.kind === 'error') continue;
        interrupted ||= incoming.interrupted;
        if (incoming.kind === 'done') return { messages, interrupted };
        messages.push(incoming);
      }
    }
  }

  #read(): ReturnType<typeof decodeMessages> {
    const length = receiveFrom(this.#fd, NetlinkSocket.#buffer);
    // The kernel answers before send returns; silence means that the answer did not fit the receive buffer.
    if (length === undefined) throw new SystemError('netlink', 'ENOBUFS');
    // A copy: what is decoded keeps views of it.
    return decodeMessages(Buffer.from(NetlinkSocket.#buffer.subarray(0, length)));
  }

  /** Whoever uses it after this meets EBADF, and never the next file that is given the same number. */
  close(): void {
    if (this.#fd >= 0) closeFd(this.#fd);
    this.#fd = -1;
  }
}

function refusalOf({ errno: number, text }: Extract<Incoming, { kind: 'error' }>): Refusal | undefined {
  if (number === 0) return undefined;
  const errno = errnoName(number);
  return { errno, message: text === undefined ? errno : `${errno}, ${text}` };
}
