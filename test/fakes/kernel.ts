// An in-memory kernel with the contract of agent/kernel/kernel.ts.
//
// For tests of the agent's logic: namespaces with state (space.ts), a firewall, notifications, failures on demand, and hands that
// change things behind weft's back.
import { isDeepStrictEqual } from 'node:util';

import type {
  Announcement,
  Capability,
  Echo,
  FirewallDriver,
  FirewallDrops,
  FirewallReport,
  PortReservation,
  Kernel,
  KernelEvent,
  KernelNamespace,
  NeighbourTable,
  NamespaceRole,
  ParentLink,
  PeerNamespaces,
  StepFailure,
  UnderlayLink,
  Listener,
} from '../../agent/kernel/kernel.js';
import { type Family, IpNetwork } from '../../core/address.js';
import { notFound } from '../../core/errors.js';
import type { Firewall, FirewallChange, FirewallItem } from '../../core/firewall.js';
import type { HostRoute } from '../../core/host-routes.js';
import {
  linkKey,
  type Actual,
  type ActualObject,
  type ItemObject,
  type LinkObject,
  type ObjectKey,
} from '../../core/objects/index.js';
import type { Step } from '../../core/plan.js';
import type { Sandbox } from '../../core/records.js';
import { Errno, FakeSpace } from './space.js';

export const NODE_PATH = '/proc/1/ns/net';
const BOOT_ID = '00000000-0000-4000-8000-000000000001';

/** An open namespace; use after close is an error of the caller, and throws. */
class Handle implements KernelNamespace {
  readonly role: NamespaceRole;
  #closed = false;

  constructor(
    readonly space: FakeSpace,
    private readonly kernel: FakeKernel,
    private readonly path: string,
  ) {
    this.role = space.role;
    space.handles++;
  }

  async observe(sysctls: Iterable<string>): Promise<Actual> {
    this.#check();
    await Promise.resolve();
    return this.space.observe(sysctls);
  }

  async linkNames(): Promise<Set<string>> {
    this.#check();
    await Promise.resolve();
    return new Set(this.space.links.keys());
  }

  async apply(steps: readonly Step[], peers?: PeerNamespaces): Promise<StepFailure[]> {
    this.#check();
    await this.kernel.beforeApply?.(steps, this.path);
    const failures: StepFailure[] = [];
    for (const step of steps) {
      const peer = step.do === 'create-link' ? peers?.get(step.link.name) : undefined;
      try {
        this.kernel.failOnDemand(step, this.path);
        this.space.run(step, peer instanceof Handle ? peer.space : undefined);
        this.kernel.applied.push({ path: this.path, step });
      } catch (error) {
        if (!(error instanceof Errno)) throw error;
        failures.push({ step, errno: error.errno, message: error.message });
      }
    }
    return failures;
  }

  announce(addresses: readonly Announcement[]): void {
    this.#check();
    this.kernel.announced.push(...addresses.map(({ link, ip }) => `${ip} on ${link} of ${this.path}`));
  }

  listeners(): Listener[] {
    this.#check();
    return this.space.listeners;
  }

  trace(): Promise<never> {
    throw new Error('the fake kernel has no packets');
  }

  ask(ip: string, port: number): Promise<boolean> {
    this.#check();
    return Promise.resolve(this.space.answers(ip, port));
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.space.handles--;
    this.kernel.collect(this.space);
  }

  #check(): void {
    if (this.#closed) throw new Error(`the namespace ${this.path} was closed before`);
  }
}

/** Rules in memory: `ensure` compares with the present rules and reports repairs. */
export class FakeFirewall implements FirewallDriver {
  readonly kind = 'nftables';
  /** Undefined: no rules of weft exist, or they were flushed. */
  rules: Firewall | undefined;
  problems: FirewallReport['problems'] = [];
  /** What each comparison was told of, and what was changed without one. */
  readonly compared: (FirewallChange | undefined)[] = [];
  readonly changed: FirewallChange[] = [];
  /** How often the rules were written. */
  writes = 0;
  /** Called before each comparison of the rules, and awaited. */
  beforeEnsure: (() => Promise<void> | void) | undefined;
  #failures: Error[] = [];

  failNext(error: Error): void {
    this.#failures.push(error);
  }

  async difference(desired: Firewall): Promise<string[]> {
    await Promise.resolve();
    const { keepItems: _kept, ...rules } = this.rules ?? { networks: [] };
    const { keepItems: _keep, ...wanted } = desired;
    if (this.rules !== undefined && isDeepStrictEqual(rules, wanted)) return [];
    return [this.rules === undefined ? 'the table of weft was missing' : 'the rules of weft: changed'];
  }

