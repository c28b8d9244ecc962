// One network namespace: observe its objects, apply steps in it.
import { closeSync } from 'node:fs';

import { IpAddress } from '../../core/address.js';
import { BRIDGE_LINK_LOCAL } from '../../core/link-names.js';
import type { Actual } from '../../core/objects/index.js';
import type { Step } from '../../core/plan.js';
import { sendAnnouncements } from './announce.js';
import { Application } from './apply.js';
import { askByUdp, readListeners } from './inside.js';
import { BridgePorts, type InterfaceLoans } from './bridge-ports.js';
import type {
  Announcement,
  KernelNamespace,
  Listener,
  NamespaceRole,
  PeerNamespaces,
  StepFailure,
} from './kernel.js';
import { inNamespace } from './namespaces.js';
import type { NetlinkSocket } from './netlink-socket.js';
import {
  decodeLink,
  decodeLinkName,
  dumpLinks,
  getLink,
  type DecodedAddress,
  type KernelLink,
  type PrivateKeys,
} from './objects/index.js';
import { NO_PUMPS, type Pumps } from './pump/processes.js';
import { LinuxNamespaceTrace } from './tracing/namespace-trace.js';
import type { TraceFilter } from './tracing/probe.js';
import type { NamespaceTrace } from './tracing/types.js';
import { actualOf, readAddresses, readLinks, readView } from './observe.js';

export class LinuxNamespace implements KernelNamespace {
  /** Whether this kernel keeps marks on addresses (Linux 5.18); true until known otherwise. */
  marksAddresses = true;
  #closed = false;

  constructor(
    readonly role: NamespaceRole,
    readonly socket: NetlinkSocket,
    /** Absent for the process's own namespace. */
    readonly fd?: number,
    /** In the node's namespace: what NICs had before they became ports of bridges. */
    private readonly loans?: InterfaceLoans,
    /** In the node's namespace: the keys of its WireGuard devices. */
    private readonly privateKey: PrivateKeys = () => undefined,
    /** In the node's namespace: those of its udp networks. */
    private readonly pumps: Pumps = NO_PUMPS,
  ) {}

  links(): Map<number, KernelLink> {
    return readLinks(this.socket, this.role);
  }

  addresses(links: ReadonlyMap<number, KernelLink>): DecodedAddress[] {
    const { role, marksAddresses } = this;
    return readAddresses(this.socket, { byIndex: (index) => links.get(index), role, marksAddresses });
  }

  linkNames(): Promise<Set<string>> {
    return Promise.resolve(new Set(this.socket.dump(dumpLinks).map(({ body }) => decodeLinkName(body).name)));
  }

  observe(sysctls: Iterable<string>): Promise<Actual> {
    const view = readView({
      role: this.role,
      socket: this.socket,
      marksAddresses: this.marksAddresses,
      sysctls,
      lent: this.loans?.list() ?? [],
      pumps: this.pumps.list(),
      inside: (work) => this.#inside(work),
    });
    this.marksAddresses = view.lookup.marksAddresses;
    return Promise.resolve(actualOf(view));
  }

  #inside<T>(work: () => T): T {
    if (this.#closed) throw new Error('the namespace was closed before');
    return this.fd === undefined ? work() : inNamespace(this.fd, work);
  }

  apply(steps: readonly Step[], peers?: PeerNamespaces): Promise<StepFailure[]> {
    const inside = <T>(work: () => T): T => this.#inside(work);
    const ports = this.loans === undefined ? undefined : new BridgePorts(this.socket, this.loans, inside);
    const peerFd = (link: string): number | undefined => {
      const peer = peers?.get(link);
      return peer instanceof LinuxNamespace ? peer.fd : undefined;
    };
    const { socket, role, privateKey, pumps } = this;
    return new Application(socket, role, inside, peerFd, ports, privateKey, pumps).run(steps);
  }

  announce(addresses: readonly Announcement[]): void {
    const found = addresses.flatMap(({ link: name, ip: text }) => {
      const message = this.socket.get(getLink(name));
      if (message === undefined) return [];
      const { index, mac, kind, ethernet } = decodeLink(message.body, this.role, () => '');
      const ip = IpAddress.parse(text);
      // The node answers for addresses that are not its own.
      const from = this.role === 'node' ? IpAddress.parse(BRIDGE_LINK_LOCAL) : ip;
      // Nobody on a tunnel asks who has an address.
      return kind === 'vxlan' || !ethernet ? [] : [{ index, mac, ip, from }];
    });
    if (found.length > 0) this.#inside(() => sendAnnouncements(found));
  }

  listeners(): Listener[] {
    return this.#inside(readListeners);
  }

  async ask(ip: string, port: number, question: Buffer): Promise<boolean> {
    return await this.#inside(() => askByUdp(ip, port, question));
  }

  trace(filter: TraceFilter): Promise<NamespaceTrace> {
    return LinuxNamespaceTrace.open(this, filter, (work) => this.#inside(work));
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.socket.close();
    if (this.fd !== undefined) closeSync(this.fd);
  }
}
