// The networks that this node is on: joining, holding and leaving them, by what the store says. Whether one can be joined,
// which subnet the node has there, and what other nodes are to it is each said in a file of its own.
import type { IpAddress, IpNetwork } from '../../core/address.js';
import { areRouted, type Network } from '../../core/network.js';
import { compileFirewall, compileNetwork, type Membership, type Underlay } from '../../core/compile.js';
import type { KernelObject } from '../../core/objects/index.js';
import { describeStep } from '../../core/plan.js';
import { addressingOf, driverOf } from '../../core/drivers/index.js';
import { failedPrecondition, type WeftError } from '../../core/errors.js';
import type { ClaimHolder, Endpoint } from '../../core/records.js';
import type { Logger } from '../../daemon/log.js';
import { networkGone, ownLease } from '../../core/lost-records.js';
import type { Change, LeaseRequest, Store } from '../../store/store.js';
import { AddressClaims } from './address-claims.js';
import { checkJoinable, knownNetwork, sharedParent } from './join-checks.js';
import type { Kernel, StepFailure } from '../kernel/index.js';
import { KeyedMutex } from '../../core/keyed-mutex.js';
import { Member } from './member.js';
import { findParent } from './parent-link.js';
import { PeerRoutes, type Records } from './peer-routes.js';
import { attempt, networkScope, NODE, NODE_REMOVED, type Problems } from '../health/index.js';
import { type Reconciler, RecordMap } from '../reconcile/index.js';
import type { SavedNetwork, State } from '../state/index.js';
import { LeaseRetry } from './lease-retry.js';
import { hasWanted, SubnetLeases, type PreviousSubnet } from './subnet-leases.js';
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
  /** Where the subnet.env files are; undefined: there are none. */
  runDir: string | undefined;
  subnetTtlSeconds: number;
  underlay: () => Underlay;
  /** Until a subnet that could not be taken is asked for again, the first time. */
  leaseRetryMs?: number;
}

export interface JoinOptions {
  /** This subnet and no other. */
  wanted?: LeaseRequest['wanted'];
  /** What the node had, where only its containers remember. */
  previous?: PreviousSubnet;
  /** Ends the wait for a subnet. */
  signal?: AbortSignal | undefined;
}

/** What the endpoints of the node have to do with its networks. */
export interface MembershipListener {
  /** The network's objects have been compiled anew: those of its endpoints must be, too. */
  changed(network: string): Promise<void>;
  /** The network is gone: so are its endpoints. */
  left(network: string): Promise<void>;
  /** Whether the network has endpoints on this node, with addresses of `within` where it is given. */
  isUsed(network: string, within?: IpNetwork): boolean;
  /** Why an address of this node's subnet cannot be given to another node's endpoint, or undefined. */
  refusal(network: string, ip: string, endpoint: string): string | undefined;
}

export class Memberships {
  readonly #members = new Map<string, Member>();
  readonly #locks = new KeyedMutex();
  readonly #claims: AddressClaims;
  readonly #peers: PeerRoutes;
  readonly #leases: SubnetLeases;
  readonly #leaseRetry: LeaseRetry;
  #listener: MembershipListener | undefined;
  /** This node was taken out of the cluster although it was up. */
  #expelled = false;
  /** Networks of the state directory that this run of the agent has not seen in etcd yet. */
  readonly #unseen = new Set<string>();
  /** Networks whose lease goes because this node wants it. */
  readonly #leaving = new Set<string>();
  /** A removal of this node from before this run, which its return has settled. */
  #settledRemoval: string | undefined;

