// One network namespace: reading what it has, and carrying steps out in it.
import { closeSync, readFileSync, writeFileSync } from 'node:fs';
import { setImmediate as turn, setTimeout as delay } from 'node:timers/promises';

import { messageOf } from '../../core/errors.js';
import {
  connectedRoute,
  objectKey,
  type Actual,
  type ActualObject,
  type LinkObject,
  type ObjectKey,
  type PortObject,
  type SysctlObject,
} from '../../core/objects/index.js';
import type { Step } from '../../core/plan.js';
import {
  addressObject,
  decodeAddress,
  decodeLink,
  decodeLinkName,
  accessVlan,
  decodeNeighbour,
  decodeRoute,
  portObject,
  routeMatters,
  vlanObjects,
  type DecodedAddress,
  type KernelLink,
  type LinkLookup,
} from './decode.js';
import {
  addressRequest,
  changeLink,
  changeTunnel,
  createLink,
  deleteLink,
  dumpAddresses,
  dumpFdb,
  dumpLinks,
  dumpNeighbours,
  dumpProxies,
  dumpRoutes,
  getLink,
  neighbourRequest,
  routeRequest,
} from './encode.js';
import {
  accessPortRequests,
  bridgeVlanRequest,
  decodeBridgeVlans,
  dumpBridgeVlans,
  type BridgeVlanEntry,
} from './encode-bridge.js';
import { otherOwner } from './ownership.js';
import type { KernelNamespace, NamespaceRole, PeerNamespaces, StepFailure } from './kernel.js';
import { inNamespace } from './namespaces.js';
import { BridgePorts, type InterfaceLoans } from './bridge-ports.js';
import { BATCH, NetlinkSocket, type Refusal } from './netlink-socket.js';
import type { Request } from './netlink-message.js';

/** Of a deletion: it is gone already. */
const GONE = new Set(['ENOENT', 'ESRCH', 'ENODEV', 'EADDRNOTAVAIL', 'ENXIO']);

/** How long steps may hold up everything else in this process, in milliseconds. An attach is done long before. */
const TURN_MS = 10;

export class LinuxNamespace implements KernelNamespace {
  /** Whether this kernel knows of marks on addresses (5.18); as far as is known. */
  marksAddresses = true;
  #closed = false;

  constructor(
    readonly role: NamespaceRole,
    readonly socket: NetlinkSocket,
    /** Absent for the namespace that the process runs in. */
    readonly fd?: number,
    /** Of the node's namespace: where it stands what links had before they became ports. */
    private readonly loans?: InterfaceLoans,
  ) {}

  links(): Map<number, KernelLink> {
    const messages = this.socket.dump(dumpLinks);
    const names = new Map<number, string>();
    const nameOf = (index: number): string => names.get(index) ?? '';
    for (const { index, name } of messages.map(({ body }) => decodeLinkName(body))) names.set(index, name);
    return new Map(messages.map(({ body }) => [body.readInt32LE(4), decodeLink(body, this.role, nameOf)]));
  }

  addresses(links: ReadonlyMap<number, KernelLink>): DecodedAddress[] {
    const lookup = this.#lookup(links);
    return this.socket.dump(dumpAddresses).flatMap(({ body }) => decodeAddress(body, lookup) ?? []);
  }

