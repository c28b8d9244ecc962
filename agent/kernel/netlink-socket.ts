// Netlink requests and their responses, synchronously.
//
// The kernel handles a request inside the send call, and its response is ready when that returns, so a request is two calls in a
// row: nothing waits for the event loop, and responses can be neither lost nor mixed up.
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
const PROTOCOLS = { route: 0, netfilter: 12, generic: 16 } as const;
const SOL_NETLINK = 270;
const NETLINK_CAP_ACK = 10;
const NETLINK_EXT_ACK = 11;
const SO_RCVBUFFORCE = 33;
const SO_NETNS_COOKIE = 71;

/** Errors of this many requests fit into any receive buffer. */
export const BATCH = 64;
const READ_BYTES = 256 * 1024;
/** How often a dump that a concurrent change interrupted is repeated. */
const TRIES = 5;

/** An error in response to one request of a batch; undefined for success. */
export interface KernelError {
  errno: string;
  message: string;
}

export class NetlinkSocket {
  #fd: number;
  /** One for all sockets: a read is complete before the next one begins. */
  static readonly #buffer = Buffer.alloc(READ_BYTES);
  #sequence = 0;

  /** Belongs for good to the namespace that the thread is in when it is opened. */
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

  /** A cookie, unique until the next boot. */
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

  /** Sends requests in order, and returns the error of each. */
  batch(requests: readonly Request[]): (KernelError | undefined)[] {
    const results: (KernelError | undefined)[] = [];
    for (let from = 0; from < requests.length; from += BATCH) {
      results.push(...this.#sendBatch(requests.slice(from, from + BATCH)));
    }
    return results;
  }

  #sendBatch(requests: readonly Request[]): (KernelError | undefined)[] {
    const first = this.#sequence + 1;
    sendOn(this.#fd, this.#encode(requests));
    const results = Array.from<KernelError | undefined>({ length: requests.length });
    for (let isOpen = true; isOpen;) {
      for (const incoming of this.#read()) {
        if (incoming.kind !== 'error' || incoming.sequence < first) continue;
        isOpen = incoming.sequence !== this.#sequence;
        if (requests[incoming.sequence - first]?.optional === true) continue;
        results[incoming.sequence - first] = errorOf(incoming);
      }
    }
    return results;
  }

  /**
   * Sends a request that makes an object, and asks for the object.
   * @returns the error; or the object, where this kernel tells it (of a link from Linux 6.1 on)
   */
  create(request: Request): { failure?: KernelError; object?: Message } {
    const sequence = ++this.#sequence;
    sendOn(this.#fd, encodeRequest({ ...request, flags: request.flags | NLM_F.ACK | NLM_F.ECHO }, sequence));
    let object: Message | undefined;
    for (;;) {
      for (const incoming of this.#read()) {
        if (incoming.sequence !== sequence) continue;
        if (incoming.kind === 'message') object = incoming;
        if (incoming.kind !== 'error') continue;
        const failure = errorOf(incoming);
        return { ...(failure && { failure }), ...(object && { object }) };
      }
    }
  }

  /** Errors are always answered, in order: the acknowledgement of the last says that there are no more. */
  #encode(requests: readonly Request[]): Buffer {
    const last = requests.length - 1;
    const bytes = requests.map((request, n) =>
      encodeRequest(
        n === last ? { ...request, flags: request.flags | NLM_F.ACK } : request,
        ++this.#sequence,
      ),
    );
    return Buffer.concat(bytes);
  }

  /**
   * Sends requests as one transaction, between messages that begin and end it and are not acknowledged.
   * @returns the first error; then nothing has changed
   */
  transaction(begin: Request, requests: readonly Request[], end: Request): KernelError | undefined {
    const first = ++this.#sequence;
    const bytes = [encodeRequest(begin, first), this.#encode(requests)];
    const last = this.#sequence;
    sendOn(this.#fd, Buffer.concat([...bytes, encodeRequest(end, ++this.#sequence)]));
    let failure: KernelError | undefined;
    for (let isOpen = true; isOpen;) {
      for (const incoming of this.#read()) {
        if (incoming.kind !== 'error' || incoming.sequence < first) continue;
        failure ??= errorOf(incoming);
        // An error of the beginning is one of the whole.
        if (incoming.sequence === first || incoming.sequence === last) isOpen = false;
      }
    }
    return failure;
  }

  /** Like a batch of one, on another thread; the socket must not be used otherwise until it settles. */
  async aside(request: Request): Promise<KernelError | undefined> {
    const bytes = encodeRequest({ ...request, flags: request.flags | NLM_F.ACK }, ++this.#sequence);
    await sendAside(this.#fd, bytes);
    for (const incoming of this.#read()) if (incoming.kind === 'error') return errorOf(incoming);
    return undefined;
  }

  /** One object, or undefined where it does not exist. */
  get(request: Request): Message | undefined {
    const answer = this.ask(request);
    return answer !== undefined && 'body' in answer ? answer : undefined;
  }

  /** One object, or why there is none. */
  ask(request: Request): Message | KernelError | undefined {
    const sequence = ++this.#sequence;
    sendOn(this.#fd, encodeRequest(request, sequence));
    for (const incoming of this.#read()) {
      if (incoming.sequence !== sequence) continue;
      if (incoming.kind === 'message') return incoming;
      if (incoming.kind === 'error' && incoming.errno !== 0) return errorOf(incoming);
    }
    return undefined;
  }

  /** All objects of a type. @throws SystemError */
  dump(request: Request): Message[] {
    for (let attempt = 1; ; attempt++) {
      const { messages, interrupted } = this.#dumpOnce(request);
      // Under constant change the last dump is the best there is.
      if (!interrupted || attempt >= TRIES) return messages;
    }
  }

  /** @returns whether a concurrent change interrupted it, so that objects may be missing or repeated (NLM_F_DUMP_INTR) */
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
    // The kernel responds before send returns; no response means that it did not fit into the receive buffer.
    if (length === undefined) throw new SystemError('netlink', 'ENOBUFS');
    // A copy: decoded messages keep views of it.
    return decodeMessages(Buffer.from(NetlinkSocket.#buffer.subarray(0, length)));
  }

  /** Any use after this gets EBADF, and never a later file with the same descriptor. */
  close(): void {
    if (this.#fd >= 0) closeFd(this.#fd);
    this.#fd = -1;
  }
}

function errorOf({ errno: number, text }: Extract<Incoming, { kind: 'error' }>): KernelError | undefined {
  if (number === 0) return undefined;
  const errno = errnoName(number);
  return { errno, message: text === undefined ? errno : `${errno}, ${text}` };
}