  constructor(private readonly options: MembershipsOptions) {
    this.#claims = new AddressClaims({
      ...options,
      refusal: (network, ip, endpoint) => this.#listener?.refusal(network, ip, endpoint),
    });
    this.#leases = new SubnetLeases({
      ...options,
      isUsed: (network) => this.#isUsed(network),
    });
    this.#leaseRetry = new LeaseRetry((network) => void this.#retake(network), options.leaseRetryMs);
    this.#peers = new PeerRoutes({
      ...options,
      claims: this.#claims,
      member: (network) => this.#members.get(network),
    });
  }

  listen(listener: MembershipListener): void {
    this.#listener = listener;
  }

  /** @throws WeftError FAILED_PRECONDITION while this node's subnet of the network is somebody else's */
  checkPossession(network: string): void {
    this.#members.get(network)?.checkPossession();
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

  /** Whose an address is by a record that etcd has lost; see PeerRoutes. */
  retainedFor(network: string, ip: IpAddress, asker: ClaimHolder): string | undefined {
    return this.#peers.retainedFor(network, ip, asker);
  }

  /** Nobody on this node uses the address any more. */
  freed(network: string, ip: string): void {
    const member = this.#members.get(network);
    if (member !== undefined) void this.#claims.freed(member, network, ip);
  }

  /** By which endpoint the host itself is on a network; undefined: by none. */
  async expose(network: string, endpoint: Endpoint | undefined): Promise<void> {
    if (this.#members.get(network)?.expose(endpoint) === true) await this.#publishObjects(network);
  }

  /** An endpoint of the network is gone from this node. */
  endpointGone(network: string): void {
    this.#members.get(network)?.settleMove();
  }

  /** When this node's lease ends if it is not renewed; undefined for a reservation. */
  expires(network: string): Date | undefined {
    return this.#members.get(network)?.expires;
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
      this.#members.set(
        network.name,
        this.#member(membership, new Map(granted.map(({ ip, ...holder }) => [ip, holder]))),
      );
      this.#unseen.add(network.name);
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
      const { network, lease } = member.membership;
      // A copy of etcd can have the tombstone of an earlier network of that name. An agent that saw the later one knows its
      // revision; one that started since then has only the time.
      const had = this.#unseen.has(name) ? lease.since : undefined;
      const removal = view.removals.get(`network ${name}`);
      if (networkGone(removal, had) === 'removed') return this.#leave(name);
      const what = `network ${name}, which etcd has lost`;
      await attempt(this.options, { scope: networkScope(name), kind: 'restoration', what }, async () => {
        const own = this.#leases.request(network, lease);
        const written = await this.options.store.restoreNetwork(network, own, had);
        if (written)
          this.options.log.warn('a network that etcd had lost was written back', { network: name });
      });
    }
    const network = view.networks.get(name);
    if (network !== undefined) {
      this.#unseen.delete(name);
      member.adopt(network);
    }
    this.#peers.confirm(member);
    await this.#takeLease(member);
    await this.#publishObjects(name);
  }

  /**
   * Joins a network, if the node is not on it yet: takes a subnet and programs everything.
   * @throws WeftError NOT_FOUND, FAILED_PRECONDITION, RESOURCE_EXHAUSTED, UNAVAILABLE; the signal's reason
   */
  async join(name: string, { wanted, previous, signal }: JoinOptions = {}): Promise<Membership> {
    const known = this.#members.get(name);
    known?.checkPossession();
    if (known !== undefined) return hasWanted(known.membership, wanted);
    return this.#locks.run(name, async () => {
      signal?.throwIfAborted();
      const meanwhile = this.#members.get(name);
      if (meanwhile !== undefined) return hasWanted(meanwhile.membership, wanted);
      if (this.#expelled) throw expelled(this.options.node);
      const { kernel, store, underlay, node } = this.options;
      store.checkName();
      const network = knownNetwork(store, name);
      const others = this.list().map((other) => other.network);
      checkJoinable(network, others, underlay(), node);
      const link = await findParent(kernel, network, underlay(), node);
      const parent = sharedParent(network, link, this.list());
      const lease = await this.#leases.acquire(network, { previous, wanted, signal });
      const membership: Membership = {
        network,
        lease,
        underlay: underlay(),
        ...(parent === undefined ? {} : { parent }),
      };
      const member = this.#member(membership, this.#claims.grantedIn(membership));
      member.save();
      this.#members.set(name, member);
      member.keep(lease);
      const failures = await this.#publishObjects(name);
      const [failure] = driverOf(network).undoesFailedJoin ? failures : [];
      if (failure !== undefined) {
        await this.#leave(name);
        if (addressingOf(network) === 'blocks') await store.releaseLease(lease);
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

  /** What the store tells, at once: handle() is called when the batches before it are done with. */
  note(changes: readonly Change[]): void {
    this.#peers.note(changes);
  }

  /** What the store tells; called once for every batch, in order. */
  async handle(changes: readonly Change[]): Promise<void> {
    const touched = new Map<string, Records>();
    const claimed = new Set<string>();
    const freed = new Set<string>();
    for (const change of changes) {
      if (change.kind === 'network') await this.#networkChanged(change.name, change.after);
      else if (change.kind === 'removal') await this.#removalChanged(change.key);
      if (change.kind !== 'lease' && change.kind !== 'claim') continue;
      const name = change.network;
      const member = this.#members.get(name);
      if (member === undefined) continue;
      if (change.kind === 'claim') claimed.add(name);
      else if (member.isOwn(change.subnet)) await this.#ownLeaseChanged(name, change.subnet);
      else if (change.after === undefined && this.#leaseRetry.isDue(name)) freed.add(name);
      const records: Records = touched.get(name) ?? new RecordMap();
      const fresh =
        change.kind === 'claim' ? this.#peers.ofClaim(member, change) : this.#peers.ofLease(member, change);
      for (const [record, objects] of fresh) records.set(record, objects);
      if (records.size > 0) touched.set(name, records);
    }
    for (const [name, records] of touched) {
      if (this.#members.has(name)) await this.options.reconciler.set(records);
    }
    for (const name of claimed) await this.answerClaims(name);
    for (const name of freed) await this.#retake(name);
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
    this.#peers.stop();
    this.#leaseRetry.stop();
    for (const member of this.#members.values()) member.stop();
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
      this.#unseen.delete(name);
      if (!member.adopt(after)) return;
      if (!this.#leases.isCurrent(member.membership.lease, after)) await this.#takeLease(member);
      member.save();
      await this.#publishObjects(name);
    });
  }

  async #removalChanged(key: string): Promise<void> {
    const removal = this.options.store.view.removals.get(key);
    if (removal?.kind === 'node') this.#peers.nodeRemoved(removal.name);
    if (removal?.kind !== 'node' || removal.name !== this.options.node || !removal.forced) return;
    if (removal.at === this.#settledRemoval) return;
    this.#expelled = true;
    this.options.problems.set(NODE_REMOVED, {
      what: `node ${this.options.node}`,
      why: 'it was taken out of the cluster with `weft node rm --force` while it was up',
      fix: 'Restart the agent to join again.',
    });
    for (const name of [...this.#members.keys()]) await this.#locks.run(name, () => this.#leave(name));
  }

  async #ownLeaseChanged(name: string, subnet: string): Promise<void> {
    const member = this.#members.get(name);
    if (member === undefined || this.#expelled || this.#leaving.has(name)) return;
    const { node, instance } = this.options;
    const { view } = this.options.store;
    // As it is now: the change may be from before this node took the subnet.
    const after = view.leases.get(name)?.get(subnet);
    const networkRemoved = view.networks.get(name) === undefined && view.removals.has(`network ${name}`);
    const state = ownLease(after, { node, instance }, networkRemoved);
    if (state === 'present' || state === 'removed') return;
    if (after === undefined) {
      this.options.log.warn('the subnet lease of this node was lost from etcd: taking it again', {
        network: name,
      });
    } else {
      // The store grants a subnet only to the node with the right to it: what this node took in the gap is given up.
      const owner = after.node ?? after.publicIp.toString();
      member.dispossess(owner);
      this.options.log.warn('another node holds the subnet of this node now', {
        network: name,
        subnet: after.subnet.toString(),
        owner,
      });
    }
    await this.#retake(name);
  }

  async #retake(name: string): Promise<void> {
    const member = this.#members.get(name);
    await this.#locks.run(name, async () => {
      if (member === undefined || this.#members.get(name) !== member) return;
      const before = member.membership.lease.subnet;
      await this.#takeLease(member);
      if (!member.membership.lease.subnet.equals(before)) await this.#publishObjects(name);
    });
  }

  async #takeLease(member: Member): Promise<void> {
    const { name } = member.membership.network;
    const what = `the subnet lease of network ${name}`;
    if (
      await attempt(this.options, { scope: networkScope(name), kind: 'lease', what }, () =>
        member.takeLease(),
      )
    ) {
      this.#leaseRetry.end(name);
      return;
    }
    // What this node remembers may be another's since: it must not give that out while it has nothing else.
    const owner = this.#leases.otherHolder(member.membership.lease);
    if (owner !== undefined) member.dispossess(owner);
    this.#leaseRetry.failed(name);
  }

  async #leave(name: string): Promise<void> {
    const member = this.#members.get(name);
    if (member === undefined) return;
    member.stop();
    this.#leaseRetry.end(name);
    this.#unseen.delete(name);
    // First: what is being attached to it finds it gone.
    this.#members.delete(name);
    await this.#listener?.left(name);
    this.options.state.deleteNetwork(name);
    if (this.options.runDir !== undefined) deleteSubnetEnv(this.options.runDir, name);
    this.options.problems.clearScope(networkScope(name));
    // An endpoint that could not be removed keeps its own record.
    const records = this.options.reconciler.recordsOf(name).filter(({ kind }) => kind !== 'endpoint');
    await this.options.reconciler.set(records.map((record) => [record, undefined] as const));
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
    const used = known.filter(({ name }) => this.#isUsed(name));
    const wanted = known.filter((other) => used.some((network) => areRouted(network, other)));
    for (const { name } of wanted) {
      if (this.#members.has(name) || this.#expelled) continue;
      const what = `network ${name}, which a network of this node's containers is routed with`;
      await attempt(this.options, { scope: NODE, kind: 'routed-network', id: name, what }, async () => {
        await this.join(name);
      });
    }
    const names = new Set(wanted.map(({ name }) => name));
    this.options.problems.keepOnly(NODE, 'routed-network', names);
  }

  /**
   * Everything of a network, compiled anew. The firewall first: no packet goes where it will forbid it. Both enter the
   * reconciler's queue in the turn in which the network becomes a member: a peer or an endpoint that overtook the
   * network's record would find no link of it. The kernel would refuse it, and a peer would be unreachable until the
   * next full comparison.
   */
  async #publishObjects(name: string): Promise<StepFailure[]> {
    const member = this.#members.get(name);
    if (member === undefined) return [];
    const firewall = this.#setFirewall();
    const records: Records = new RecordMap<readonly KernelObject[] | undefined>([
      [{ kind: 'network', network: name }, compileNetwork(member.membership)],
      ...this.#peers.of(member),
    ]);
    const [failures] = await Promise.all([this.options.reconciler.set(records), firewall]);
    await this.#listener?.changed(name);
    const { runDir } = this.options;
    if (runDir === undefined) return failures;
    await attempt(
      this.options,
      {
        scope: networkScope(name),
        kind: 'subnet-env',
        what: `the subnet.env file of network ${name}`,
        otherwise: `Make ${runDir} writable and give it space; it is written again when the network changes or etcd answers again.`,
      },
      () => Promise.resolve(writeSubnetEnv(runDir, member.membership)),
    );
    return failures;
  }

  #member(membership: Membership, granted: Member['granted']): Member {
    const exclusively = (work: () => Promise<void>): Promise<void> =>
      this.#locks.run(membership.network.name, work);
    const isUsed = this.#isUsed.bind(this);
    return new Member({ ...this.options, leases: this.#leases, isUsed, exclusively }, membership, granted);
  }

  #isUsed(network: string, within?: IpNetwork): boolean {
    return this.#listener?.isUsed(network, within) ?? false;
  }
}

function expelled(node: string): WeftError {
  return failedPrecondition(
    `node ${node} was taken out of the cluster with \`weft node rm --force\``,
    'Restart its agent to join again.',
  );
}
