// The networks that this node is on: its subnet in each, the peers there, and the claims on its addresses. It turns what
// the store says into records of the reconciler, and keeps this node's own leases alive.
import { checkOverlap, prefixesOf, type Network } from '../core/network.js';
import {
  compileFirewall,
  compileNetwork,
  compilePeer,
  vtepMac,
  type Membership,
  type Underlay,
} from '../core/compile.js';
import {
  alreadyExists,
  failedPrecondition,
  messageOf,
  notFound,
  unavailable,
  WeftError,
} from '../core/errors.js';
import type { KernelObject } from '../core/objects.js';
import type { Lease } from '../core/records.js';
import type { Logger } from '../daemon/log.js';
import type { Change, Store, StoredLease } from '../store/store.js';
import { claimRecord, Claims, ownSubnets, type Claimed } from './claims.js';
import { LeaseKeeper } from './lease-keeper.js';
import { Locks } from './locks.js';
import type { AgentMetrics } from './metrics.js';
import { Mourning } from './mourning.js';
import type { Problems } from './problems.js';
import type { Reconciler } from './reconciler.js';
import type { SavedNetwork, State } from './state.js';
import { deleteSubnetEnv, writeSubnetEnv } from './subnet-env.js';

export interface MembershipsOptions {
  store: Store;
  reconciler: Reconciler;
  state: State;
  log: Logger;
  metrics: AgentMetrics;
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
  /** Whether containers of this node are on the network. */
  inUse(network: string): boolean;
  /** Why an address of this node's subnet cannot be given to another node, or undefined. */
  refusal(network: string, ip: string): string | undefined;
}

interface Member extends Claimed {
  keeper: LeaseKeeper;
  /** Who has this node's subnet now, until it has another. */
  dispossessed?: string;
}

export class Memberships {
  readonly #members = new Map<string, Member>();
  readonly #locks = new Locks();
  readonly #claims: Claims;
  readonly #mourning: Mourning;
  #listener: MembershipListener | undefined;
  /** This node was taken out of the cluster although it was up. */
  #expelled = false;
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