  #lookup(links: ReadonlyMap<number, KernelLink>): LinkLookup {
    return { byIndex: (index) => links.get(index), marksAddresses: this.marksAddresses, role: this.role };
  }

  linkNames(): Promise<Set<string>> {
    return Promise.resolve(new Set(this.socket.dump(dumpLinks).map(({ body }) => decodeLinkName(body).name)));
  }

  observe(sysctls: Iterable<string>): Promise<Actual> {
    const links = this.links();
    const addresses = this.addresses(links);
    // The kernel marks those that it makes itself (IFAPROT_KERNEL_LO and others), where it knows of marks at all.
    if (addresses.length > 0) this.marksAddresses = addresses.some((address) => address.hasProtocol);
    const lookup = this.#lookup(links);
    const objects = new Map<ObjectKey, ActualObject>();
    const add = (actual: ActualObject | undefined): void => {
      if (actual === undefined) return;
      const key = objectKey(actual.object);
      // Of two routes to one place weft's own is the one that matters.
      if (actual.owned || !objects.has(key)) objects.set(key, actual);
    };
    const vlans = this.#vlans(links);
    for (const link of links.values()) {
      if (link.object !== undefined)
        add({ object: withVlan(link.object, vlans.get(link.index)), owned: link.owned });
    }
    if (this.role === 'node') for (const actual of this.#ports(links, vlans)) add(actual);
    for (const address of addresses) add(addressObject(address, lookup));
    const direct = new Set<string>();
    for (const { body } of this.socket.dump(dumpRoutes)) {
      const route = decodeRoute(body, lookup);
      if (route?.actual.object.kind === 'route' && route.actual.object.via === undefined)
        direct.add(`${route.actual.object.to} ${route.actual.object.link}`);
      if (route !== undefined && routeMatters(route, this.role)) add(route.actual);
    }
    if (this.role === 'node') {
      for (const request of [dumpNeighbours, dumpProxies, dumpFdb]) {
        for (const { body } of this.socket.dump(request)) {
          const entry = decodeNeighbour(body, lookup);
          if (entry?.permanent === true) add(entry.actual);
        }
      }
    }
    for (const object of this.#readSysctls(sysctls)) add({ object, owned: false });
    const all = [...links.values()];
    const unconnected = new Set<ObjectKey>();
    for (const [key, { object }] of objects) {
      const route = object.kind === 'address' ? connectedRoute(object) : undefined;
      if (route !== undefined && !direct.has(`${route.to} ${route.link}`)) unconnected.add(key);
    }
    return Promise.resolve({
      objects,
      unconnected,
      foreignLinks: new Set(all.filter((link) => !link.owned && !link.loopback).map((link) => link.name)),
      up: new Set(all.filter((link) => link.up).map((link) => link.name)),
    });
  }

  /** By the index of each port of a bridge that tells VLANs apart, and of the bridge. */
  #vlans(links: ReadonlyMap<number, KernelLink>): Map<number, BridgeVlanEntry[]> {
    const found = new Map<number, BridgeVlanEntry[]>();
    const aware = (link: KernelLink | undefined): boolean =>
      link?.object?.kind === 'link' && link.object.type === 'bridge' && link.object.vlans === true;
    if (this.role !== 'node' || ![...links.values()].some(aware)) return found;
    for (const link of links.values())
      if (aware(link) || aware(links.get(link.masterIndex))) found.set(link.index, []);
    for (const { body } of this.socket.dump(dumpBridgeVlans)) {
      const { index, entries } = decodeBridgeVlans(body);
      if (found.has(index) && entries.length > 0) found.set(index, entries);
    }
    return found;
  }

  #ports(
    links: ReadonlyMap<number, KernelLink>,
    vlans: ReadonlyMap<number, BridgeVlanEntry[]>,
  ): ActualObject[] {
    const byIndex = (index: number): KernelLink | undefined => links.get(index);
    const objects = [...links.values()].flatMap((link): ActualObject[] => {
      const port = portObject(link, byIndex);
      const own = vlanObjects(link, vlans.get(link.index) ?? [], byIndex);
      return [...(port === undefined ? [] : [port]), ...own.map((object) => ({ object, owned: true }))];
    });
    // What was begun and not finished is neither a port nor given back.
    const halves = (this.loans?.list() ?? []).flatMap(({ link, done }): ActualObject[] => {
      const is = objects.find(({ object }) => object.kind === 'port' && object.link === link);
      // Whole, or somebody else's by now.
      if (is !== undefined && (done || !is.owned)) return [];
      return [{ object: { kind: 'port', link, master: '' }, owned: true }];
    });
    return [...objects, ...halves];
  }

  #readSysctls(paths: Iterable<string>): SysctlObject[] {
    return this.#inside(() =>
      [...paths].map((path): SysctlObject => {
        try {
          return { kind: 'sysctl', path, value: readFileSync(`/proc/sys/${path}`, 'utf8').trim() };
        } catch {
          return { kind: 'sysctl', path, value: '' };
        }
      }),
    );
  }

  #inside<T>(work: () => T): T {
    if (this.#closed) throw new Error('the namespace was closed before');
    return this.fd === undefined ? work() : inNamespace(this.fd, work);
  }

  apply(steps: readonly Step[], peers?: PeerNamespaces): Promise<StepFailure[]> {
    const inside = <T>(work: () => T): T => this.#inside(work);
    const ports = this.loans === undefined ? undefined : new BridgePorts(this.socket, this.loans, inside);
    return new Application(this.socket, this.role, inside, peers, ports).run(steps);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.socket.close();
    if (this.fd !== undefined) closeSync(this.fd);
  }
}

