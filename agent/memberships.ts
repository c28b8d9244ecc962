// The networks that this node is on: its subnet in each, the peers there, and the claims on its addresses. It turns what
// the store says into records of the reconciler, and keeps this node's own leases alive.
import { parseInterface } from '../core/address.js';
import { areRouted, checkOverlap, prefixesOf, type Network } from '../core/network.js';
import {
  compileFirewall,
  compileNetwork,
  compilePeer,
  vtepMac,
  type Membership,
  type Parent,
  type Underlay,
} from '../core/compile.js';
import { describeStep } from '../core/plan.js';
import { addressingOf, allowsVlan, backendTypeOf, checkParent } from '../core/bridged.js';
import {
  alreadyExists,
  failedPrecondition,
  messageOf,
  notFound,
  unavailable,
  WeftError,
} from '../core/errors.js';
import type { KernelObject } from '../core/objects.js';
import type { Endpoint, Lease } from '../core/records.js';
import type { Logger } from '../daemon/log.js';
import type { Change, LeaseRequest, Store, StoredLease } from '../store/store.js';
import { claimRecord, Claims, ownSubnets, type Claimed } from './claims.js';
import type { Kernel, StepFailure } from './kernel/kernel.js';
import { LeaseKeeper } from './lease-keeper.js';
import { Locks } from '../core/locks.js';
import { findParent } from './parents.js';
import { Mourning } from './mourning.js';
import type { Problems } from './problems.js';
import type { Reconciler } from './reconciler.js';
import type { SavedNetwork, State } from './state.js';
import { deleteSubnetEnv, writeSubnetEnv } from './subnet-env.js';

export interface MembershipsOptions {
  kernel: Kernel;
  store: Store;
  reconciler: Reconciler;
  state: State;
  log: Logger;
  problems: Problems;
  node: string;
  instance: string;
  runDir: string;
  subnetTtlSeconds: number;
  underlay: () => Underlay;
}

/** What the endpoints of the node have to do with its networks. */
export interface MembershipListener {
  /** The network's objects have been compiled anew: those of its endpoints must be, too. */
  changed(network: string): Promise<void>;
  /** The network is gone: so are its endpoints. */
  left(network: string): Promise<void>;
  /** Whether the network has endpoints on this node. */
  isUsed(network: string): boolean;
  /** Why an address of this node's subnet cannot be given to another node, or undefined. */
  refusal(network: string, ip: string): string | undefined;
}

interface Member extends Claimed {
  keeper: LeaseKeeper;
  /** Who has this node's subnet now, until it has another. */
  dispossessed?: string;
}

/** A subnet that the node had, and since when. */
type Previous = Pick<Lease, 'subnet' | 'subnet6' | 'since'>;

export class Memberships {
  readonly #members = new Map<string, Member>();
  readonly #locks = new Locks();
  readonly #claims: Claims;
  readonly #mourning: Mourning;
  #listener: MembershipListener | undefined;
  /** This node was taken out of the cluster although it was up. */
  #expelled = false;
  /** Networks whose lease goes because this node wants it. */
  readonly #leaving = new Set<string>();
  /** A removal of this node from before this run, which its return has settled. */
  #settledRemoval: string | undefined;