  async ensure(desired: Firewall, news?: FirewallChange): Promise<FirewallReport> {
    this.compared.push(news);
    await this.beforeEnsure?.();
    const failure = this.#failures.shift();
    if (failure !== undefined) throw failure;
    const repaired = isDeepStrictEqual(this.rules, desired) ? [] : ['replaced the rules of weft'];
    if (repaired.length > 0) this.writes++;
    this.rules = structuredCloneOf(desired);
    return { repaired, problems: this.problems };
  }

  /** Items come and go without a repair. */
  async changeItems(
    desired: Firewall,
    added: readonly FirewallItem[] = [],
    removed: readonly FirewallItem[] = [],
  ): Promise<FirewallReport> {
    this.changed.push({ added, removed });
    if (this.rules === undefined) return this.ensure(desired);
    const failure = this.#failures.shift();
    if (failure !== undefined) throw failure;
    this.writes++;
    this.rules = structuredCloneOf(desired);
    return { repaired: [], problems: this.problems };
  }

  drops(): FirewallDrops {
    return [];
  }

  losses(): FirewallDrops {
    return [];
  }

  denials(): [] {
    return [];
  }

  async remove(): Promise<void> {
    await Promise.resolve();
    this.rules = undefined;
  }

  close(): void {}
}

/** Prefixes are immutable values; the lists around them are copied. */
const structuredCloneOf = (rules: Firewall): Firewall => ({
  ...rules,
  ...(rules.ports === undefined ? {} : { ports: new Map(rules.ports) }),
  ...(rules.containers === undefined ? {} : { containers: new Map(rules.containers) }),
  ...(rules.members === undefined ? {} : { members: new Map(rules.members) }),
  networks: rules.networks.map((network) => ({
    ...network,
    links: [...network.links],
    prefixes: [...network.prefixes],
  })),
});

/** Changes of a namespace by an administrator or another program. */
export class Hands {
  constructor(private readonly space: FakeSpace) {}

  /** Deletes the object of this key (see objectKey), link or not, weft's or not. */
  delete(key: ObjectKey): void {
    const name = [...this.space.links.keys()].find((link) => linkKey(link) === key);
    if (name === undefined) this.space.removeItem(key);
    else this.space.removeLink(name);
  }

  /** Adds an object that weft did not create; with `owned`, one that carries weft's mark. */
  put(object: ItemObject, owned = false): void {
    this.space.put(object, true, owned);
  }

  /** Adds a link of a kind that weft models, or, given as a string, of another kind. */
  addLink(name: string, object: LinkObject | string, owned = false): void {
    this.space.addLink({ object, name, owned, up: true });
  }

  changeLink(name: string, changes: Partial<LinkObject>): void {
    this.space.change(name, changes);
  }

  setDown(name: string): void {
    this.space.change(name, {}, false);
  }

  /** The sockets that listen from now on. */
  listen(listeners: Listener[]): void {
    this.space.listeners = listeners;
  }

  /** Whether questions by UDP are answered from now on. */
  answer(answers: (ip: string, port: number) => boolean): void {
    this.space.answers = answers;
  }

  sysctl(path: string, value: string): void {
    this.space.put({ kind: 'sysctl', path, value }, true, false);
  }
}

export class FakeKernel implements Kernel {
  readonly node: KernelNamespace;
  readonly firewall = new FakeFirewall();
  /** Ports of the node that are bound, by weft and by others. */
  readonly boundPorts = new Set<string>();
  readonly breakByHand: Hands;
  /** Every step that succeeded, in order. */
  readonly applied: { path: string; step: Step }[] = [];
  /** As `IP on LINK of PATH`. */
  readonly announced: string[] = [];
  /** Called before each apply, and awaited, so that a test can hold the kernel. */
  beforeApply: ((steps: readonly Step[], path: string) => Promise<void> | void) | undefined;
  /** The result of `underlayLinks`. */
  underlays: UnderlayLink[] = [
    {
      name: 'eth0',
      mtu: 1500,
      running: true,
      addresses: ['192.0.2.1/24', '2001:db8::1/64'],
    },
  ];
  /** The result of `sendsFrom`. */
  sources: Partial<Record<Family, { ip: string; link: string }>> = {
    4: { ip: '192.0.2.1', link: 'eth0' },
    6: { ip: '2001:db8::1', link: 'eth0' },
  };
  /** The result of `linksIgnoringRa`. */
  ignoringRa: string[] = [];
  /** Routes of the node beside those in its space. */
  hostRoutes: HostRoute[] = [];
  /** The results of `parentLink`. */
  readonly parents = new Map<string, ParentLink>();
  /** The result of `capabilities`. */
  can: Capability[] = [
    { name: 'bridge-vlan-filtering', available: true, why: '' },
    { name: '802.1q', available: true, why: '' },
    { name: 'wireguard', available: true, why: '' },
    { name: 'tun', available: true, why: '' },
    { name: 'ipip', available: true, why: '' },
  ];
  /** The result of `carriesUdp`. */
  hasFou = false;
  /** The result of `handshakes`. */
  readonly shaken = new Map<string, number>();
  /** Round-trip times by address; an absent address does not answer. */
  readonly rtts = new Map<string, number>();