  list(): Membership[] {
    return [...this.#members.values()].map((member) => member.membership);
  }

  isGranted(network: string, ip: string): boolean {
    return this.#members.get(network)?.granted.has(ip) ?? false;
  }

  /** When this node's lease ends if it is not renewed; undefined for a reservation. */
  expires(network: string): Date | undefined {
    return this.#members.get(network)?.keeper.expires;
  }

  /** Takes up what the state directory remembers, before the store is asked. */
  async restore(saved: readonly SavedNetwork[]): Promise<void> {
    for (const { network, lease, granted } of saved) {
      const membership = { network, lease, underlay: this.options.underlay() };
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
  }

  async #resumeOne(name: string): Promise<void> {
    const member = this.#members.get(name);
    if (member === undefined) return;
    const { view } = this.options.store;
    if (view.networks.get(name) === undefined) {
      if (view.removals.has(`network ${name}`)) return this.#leave(name);
      await this.#attempt(`restore ${name}`, async () => {
        const { network, lease } = member.membership;
        const written = await this.options.store.restoreNetwork(network, this.#request(network, lease));
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
   * @param previous what the node had, where only its containers remember
   * @throws WeftError NOT_FOUND, FAILED_PRECONDITION, RESOURCE_EXHAUSTED, UNAVAILABLE
   */
  async join(name: string, previous?: Pick<Lease, 'subnet' | 'subnet6'>): Promise<Membership> {
    const known = this.#members.get(name);
    if (known?.dispossessed !== undefined) {
      throw failedPrecondition(
        `subnet ${known.membership.lease.subnet.toString()} of network ${name} belongs to ${known.dispossessed}, and this node has no other yet`,
        'See `weft status` for why.',
      );
    }
    if (known !== undefined) return known.membership;
    return this.#locks.run(name, async () => {
      const meanwhile = this.#members.get(name);
      if (meanwhile !== undefined) return meanwhile.membership;
      if (this.#expelled) throw expelled(this.options.node);
      const network = this.#networkToJoin(name);
      const lease = await this.options.store.acquireLease(this.#request(network, previous));
      const membership: Membership = { network, lease, underlay: this.options.underlay() };
      const member = this.#member(membership, this.#claims.grantedIn(membership));
      this.#save(member);
      this.#members.set(name, member);
      member.keeper.hold(lease, true);
      await this.#publishObjects(name);
      this.options.log.info('joined a network', { network: name, subnet: lease.subnet.toString() });
      return membership;
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
    if (network.subnet6 !== undefined && ip6 === undefined) {
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
    const sameVni = others.find((other) => other.vni === network.vni);
    if (sameVni !== undefined) {
      throw alreadyExists(
        `network ${name} has VNI ${network.vni}, and so has network ${sameVni.name}, which this node is on`,
        'Give one of them another VNI.',
      );
    }
    return network;
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
      const vni = member.membership.network.vni;
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
    if (member === undefined || this.#expelled) return;
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
      await this.#takeLease(member);
      if (!member.membership.lease.subnet.equals(before)) await this.#publishObjects(name);
    });
  }

  async #takeLease(member: Member): Promise<void> {
    const { network, lease } = member.membership;
    await this.#attempt(`lease ${network.name}`, async () => {
      const taken = await this.options.store.acquireLease(this.#request(network, lease));
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
    await this.options.reconciler.setFirewall(compileFirewall(this.list()));
    this.options.log.info('left a network', { network: name });
  }

  /** Everything of a network, compiled anew. The firewall first: no packet goes where it will forbid it. */
  async #publishObjects(name: string): Promise<void> {
    const member = this.#members.get(name);
    if (member === undefined) return;
    await this.options.reconciler.setFirewall(compileFirewall(this.list()));
    const records = new Map<string, readonly KernelObject[] | undefined>();
    records.set(`network ${name}`, compileNetwork(member.membership));
    const { view } = this.options.store;
    for (const lease of view.leases.get(name)?.values() ?? []) {
      records.set(`peer ${name} ${lease.subnet.toString()}`, this.#peerObjects(member, lease));
    }
    for (const claim of this.#claims.of(name))
      records.set(claimRecord(claim), this.#claims.objects(member.membership, claim));
    await this.options.reconciler.set(records);
    await this.#listener?.changed(name);
    await this.#attempt(`env ${name}`, () =>
      Promise.resolve(writeSubnetEnv(this.options.runDir, member.membership)),
    );
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
    });
  }

  #request(
    network: Network,
    previous?: Pick<Lease, 'subnet' | 'subnet6' | 'since'>,
  ): Parameters<Store['acquireLease']>[0] {
    const { node, instance, subnetTtlSeconds, underlay } = this.options;
    const { ip, ip6 } = underlay();
    const dual = network.subnet6 !== undefined && ip6 !== undefined;
    return {
      network,
      node,
      instance,
      publicIp: ip,
      ...(dual ? { publicIp6: ip6 } : {}),
      vtep: { vni: network.vni, mac: vtepMac(instance, network.name, 4) },
      ...(dual ? { vtep6: { vni: network.vni, mac: vtepMac(instance, network.name, 6) } } : {}),
      ...(previous === undefined
        ? {}
        : {
            previous: {
              subnet: previous.subnet,
              ...(previous.subnet6 === undefined ? {} : { subnet6: previous.subnet6 }),
            },
            ...(previous.since === undefined ? {} : { since: previous.since }),
            inUse: this.#listener?.inUse(network.name) ?? false,
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

function expelled(node: string): WeftError {
  return failedPrecondition(
    `node ${node} was taken out of the cluster with \`weft node rm --force\``,
    'Restart its agent to join again.',
  );
}
