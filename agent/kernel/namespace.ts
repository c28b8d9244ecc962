// One network namespace: reading what it has, and carrying steps out in it.
import { closeSync, readFileSync, writeFileSync } from 'node:fs';
import { setImmediate as turn } from 'node:timers/promises';

import { messageOf } from '../../core/errors.js';
import {
  connectedRoute,
  objectKey,
  type Actual,
  type ActualObject,
  type SysctlObject,
} from '../../core/objects.js';
import type { Step } from '../../core/plan.js';
import {
  addressObject,
  decodeAddress,
  decodeLink,
  decodeNeighbour,
  decodeRoute,
  routeMatters,
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
import type { KernelNamespace, NamespaceRole, PeerNamespaces, StepFailure } from './kernel.js';
import { inNamespace } from './namespaces.js';
import { BATCH, type NetlinkSocket, type Refusal } from './netlink-socket.js';
import type { Request } from './wire.js';

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
  ) {}

  links(): Map<number, KernelLink> {
    const messages = this.socket.dump(dumpLinks);
    const names = new Map<number, string>();
    const nameOf = (index: number): string => names.get(index) ?? '';
    for (const { body } of messages) names.set(body.readInt32LE(4), decodeLink(body, this.role, nameOf).name);
    return new Map(messages.map(({ body }) => [body.readInt32LE(4), decodeLink(body, this.role, nameOf)]));
  }

  linkNames(): Promise<Set<string>> {
    return Promise.resolve(new Set([...this.links().values()].map((link) => link.name)));
  }

  observe(sysctls: Iterable<string>): Promise<Actual> {
    const links = this.links();
    const addressMessages = this.socket.dump(dumpAddresses);
    const lookup: LinkLookup = {
      byIndex: (index) => links.get(index),
      marksAddresses: true,
      role: this.role,
    };
    const addresses = addressMessages.flatMap(({ body }) => decodeAddress(body, lookup) ?? []);
    // The kernel marks those that it makes itself (IFAPROT_KERNEL_LO and others), where it knows of marks at all.
    if (addresses.length > 0) this.marksAddresses = addresses.some((address) => address.hasProtocol);
    lookup.marksAddresses = this.marksAddresses;
    const objects = new Map<string, ActualObject>();
    const add = (actual: ActualObject | undefined): void => {
      if (actual === undefined) return;
      const key = objectKey(actual.object);
      // Of two routes to one place weft's own is the one that matters.
      if (actual.owned || !objects.has(key)) objects.set(key, actual);
    };
    for (const link of links.values())
      if (link.object !== undefined) add({ object: link.object, owned: link.owned });
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
    const unconnected = new Set<string>();
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
    return new Application(this.socket, this.role, (work) => this.#inside(work), peers).run(steps);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.socket.close();
    if (this.fd !== undefined) closeSync(this.fd);
  }
}

/** One apply: gathers requests into batches, and sends what it has when the next step needs to know its outcome. */
class Application {
  readonly #failures = new Map<Step, StepFailure>();
  readonly #links = new Map<string, KernelLink | undefined>();
  #pending: { step: Step; request: Request }[] = [];

  constructor(
    private readonly socket: NetlinkSocket,
    private readonly role: NamespaceRole,
    private readonly inside: (work: () => void) => void,
    private readonly peers: PeerNamespaces | undefined,
  ) {}

  /** What takes no longer than TURN_MS is done when this returns, so that steps in another namespace may build on it. */
  async run(steps: readonly Step[]): Promise<StepFailure[]> {
    let begin = performance.now();
    for (const step of steps) {
      try {
        this.#one(step);
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

  #one(step: Step): void {
    switch (step.do) {
      case 'create-link':
        return this.#create(step);
      case 'change-link':
        return this.#change(step);
      case 'delete-link': {
        const index = this.#index(step.name);
        if (index !== undefined) this.#add(step, deleteLink(index));
        this.#flush();
        this.#links.delete(step.name);
        return;
      }
      case 'put':
      case 'delete':
        return this.#object(step);
    }
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
    if (link.type === 'veth' && !(peer instanceof LinuxNamespace && peer.fd !== undefined)) {
      return this.#fail(step, { errno: 'ENODEV', message: 'ENODEV, the container is not open' });
    }
    this.#add(step, createLink(link, peer instanceof LinuxNamespace ? peer.fd : undefined));
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
      default:
        return this.#add(step, neighbourRequest(object, index, put));
    }
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
      if (refusal === undefined) continue;
      const deletes = step.do === 'delete' || step.do === 'delete-link';
      if (!deletes || !GONE.has(refusal.errno)) this.#fail(step, refusal);
    }
  }

  #fail(step: Step, { errno, message }: Refusal): void {
    if (!this.#failures.has(step)) this.#failures.set(step, { step, errno, message });
  }
}