  readonly #nodeSpace: FakeSpace;
  readonly #paths = new Map<string, { space: FakeSpace; sandbox: Sandbox }>();
  readonly #listeners = new Set<(event: KernelEvent) => void>();
  readonly #failures: { matches: (step: Step, path: string) => boolean; left: number; errno: string }[] = [];
  #pending:
    { objects: Map<ObjectKey, ActualObject>; gone: Set<ObjectKey>; linksGone: Set<string> } | undefined;
  #events: KernelEvent[] = [];
  #delivery: Promise<void> | undefined;
  #cookies = 4096;

  /** Recorded as text, so that a test can read it and add another program's socket. */
  reservePort(ip: string, port: number, protocol: 'tcp' | 'udp'): PortReservation | 'taken' | 'away' {
    const own = this.underlays.flatMap(({ addresses }) => addresses.map((text) => text.split('/')[0] ?? ''));
    if (![...own, '0.0.0.0', '::', '127.0.0.1'].includes(ip)) return 'away';
    const key = `${protocol} ${ip} ${port}`;
    if (this.boundPorts.has(key)) return 'taken';
    this.boundPorts.add(key);
    return { release: () => void this.boundPorts.delete(key) };
  }

  constructor() {
    this.#nodeSpace = new FakeSpace('node', {
      changed: (key, now) => this.#note(key, now),
      linkGone: (name) => {
        this.#note(linkKey(name), undefined);
        this.#pending?.linksGone.add(name);
      },
      lost: () => this.emit({ kind: 'unknown' }),
    });
    this.#nodeSpace.addLink({ object: 'ethernet', name: 'eth0', owned: false, up: true });
    this.#paths.set(NODE_PATH, { space: this.#nodeSpace, sandbox: this.#sandbox(NODE_PATH) });
    this.breakByHand = new Hands(this.#nodeSpace);
    this.node = new Handle(this.#nodeSpace, this, NODE_PATH);
  }

  #sandbox(path: string): Sandbox {
    return { path, cookie: String(this.#cookies++), bootId: BOOT_ID };
  }

  /** Starts a container: a new namespace at this path. Returns hands inside it. */
  addContainer(path: string): Hands {
    const space = new FakeSpace('container');
    this.#paths.set(path, { space, sandbox: this.#sandbox(path) });
    return new Hands(space);
  }

  /** Hands inside an existing container. */
  handsIn(path: string): Hands {
    const found = this.#paths.get(path);
    if (found === undefined) throw new Error(`no container at ${path}`);
    return new Hands(found.space);
  }

  /** Ends a container. Its links are deleted with it, unless a handle holds the namespace open. */
  vanish(path: string): void {
    const space = this.#paths.get(path)?.space;
    this.#paths.delete(path);
    if (space !== undefined) this.collect(space);
  }

  /** How many handles of the namespace at this path are open. */
  openHandles(path: string): number {
    return this.#paths.get(path)?.space.handles ?? 0;
  }

  /** Ends a namespace without path or handle, with every veth in it and its other end. */
  collect(space: FakeSpace): void {
    if (space.handles > 0 || [...this.#paths.values()].some((known) => known.space === space)) return;
    for (const name of [...space.links.keys()]) space.removeLink(name);
  }

  /** The next `times` steps that match fail with this errno. */
  failSteps(matches: (step: Step, path: string) => boolean, times = 1, errno = 'EIO'): void {
    this.#failures.push({ matches, left: times, errno });
  }

  /** @throws Errno where a test wanted this step to fail */
  failOnDemand(step: Step, path: string): void {
    const failure = this.#failures.find(({ matches, left }) => left > 0 && matches(step, path));
    if (failure === undefined) return;
    failure.left--;
    throw new Errno(failure.errno, 'made to fail by the test');
  }

  /** Everything in a namespace as text, one line an object; see FakeSpace.lines. */
  dump(path: string = NODE_PATH): string {
    return (this.#paths.get(path)?.space.lines() ?? [`no namespace ${path}`]).join('\n');
  }

  /** Whether the dump of the namespace has this line. */
  has(line: string, path: string = NODE_PATH): boolean {
    return this.dump(path).split('\n').includes(line);
  }

  async openNamespace(
    path: string,
  ): Promise<{ namespace: KernelNamespace; sandbox: Sandbox; isNode: boolean }> {
    await Promise.resolve();
    const found = this.#paths.get(path);
    if (found === undefined)
      throw notFound(`there is no network namespace at ${path}`, 'Is the container running?');
    const namespace = new Handle(found.space, this, path);
    return { namespace, sandbox: found.sandbox, isNode: found.space === this.#nodeSpace };
  }

  handshakes(): ReadonlyMap<string, number> {
    return this.shaken;
  }

  /** By link. */
  counters: ReturnType<Kernel['linkCounters']> = new Map();

  capture(): ReturnType<Kernel['capture']> {
    return {
      capture: { read: () => ({ frames: [], missed: 0 }), close: () => undefined },
      frames: new Map(),
    };
  }

  openTestNamespace(): never {
    throw new Error('the fake kernel has no sockets');
  }

  linkCounters(): ReturnType<Kernel['linkCounters']> {
    return this.counters;
  }

  carriesUdp(): boolean {
    return this.hasFou;
  }

  pumpCounters(): ReturnType<Kernel['pumpCounters']> {
    return new Map();
  }

  identify(path: string): Sandbox | undefined {
    return this.#paths.get(path)?.sandbox;
  }

  async routes(): Promise<HostRoute[]> {
    const { objects } = await this.node.observe([]);
    const inSpace = [...objects.values()].flatMap(({ object, owned }) =>
      object.kind === 'route'
        ? [{ to: IpNetwork.parse(object.to), link: object.link, isLan: false, isOwn: owned }]
        : [],
    );
    return [...inSpace, ...this.hostRoutes];
  }

  async underlayLinks(): Promise<UnderlayLink[]> {
    await Promise.resolve();
    return this.underlays;
  }

  sendsFrom(family: Family): { ip: string; link: string } | undefined {
    return this.sources[family];
  }

  /** Neighbours that were solicited, as `LINK IP`. */
  readonly solicited: string[] = [];
  async solicitNeighbour(link: string, ip: string): Promise<boolean> {
    await Promise.resolve();
    this.solicited.push(`${link} ${ip}`);
    return true;
  }

  async linksIgnoringRa(): Promise<string[]> {
    await Promise.resolve();
    return this.ignoringRa;
  }

  async parentLink(name: string): Promise<ParentLink | undefined> {
    await Promise.resolve();
    return this.parents.get(name);
  }

  capabilities(): readonly Capability[] {
    return this.can;
  }

  watch(listener: (event: KernelEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async ping(echoes: readonly Echo[]): Promise<(number | undefined)[]> {
    await Promise.resolve();
    return echoes.map(({ ip }) => this.rtts.get(ip));
  }

  heardTags(): string[] {
    return [];
  }

  nextHop(): undefined {}

  async whoHas(): Promise<string[]> {
    await Promise.resolve();
    return [];
  }

  neighbourTables(): NeighbourTable[] {
    return [];
  }

  filteredBridges(): [] {
    return [];
  }

  flushConntrack(): void {}

  refreshNeighbours(): void {}

  /** Flushes weft's rules, as another program would. */
  flushFirewall(): void {
    this.firewall.rules = undefined;
    this.emit({ kind: 'firewall' });
  }

  #note(key: ObjectKey, now: ActualObject | undefined): void {
    if (this.#pending === undefined) {
      this.#pending = { objects: new Map(), gone: new Set(), linksGone: new Set() };
      this.emit({ kind: 'changed', ...this.#pending });
    }
    if (now === undefined) {
      this.#pending.objects.delete(key);
      this.#pending.gone.add(key);
    } else {
      this.#pending.gone.delete(key);
      this.#pending.objects.set(key, now);
    }
  }

  /** Delivers an event to the listeners a little later, as netlink does. */
  emit(event: KernelEvent): void {
    this.#events.push(event);
    this.#delivery ??= new Promise((resolve) => {
      setImmediate(() => {
        const events = this.#events;
        this.#events = [];
        this.#pending = undefined;
        this.#delivery = undefined;
        for (const listener of this.#listeners) events.forEach((notified) => listener(notified));
        resolve();
      });
    });
  }

  /** Settles when all events so far have been delivered. */
  async settled(): Promise<void> {
    while (this.#delivery !== undefined) await this.#delivery;
  }

  close(): void {
    this.#listeners.clear();
  }
}