  constructor(private readonly options: MembershipsOptions) {
    this.#claims = new Claims({
      store: options.store,
      reconciler: options.reconciler,
      node: options.node,
      refusal: (network, ip) => this.#listener?.refusal(network, ip),
      save: (claimed) => this.#save(claimed),
      attempt: (key, work) => this.#attempt(key, work),
    });
    this.#mourning = new Mourning(() => options.store.view, options.node);
  }

  listen(listener: MembershipListener): void {
    this.#listener = listener;
  }

  get(network: string): Membership | undefined {
    return this.#members.get(network)?.membership;
  }

  /** A network as it is known here, whether or not the node is on it. */
  known(network: string): Network | undefined {
    return this.get(network)?.network ?? this.options.store.view.networks.get(network);
  }

  list(): Membership[] {
    return [...this.#members.values()].map((member) => member.membership);
  }

  isGranted(network: string, ip: string): boolean {
    return this.#members.get(network)?.granted.has(ip) ?? false;
  }

  /** By which endpoint the host itself is on a network; undefined: by none. */
  async expose(network: string, endpoint: Endpoint | undefined): Promise<void> {
    const member = this.#members.get(network);
    const exposed = endpoint === undefined ? undefined : exposedBy(endpoint);
    if (member === undefined || sameExposed(member.membership.exposed, exposed)) return;
    member.membership.exposed = exposed;
    await this.#publishObjects(network);
  }

  /** When this node's lease ends if it is not renewed; undefined for a reservation. */
  expires(network: string): Date | undefined {
    return this.#members.get(network)?.keeper.expires;
  }

  /** Takes up what the state directory remembers, before the store is asked. */
  async restore(saved: readonly SavedNetwork[]): Promise<void> {
    for (const { network, lease, granted, parent } of saved) {
      const membership = {
        network,
        lease,
        underlay: this.options.underlay(),
        ...(parent === undefined ? {} : { parent }),
      };
      this.#members.set(network.name, this.#member(membership, new Set(granted)));
    }
    for (const { network } of saved) await this.#publishObjects(network.name);
  }

  /** The store's first full list is here: remembered networks are confirmed or left, and their peers programmed. */
  async resume(): Promise<void> {
    this.#settledRemoval ??= this.options.store.view.removals.get(`node ${this.options.node}`)?.at;
    for (const name of [...this.#members.keys()]) {
      await this.#locks.run(name, () => this.#resumeOne(name));
    }
    // The networks that this node is not on are known from here on.
    await this.#setFirewall();
    await this.followRoutes();
  }

  async #resumeOne(name: string): Promise<void> {
    const member = this.#members.get(name);
    if (member === undefined) return;
    const { view } = this.options.store;
    if (view.networks.get(name) === undefined) {
      if (view.removals.has(`network ${name}`)) return this.#leave(name);
      await this.#attempt(`restore ${name}`, async () => {
        const { network, lease } = member.membership;
        const own = isLeased(network) ? this.#request(network, lease) : undefined;
        const written = await this.options.store.restoreNetwork(network, own);
        if (written)
          this.options.log.warn('a network that etcd had lost was written back', { network: name });
      });
    }
    const network = view.networks.get(name);
    if (network !== undefined) this.#adoptConfig(member, network);
    await this.#takeLease(member);
    await this.#publishObjects(name);
  }

  /**
   * Joins a network, if the node is not on it yet: takes a subnet and programs everything.
   * @param wish `wanted`: this subnet and no other; `previous`: what the node had, where only its containers remember
   * @throws WeftError NOT_FOUND, FAILED_PRECONDITION, RESOURCE_EXHAUSTED, UNAVAILABLE
   */
  async join(
    name: string,
    { wanted, previous }: { wanted?: LeaseRequest['wanted']; previous?: LeaseRequest['previous'] } = {},
  ): Promise<Membership> {
    const known = this.#members.get(name);
    if (known?.dispossessed !== undefined) {
      throw failedPrecondition(
        `subnet ${known.membership.lease.subnet.toString()} of network ${name} belongs to ${known.dispossessed}, and this node has no other yet`,
        'See `weft status` for why.',
      );
    }
    if (known !== undefined) return hasWanted(known.membership, wanted);
    return this.#locks.run(name, async () => {
      const meanwhile = this.#members.get(name);
      if (meanwhile !== undefined) return hasWanted(meanwhile.membership, wanted);
      if (this.#expelled) throw expelled(this.options.node);
      const network = this.#networkToJoin(name);
      const parent = await this.#parentFor(network);
      const lease = await this.#acquire(network, previous, wanted);
      const membership: Membership = {
        network,
        lease,
        underlay: this.options.underlay(),
        ...(parent === undefined ? {} : { parent }),
      };
      const member = this.#member(membership, this.#claims.grantedIn(membership));
      this.#save(member);
      this.#members.set(name, member);
      member.keeper.hold(lease, true);
      const failures = await this.#publishObjects(name);
      const [failure] = network.driver === 'overlay' ? [] : failures;
      if (failure !== undefined) {
        await this.#leave(name);
        if (addressingOf(network) === 'blocks') await this.options.store.releaseLease(lease);
        throw failedPrecondition(
          `network ${name} cannot be made on this node: the kernel refused ${describeStep(failure.step).what}: ${failure.message}`,
          'Nothing was left behind; see `weft status` for what else is wrong on this node.',
        );
      }
      this.options.log.info('joined a network', { network: name, subnet: lease.subnet.toString() });
      return membership;
    });
  }

  /**
   * Takes the node out of a network: everything of it here goes, and its subnet is given back.
   * @throws WeftError UNAVAILABLE; then it is still on it
   */
  async leave(name: string): Promise<void> {
    await this.#locks.run(name, async () => {
      const lease = this.#members.get(name)?.membership.lease;
      if (lease === undefined) return;
      this.#leaving.add(name);
      try {
        // First: a lease that stayed would keep the subnet from others until it ends.
        await this.options.store.releaseLease(lease);
        await this.#leave(name);
      } finally {
        this.#leaving.delete(name);
      }
    });
  }

  #networkToJoin(name: string): Network {
    const { store, underlay } = this.options;
    const network = store.view.networks.get(name);
    if (network === undefined) {
      const bad = [...store.view.bad.values()].find((record) =>
        record.key.endsWith(`/networks/${name}/config`),
      );
      if (bad !== undefined)
        throw failedPrecondition(`the config of network ${name} cannot be used: ${bad.why}`);
      if (!store.isSynced) {
        throw unavailable(
          `network ${name} is not known on this node, and etcd does not answer`,
          'Try again when etcd is back.',
        );
      }
      throw notFound(
        `there is no network ${name}`,
        'See `weft network ls`, or make it with `weft network create`.',
      );
    }
    const { ip, ip6 } = underlay();
    if (network.driver === 'overlay' && network.subnet6 !== undefined && ip6 === undefined) {
      throw failedPrecondition(
        `network ${name} is dual stack, and this node has no IPv6 address on the underlay`,
        'Give the underlay interface an IPv6 address, or name both with --underlay-ip IP,IP6.',
      );
    }
    const others = this.list().map((membership) => membership.network);
    const mine = [ip, ...(ip6 === undefined ? [] : [ip6])].map((address) => ({
      node: this.options.node,
      ip: address,
    }));
    checkOverlap(network, others, mine);
    checkParent(network, others);
    const sameVni = others.find((other) => other.vni !== undefined && other.vni === network.vni);
    if (sameVni !== undefined) {
      throw alreadyExists(
        `network ${name} has VNI ${network.vni}, and so has network ${sameVni.name}, which this node is on`,
        'Give one of them another VNI.',
      );
    }
    return network;
  }

  /** What this node's link is that the network leaves through, and which id stands there for the host's own frames. */
  async #parentFor(network: Network): Promise<Parent | undefined> {
    const { kernel, underlay, node } = this.options;
    const parent = await findParent(kernel, network, underlay(), node);
    if (parent?.native === undefined || network.driver !== 'vlan') return parent;
    const there = this.list().find((other) => other.parent?.name === parent.name)?.parent;
    if (there?.native === undefined) return parent;
    if (allowsVlan(network, there.native)) {
      throw failedPrecondition(
        `network ${network.name}: on this node VLAN ${there.native} of ${parent.name} stands for its frames without a tag`,
        'Choose another VLAN, or detach what is on the other networks of that parent first.',
      );
    }
    return there;
  }

  /** What the node gives addresses out of: leased where nodes share them. */
  async #acquire(
    network: Network,
    previous?: Previous,
    wanted?: LeaseRequest['wanted'],
  ): Promise<StoredLease> {
    if (isLeased(network)) {
      const request = this.#request(network, previous);
      return this.options.store.acquireLease(wanted === undefined ? request : { ...request, wanted });
    }
    const { node, instance, underlay } = this.options;
    const pool = network.driver === 'overlay' ? undefined : network.pool;
    return {
      network: network.name,
      subnet: pool ?? network.subnet,
      ...(network.subnet6 === undefined ? {} : { subnet6: network.subnet6 }),
      publicIp: underlay().ip,
      backendType: backendTypeOf(network),
      node,
      instance,
      // Nothing in etcd, so nothing that could end.
      reservation: true,
      etcdLease: '0',
    };
  }

  /** What the store tells; called once for every batch, in order. */
  async handle(changes: readonly Change[]): Promise<void> {
    const touched = new Map<string, Map<string, readonly KernelObject[] | undefined>>();
    const touch = (network: string, record: string, objects: readonly KernelObject[] | undefined): void => {
      const records = touched.get(network) ?? new Map<string, readonly KernelObject[] | undefined>();
      touched.set(network, records.set(record, objects));
    };
    const claims = new Set<string>();
    const drop = (network: string, record: string) => (): void => {
      if (this.#members.has(network)) void this.options.reconciler.set(new Map([[record, undefined]]));
    };
    for (const change of changes) {
      const name = 'network' in change ? change.network : change.kind === 'network' ? change.name : undefined;
      const member = name === undefined ? undefined : this.#members.get(name);
      if (change.kind === 'network') await this.#networkChanged(change.name, change.after);
      else if (change.kind === 'removal') await this.#removalChanged(change.key);
      else if (member === undefined || name === undefined) continue;
      else if (change.kind === 'lease') {
        if (this.#isOwn(member, change.subnet)) await this.#ownLeaseChanged(name, change.after);
        const record = `peer ${name} ${change.subnet}`;
        this.#mourning.comfort(record);
        const mournMs = this.#mourning.timeFor(change, changes);
        if (mournMs > 0) this.#mourning.begin(record, change.before?.node, mournMs, drop(name, record));
        else touch(name, record, this.#peerObjects(member, change.after));
        // Claims lead to the user's VTEP, which the lease names.
        for (const claim of this.#claims.of(name))
          touch(name, claimRecord(claim), this.#claims.objects(member.membership, claim));
      } else if (change.kind === 'claim') {
        claims.add(name);
        const record = `claim ${name} ${change.ip}`;
        this.#mourning.comfort(record);
        if (change.after !== undefined) {
          touch(name, record, this.#claims.objects(member.membership, change.after));
          continue;
        }
        const ended = (): void => {
          this.#claims.ended(member, change.ip);
          drop(name, record)();
        };
        // Lost with etcd's past: who uses the address claims it again, and nobody may have it until then.
        if (change.lost === true) this.#mourning.begin(record, change.before?.node, Mourning.lostMs, ended);
        else {
          this.#claims.ended(member, change.ip);
          touch(name, record, undefined);
        }
      }
    }
    for (const [name, records] of touched) {
      if (this.#members.has(name)) await this.options.reconciler.set(records);
    }
    for (const name of claims) await this.answerClaims(name);
    if (changes.some(({ kind }) => kind === 'network')) {
      await this.#setFirewall();
      await this.followRoutes();
    }
  }

  /** Answers what other nodes ask of this node's subnet. */
  async answerClaims(name: string): Promise<void> {
    const member = this.#members.get(name);
    if (member !== undefined && this.#listener !== undefined) await this.#claims.answer(member);
  }

  /** The node's addresses or MTU changed: its leases are told, its tunnels made anew. */
  async underlayChanged(): Promise<void> {
    for (const [name, member] of this.#members) {
      await this.#locks.run(name, async () => {
        member.membership.underlay = this.options.underlay();
        await this.#takeLease(member);
        await this.#publishObjects(name);
      });
    }
  }

  /** etcd answers again: what could not be told meanwhile is told now. */
  async reconnected(): Promise<void> {
    await this.resume();
    for (const name of this.#members.keys()) await this.answerClaims(name);
  }

  async stop(): Promise<void> {
    this.#mourning.stop();
    for (const member of this.#members.values()) member.keeper.stop();
    await Promise.all(
      [...this.#members.keys()].map((name) => this.#locks.run(name, () => Promise.resolve())),
    );
  }

  async #networkChanged(name: string, after: Network | undefined): Promise<void> {
    const member = this.#members.get(name);
    if (member === undefined) return;
    await this.#locks.run(name, async () => {
      if (after === undefined) {
        await this.#resumeOne(name);
        return;
      }
      const { vni } = member.membership.network;
      if (!this.#adoptConfig(member, after)) return;
      if (vni !== after.vni) await this.#takeLease(member);
      this.#save(member);
      await this.#publishObjects(name);
    });
  }

  /** Takes a changed config over where the node's subnet stays what it is. */
  #adoptConfig(member: Member, network: Network): boolean {
    const { network: old, lease } = member.membership;
    const key = `config ${network.name}`;
    const fits = ownSubnets(lease).every((subnet) =>
      prefixesOf(network).some((whole) => whole.contains(subnet)),
    );
    const same =
      fits &&
      network.hostPrefix === old.hostPrefix &&
      sameKind(network, old) &&
      (network.subnet6 === undefined) === (old.subnet6 === undefined);
    if (!same) {
      this.options.problems.set(key, {
        what: `network ${network.name}`,
        why: `its config was changed so that this node's subnet ${lease.subnet.toString()} does not fit any more`,
        fix: 'Put the config back, or detach the containers and make a new network; until then the old one runs on.',
      });
      return false;
    }
    this.options.problems.clear(key);
    member.membership.network = network;
    return true;
  }

  async #removalChanged(key: string): Promise<void> {
    const removal = this.options.store.view.removals.get(key);
    if (removal?.kind === 'node') this.#mourning.nodeRemoved(removal.name);
    if (removal?.kind !== 'node' || removal.name !== this.options.node || !removal.forced) return;
    if (removal.at === this.#settledRemoval) return;
    this.#expelled = true;
    this.options.problems.set('expelled', {
      what: `node ${this.options.node}`,
      why: 'it was taken out of the cluster with `weft node rm --force` while it was up',
      fix: 'Restart the agent to join again.',
    });
    for (const name of [...this.#members.keys()]) await this.#locks.run(name, () => this.#leave(name));
  }

  async #ownLeaseChanged(name: string, after: StoredLease | undefined): Promise<void> {
    const member = this.#members.get(name);
    if (member === undefined || this.#expelled || this.#leaving.has(name)) return;
    if (after !== undefined && after.instance === this.options.instance) return;
    const { view } = this.options.store;
    if (view.networks.get(name) === undefined && view.removals.has(`network ${name}`)) return;
    if (after === undefined) {
      this.options.log.warn('the subnet of this node vanished from etcd: taking it again', { network: name });
    }
    if (after !== undefined) {
      // Whoever has it now has the right to it (the store refuses the rest): what this node took in the gap is given up.
      member.dispossessed = after.node ?? after.publicIp.toString();
      this.options.log.warn('the subnet of this node is another’s now', {
        network: name,
        subnet: after.subnet.toString(),
        owner: member.dispossessed,
      });
    }
    await this.#locks.run(name, async () => {
      const before = member.membership.lease.subnet;
      if (this.#members.get(name) !== member) return;
      await this.#takeLease(member);
      if (!member.membership.lease.subnet.equals(before)) await this.#publishObjects(name);
    });
  }

  async #takeLease(member: Member): Promise<void> {
    const { network, lease } = member.membership;
    await this.#attempt(`lease ${network.name}`, async () => {
      const taken = await this.#acquire(network, lease);
      if (!taken.subnet.equals(lease.subnet)) {
        this.options.problems.set(`moved ${network.name}`, {
          what: `network ${network.name}`,
          why: `this node had ${lease.subnet.toString()}, which is another's now, and has ${taken.subnet.toString()}`,
          fix: 'Attach its containers again: their addresses are of the old subnet.',
        });
      }
      delete member.dispossessed;
      member.membership.lease = taken;
      member.keeper.hold(taken, true);
      this.#save(member);
    });
  }

  async #leave(name: string): Promise<void> {
    const member = this.#members.get(name);
    if (member === undefined) return;
    member.keeper.stop();
    await this.#listener?.left(name);
    this.#members.delete(name);
    this.options.state.deleteNetwork(name);
    deleteSubnetEnv(this.options.runDir, name);
    for (const kind of ['lease', 'restore', 'moved', 'config'])
      this.options.problems.clear(`${kind} ${name}`);
    const records = [...this.options.reconciler.records()].filter((record) => record.split(' ')[1] === name);
    await this.options.reconciler.set(new Map(records.map((record) => [record, undefined])));
    await this.#setFirewall();
    this.options.log.info('left a network', { network: name });
  }

  #setFirewall(): Promise<void> {
    const known = this.options.store.view.networks.values();
    return this.options.reconciler.setFirewall(compileFirewall(this.list(), known));
  }

  /**
   * Joins what the networks of this node's containers are routed with: their packets take the other network's own tunnels,
   * and the answers this one's, so a node has to be on both.
   */
  async followRoutes(): Promise<void> {
    const known = [...this.options.store.view.networks.values()];
    const used = known.filter(({ name }) => this.#listener?.isUsed(name) === true);
    const wanted = known.filter((other) => used.some((network) => areRouted(network, other)));
    for (const { name } of wanted) {
      if (this.#members.has(name) || this.#expelled) continue;
      await this.#attempt(`route ${name}`, async () => {
        await this.join(name);
      });
    }
    const names = new Set(wanted.map(({ name }) => name));
    for (const { name } of known) if (!names.has(name)) this.options.problems.clear(`route ${name}`);
  }

  /** Everything of a network, compiled anew. The firewall first: no packet goes where it will forbid it. */
  async #publishObjects(name: string): Promise<StepFailure[]> {
    const member = this.#members.get(name);
    if (member === undefined) return [];
    await this.#setFirewall();
    const records = new Map<string, readonly KernelObject[] | undefined>();
    records.set(`network ${name}`, compileNetwork(member.membership));
    const { view } = this.options.store;
    for (const lease of view.leases.get(name)?.values() ?? []) {
      records.set(`peer ${name} ${lease.subnet.toString()}`, this.#peerObjects(member, lease));
    }
    for (const claim of this.#claims.of(name))
      records.set(claimRecord(claim), this.#claims.objects(member.membership, claim));
    const failures = await this.options.reconciler.set(records);
    await this.#listener?.changed(name);
    await this.#attempt(`env ${name}`, () =>
      Promise.resolve(writeSubnetEnv(this.options.runDir, member.membership)),
    );
    return failures;
  }

  #peerObjects(member: Member, peer: StoredLease | undefined): readonly KernelObject[] | undefined {
    if (
      peer === undefined ||
      this.#isOwn(member, peer.subnet.toString()) ||
      peer.instance === this.options.instance
    )
      return undefined;
    return compilePeer(member.membership, peer);
  }

  #isOwn(member: Member, subnet: string): boolean {
    return member.membership.lease.subnet.toString() === subnet;
  }

  #member(membership: Membership, granted: Set<string>): Member {
    const { store, log, problems, subnetTtlSeconds } = this.options;
    const keeper = new LeaseKeeper({ store, log, problems, ttlSeconds: subnetTtlSeconds });
    return { membership, granted, keeper };
  }

  #save({ membership, granted }: Claimed): void {
    this.options.state.saveNetwork({
      network: membership.network,
      lease: membership.lease,
      granted: [...granted],
      ...(membership.parent === undefined ? {} : { parent: membership.parent }),
    });
  }

  #request(network: Network, previous?: Previous): Parameters<Store['acquireLease']>[0] {
    const { node, instance, subnetTtlSeconds, underlay } = this.options;
    const { ip, ip6 } = underlay();
    const dual = network.subnet6 !== undefined && ip6 !== undefined;
    return {
      network,
      node,
      instance,
      publicIp: ip,
      ...(dual ? { publicIp6: ip6 } : {}),
      ...(network.vni === undefined
        ? {}
        : {
            vtep: { vni: network.vni, mac: vtepMac(instance, network.name, 4) },
            ...(dual ? { vtep6: { vni: network.vni, mac: vtepMac(instance, network.name, 6) } } : {}),
          }),
      ...(previous === undefined
        ? {}
        : {
            previous: {
              subnet: previous.subnet,
              ...(previous.subnet6 === undefined ? {} : { subnet6: previous.subnet6 }),
            },
            ...(previous.since === undefined ? {} : { since: previous.since }),
            inUse: this.#listener?.isUsed(network.name) ?? false,
          }),
      ttlSeconds: subnetTtlSeconds,
    };
  }

  /** What fails here is told and tried again when etcd is back; what works goes on. */
  async #attempt(key: string, work: () => Promise<void>): Promise<void> {
    try {
      await work();
      this.options.problems.clear(key);
    } catch (error) {
      const next = error instanceof WeftError ? error.next : undefined;
      this.options.log.warn('could not be done now', { key, error: messageOf(error) });
      this.options.problems.set(key, {
        what: key,
        why: messageOf(error),
        fix: next ?? 'It is tried again when etcd answers.',
      });
    }
  }
}

