// A netlink multicast subscription that detects losses and recovers from errors.
import { closeSync, openSync, readdirSync } from 'node:fs';
import { setImmediate as turn } from 'node:timers/promises';

// Not from 'netlink' itself, which loads its messages, too.
import { RawNetlinkSocket } from 'netlink/dist/raw.js';

import { droppedBy, isNetlinkSocket, setOption, setSocketOption } from './libc.js';

// include/uapi/linux/netlink.h
const SOL_NETLINK = 270;
const NETLINK_NO_ENOBUFS = 5;
const SO_RCVBUFFORCE = 33;
const RECEIVE_BUFFER = 8 * 1024 * 1024;
const REOPEN_MS = 1000;
/** Minimum interval between reported losses: in a flood each would be reported, and everything listed for it. */
const BETWEEN_LOSSES_MS = 1000;

export interface SubscriptionOptions {
  protocol: number;
  groups: readonly number[];
  receive: (bytes: Buffer) => void;
  /** Messages were lost, or the socket was reopened. */
  lost: () => void;
}

export class Subscription {
  #socket: RawNetlinkSocket | undefined;
  #fd = -1;
  #dropped = 0;
  #received: Buffer[] = [];
  #soon: NodeJS.Immediate | undefined;
  #check: NodeJS.Timeout | undefined;
  #emittedAt = -Infinity;
  #reopen: NodeJS.Timeout | undefined;
  #closed = false;

  /** Subscribes in the namespace that the process is in. @throws where the kernel lacks this netlink family */
  constructor(private readonly options: SubscriptionOptions) {
    this.#open();
  }

  #open(): void {
    const { protocol, groups } = this.options;
    const likely = nextDescriptor();
    const socket = new RawNetlinkSocket(protocol);
    try {
      this.#fd = descriptorOf(protocol, socket.address().port, likely);
      // Without this a full buffer would end the process: the package throws where no caller can catch it. With it, losses are
      // silent, and counted by the socket.
      setOption(this.#fd, SOL_NETLINK, NETLINK_NO_ENOBUFS, 1);
      setSocketOption(this.#fd, SO_RCVBUFFORCE, RECEIVE_BUFFER);
      for (const group of groups) socket.addMembership(group);
    } catch (error) {
      socket.close();
      throw error;
    }
    this.#dropped = 0;
    this.#socket = socket;
    socket.on('error', () => this.#failed());
    socket.on('message', (bytes) => {
      this.#received.push(bytes);
      // Deferred, so that the response to the caller whose request changed the kernel is written first.
      this.#soon ??= setImmediate(() => this.#emit());
    });
  }

  #emit(): void {
    this.#soon = undefined;
    const received = this.#received;
    this.#received = [];
    for (const bytes of received) this.options.receive(bytes);
    const wait = Math.max(0, this.#emittedAt + BETWEEN_LOSSES_MS - performance.now());
    this.#check ??= setTimeout(() => this.#checkDropped(), wait);
  }

  /** What the kernel has sent by now was received: one turn of the event loop reads it, and the next hands it on. */
  async caughtUp(): Promise<void> {
    await turn();
    await turn();
    if (this.#soon !== undefined) await turn();
  }

  #checkDropped(): void {
    this.#check = undefined;
    if (this.#socket === undefined) return;
    const dropped = droppedBy(this.#fd);
    if (dropped === this.#dropped) return;
    this.#dropped = dropped;
    this.#emittedAt = performance.now();
    this.options.lost();
  }

  #failed(): void {
    this.#socket?.close();
    this.#socket = undefined;
    if (this.#closed) return;
    this.#reopen ??= setTimeout(() => {
      this.#reopen = undefined;
      try {
        this.#open();
        this.options.lost();
      } catch {
        this.#failed();
      }
    }, REOPEN_MS);
  }

  close(): void {
    this.#closed = true;
    clearImmediate(this.#soon);
    clearTimeout(this.#check);
    clearTimeout(this.#reopen);
    this.#socket?.close();
    this.#socket = undefined;
  }
}

/** The package does not expose its descriptor; it is the lowest free one, unless a Node.js thread opens a file at this moment. */
function nextDescriptor(): number {
  const fd = openSync('/dev/null', 'r');
  closeSync(fd);
  return fd;
}

function descriptorOf(protocol: number, port: number, likely: number): number {
  if (isNetlinkSocket(likely, protocol, port)) return likely;
  const all = readdirSync('/proc/self/fd').map(Number);
  const fd = all.find((candidate) => isNetlinkSocket(candidate, protocol, port));
  if (fd === undefined) throw new Error('the netlink socket has no descriptor of this process');
  return fd;
}