/** Of a port of a bridge with VLANs, the one it is in. */
const withVlan = (object: LinkObject, entries: readonly BridgeVlanEntry[] | undefined): LinkObject =>
  object.type === 'veth' && entries !== undefined ? { ...object, vlan: accessVlan(entries) } : object;

/** One apply: gathers requests into batches, and sends what it has when the next step needs to know its outcome. */
class Application {
  readonly #failures = new Map<Step, StepFailure>();
  readonly #links = new Map<string, KernelLink | undefined>();
  #pending: { step: Step; request: Request }[] = [];

  constructor(
    private readonly socket: NetlinkSocket,
    private readonly role: NamespaceRole,
    private readonly inside: <T>(work: () => T) => T,
    private readonly peers: PeerNamespaces | undefined,
    private readonly ports: BridgePorts | undefined,
  ) {}

  async run(steps: readonly Step[]): Promise<StepFailure[]> {
    let begin = performance.now();
    for (const step of steps) {
      try {
        const foreign = otherOwner(step, (name) => this.#link(name));
        if (foreign !== undefined) this.#leave(step, foreign);
        else if (step.do === 'delete-link') await this.#deleteLink(step);
        else this.#one(step);
      } catch (error) {
        this.#fail(step, { errno: 'EIO', message: messageOf(error) });
      }
      if (this.#pending.length >= BATCH) this.#flush();
      if (performance.now() - begin < TURN_MS) continue;
      this.#flush();
      await turn();
      // Others had their turn, too.
      this.#links.clear();
      begin = performance.now();
    }
    this.#flush();
    return [...this.#failures.values()];
  }

  /** Nothing of weft's is put on a link of somebody else's, and nothing of weft's is there to be deleted. */
  #leave(step: Step, foreign: string): void {
    if (step.do === 'delete') return;
    this.#fail(step, {
      errno: 'EEXIST',
      message: `EEXIST, ${foreign} is there already, and weft did not make it`,
    });
  }