/** Whether nodes take their part of the network under a lease in etcd. */
const isLeased = (network: Network): boolean => ['subnets', 'blocks'].includes(addressingOf(network));

/** What is made of links cannot become something else while containers are on it. */
function sameKind(a: Network, b: Network): boolean {
  if (a.driver === 'overlay' || b.driver === 'overlay') return a.driver === b.driver;
  const vlan = (network: Network): number | undefined =>
    network.driver === 'vlan' ? network.vlan : undefined;
  return a.driver === b.driver && a.parent === b.parent && vlan(a) === vlan(b);
}

const exposedBy = ({ ip, ip6 }: Endpoint): Membership['exposed'] => ({
  ip: parseInterface(ip).address.toString(),
  ip6: ip6 === undefined ? undefined : parseInterface(ip6).address.toString(),
});

const sameExposed = (a: Membership['exposed'], b: Membership['exposed']): boolean =>
  a?.ip === b?.ip && a?.ip6 === b?.ip6;

/** @throws WeftError FAILED_PRECONDITION */
function hasWanted(membership: Membership, wanted: LeaseRequest['wanted']): Membership {
  const { network, lease } = membership;
  const other = [wanted?.subnet, wanted?.subnet6].find(
    (subnet) => subnet !== undefined && !ownSubnets(lease).some((own) => own.equals(subnet)),
  );
  if (other === undefined) return membership;
  throw failedPrecondition(
    `network ${network.name}: ${other.toString()} was asked for, and this node has ${ownSubnets(lease).join(' and ')}`,
    'Ask for the subnet that it has, or for none.',
  );
}

function expelled(node: string): WeftError {
  return failedPrecondition(
    `node ${node} was taken out of the cluster with \`weft node rm --force\``,
    'Restart its agent to join again.',
  );
}