  #one(step: Exclude<Step, { do: 'delete-link' }>): void {
    switch (step.do) {
      case 'create-link':
        return this.#create(step);
      case 'change-link':
        return this.#change(step);
      case 'put':
      case 'delete':
        return this.#object(step);
    }
  }

  /**
   * For most of the time that it takes, the kernel waits for readers of a link that nobody can find any more (rcu_barrier in
   * netdev_run_todo, net/core/dev.c): over as soon as it cannot be found.
   */
  async #deleteLink(step: Extract<Step, { do: 'delete-link' }>): Promise<void> {
    this.#flush();
    const { name } = step;
    const index = this.#index(name);
    if (index === undefined) return;
    // Others have their turn, too.
    this.#links.clear();
    const socket = this.inside(() => new NetlinkSocket());
    let refusal: Refusal | undefined;
    let over = false;
    const deleting = socket
      .aside(deleteLink(index))
      .catch((error: unknown) => ({ errno: 'EIO', message: messageOf(error) }))
      .then((answer) => {
        refusal = answer;
        over = true;
        socket.close();
      });
    do await Promise.race([deleting, delay(1)]);
    while (!over && this.socket.get(getLink(name))?.body.readInt32LE(4) === index);
    if (refusal !== undefined) this.#refused(step, refusal);
  }

  #create(step: Extract<Step, { do: 'create-link' }>): void {
    const { link } = step;
    if (link.type === 'peer' || link.type === 'loopback') {
      return this.#fail(step, {
        errno: 'ENODEV',
        message: `ENODEV, ${link.name} is not there and cannot be made from inside`,
      });
    }
    const peer = this.peers?.get(link.name);
    const elsewhere = link.type === 'veth' && link.peer.onNode !== true;
    if (elsewhere && !(peer instanceof LinuxNamespace && peer.fd !== undefined)) {
      return this.#fail(step, { errno: 'ENODEV', message: 'ENODEV, the container is not open' });
    }
    const base = link.type === 'vlan' ? this.#index(link.base) : undefined;
    if (link.type === 'vlan' && base === undefined)
      return this.#fail(step, { errno: 'ENODEV', message: `ENODEV, there is no bridge ${link.base}` });
    this.#add(step, createLink(link, peer instanceof LinuxNamespace ? peer.fd : undefined, base));
    this.#flush();
    this.#links.delete(link.name);
    if (!this.#failures.has(step)) this.#changeRequests(step, link);
  }

  #change(step: Extract<Step, { do: 'change-link' }>): void {
    this.#changeRequests(step, step.link);
  }

  #changeRequests(step: Step, link: Extract<Step, { do: 'change-link' }>['link']): void {
    const current = this.#link(link.name);
    if (current === undefined)
      return this.#fail(step, { errno: 'ENODEV', message: `ENODEV, there is no link ${link.name}` });
    let master: number | undefined;
    if (link.type === 'veth') {
      master = this.#index(link.master);
      if (master === undefined)
        return this.#fail(step, { errno: 'ENODEV', message: `ENODEV, there is no bridge ${link.master}` });
    }
    for (const request of changeLink(link, current, master)) this.#add(step, request);
    if (link.type === 'veth' && link.vlan !== undefined)
      for (const request of accessPortRequests(current.index, link.vlan)) this.#add(step, request);
    if (link.type === 'vxlan' && step.do === 'change-link')
      this.#add(step, changeTunnel(link, current.index));
  }

  #object(step: Extract<Step, { do: 'put' | 'delete' }>): void {
    const { object } = step;
    const put = step.do === 'put';
    if (object.kind === 'sysctl') {
      this.#flush();
      return this.#sysctl(step, object);
    }
    if (object.kind === 'port') return this.#port(step, object);
    const index = this.#index(object.link);
    if (index === undefined) {
      if (put) this.#fail(step, { errno: 'ENODEV', message: `ENODEV, there is no link ${object.link}` });
      return;
    }
    switch (object.kind) {
      case 'address':
        return this.#add(step, addressRequest(object, index, put));
      case 'route':
        return this.#add(
          step,
          routeRequest(object, index, put ? (step.replace ? 'replace' : 'create') : 'delete'),
        );
      case 'vlan':
        return this.#add(step, bridgeVlanRequest(object, index, put));
      default:
        return this.#add(step, neighbourRequest(object, index, put));
    }
  }

  #port(step: Step, { link: name, master }: PortObject): void {
    this.#flush();
    const link = this.#link(name);
    const bridge = this.#link(master);
    let refusal: Refusal | undefined;
    if (this.ports === undefined)
      refusal = { errno: 'EPERM', message: 'EPERM, ports are made on the node alone' };
    else if (step.do === 'delete') {
      const from = this.#link(this.ports.bridgeOf(name));
      refusal = this.ports.release(link, from?.owned === true ? from : undefined, name);
    } else if (link === undefined || bridge === undefined)
      refusal = {
        errno: 'ENODEV',
        message: `ENODEV, there is no link ${link === undefined ? name : master}`,
      };
    else refusal = this.ports.take(link, bridge);
    this.#links.delete(name);
    if (refusal !== undefined) this.#fail(step, refusal);
  }

  #sysctl(step: Step, { path, value }: SysctlObject): void {
    try {
      this.inside(() => writeFileSync(`/proc/sys/${path}`, value));
    } catch (error) {
      const errno = (error as NodeJS.ErrnoException).code ?? 'EIO';
      this.#fail(step, { errno, message: messageOf(error) });
    }
  }

  /** Asked once for each name of an apply, so that an index is never that of a link which had the name before. */
  #link(name: string): KernelLink | undefined {
    if (name === '') return undefined;
    if (this.#links.has(name)) return this.#links.get(name);
    const found = this.socket.get(getLink(name));
    const link = found === undefined ? undefined : decodeLink(found.body, this.role, () => '');
    this.#links.set(name, link);
    return link;
  }

  #index(name: string): number | undefined {
    return this.#link(name)?.index;
  }

  #add(step: Step, request: Request): void {
    this.#pending.push({ step, request });
  }

  #flush(): void {
    const pending = this.#pending;
    if (pending.length === 0) return;
    this.#pending = [];
    let refusals: (Refusal | undefined)[];
    try {
      refusals = this.socket.batch(pending.map(({ request }) => request));
    } catch (error) {
      for (const { step } of pending) this.#fail(step, { errno: 'EIO', message: messageOf(error) });
      return;
    }
    for (const [i, { step }] of pending.entries()) {
      const refusal = refusals[i];
      if (refusal !== undefined) this.#refused(step, refusal);
    }
  }

  #refused(step: Step, refusal: Refusal): void {
    const deletes = step.do === 'delete' || step.do === 'delete-link';
    if (!deletes || !GONE.has(refusal.errno)) this.#fail(step, refusal);
  }

  #fail(step: Step, { errno, message }: Refusal): void {
    if (!this.#failures.has(step)) this.#failures.set(step, { step, errno, message });
  }
}
