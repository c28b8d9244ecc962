// Memberships: the networks of this node, joined, held and left.
//
// They follow the store's changes in order. Join checks, own leases, peer routes, address claims, kernel objects and what
// follows the underlay and parent links have files of their own.
import type { IpAddress, IpNetwork } from '../../core/address.js';
import type { Network } from '../../core/network.js';
import type { Membership } from '../../core/compile.js';
import { addressingOf, driverOf } from '../../core/drivers/index.js';
import type { ClaimHolder, Endpoint } from '../../core/records.js';
import { networkGone } from '../../core/lost-records.js';
import type { Change } from '../../store/store.js';
import { unservedConfig } from '../../store/unserved.js';
import { AddressClaims } from './address-claims.js';
import {
  checkJoinable,
  expelled,
  knownNetwork,
  noBridge,
  refusedByKernel,
  sharedParent,
} from './join-checks.js';
import { formerSubnets, keepFormerSubnets } from './former-subnets.js';
import { KeyedMutex } from '../../core/keyed-mutex.js';
import { Member } from './member.js';
import type { JoinOptions, MembershipListener, MembershipsOptions } from './membership-options.js';
import { NetworkObjects } from './network-objects.js';
import { OwnLeases } from './own-leases.js';
import { takeAndFollow } from './follow-network.js';
import { findParent } from './parent-link.js';
import { ParentLinks } from './parent-links.js';
import { joinRoutedNetworks } from './routed-networks.js';
import { PeerRoutes, type Records } from './peer-routes.js';
import { Publication } from './publication.js';
import { checkHostRoutes } from './route-overlaps.js';
import { attempt, networkScope, NODE_REMOVED } from '../health/index.js';
import { RecordMap } from '../reconcile/index.js';
import type { SavedNetwork } from '../state/index.js';
import { hasWanted, SubnetLeases } from './subnet-leases.js';

export class Memberships {
  readonly #members = new Map<string, Member>();
  readonly #locks = new KeyedMutex();
  readonly #claims: AddressClaims;
  readonly #peers: PeerRoutes;
  readonly #leases: SubnetLeases;
  readonly #ownLeases: OwnLeases;
  readonly #objects: NetworkObjects;
  readonly #publication: Publication;
  readonly #parents: ParentLinks;
  #listener: MembershipListener | undefined;
  /** This node was removed from the cluster while it was up. */
  #expelled = false;
  /** Networks of the state directory that this run of the agent has not seen in etcd yet. */
  readonly #unseen = new Set<string>();
  /** A removal of this node from before this run, which its return has settled. */
  #settledRemoval: string | undefined;

  constructor(private readonly options: MembershipsOptions) {
    this.#claims = new AddressClaims({
      ...options,
      refusal: (network, ip, endpoint) =>
        this.#bridgeOf(network).subnetOnly === true
          ? 'another program gives out the addresses of that subnet'
          : this.#listener?.refusal(network, ip, endpoint),
    });
    this.#leases = new SubnetLeases({
      ...options,
      isUsed: (network) => this.#isUsed(network),
    });
    this.#peers = new PeerRoutes({
      ...options,
      claims: this.#claims,
      dropped: () => this.#objects.setMembers(),
      member: (network) => this.#members.get(network),
    });
    this.#objects = new NetworkObjects({
      ...options,
      peers: this.#peers,
      members: this.#members,
      changed: async (network) => this.#listener?.changed(network),
    });
    this.#ownLeases = new OwnLeases({
      ...options,
      leases: this.#leases,
      inTurn: (network, work) => this.#inTurn(network, work),
      restored: (member) => this.#restored(member.membership.network.name, member),
      publish: (network) => this.#objects.publish(network),
    });
    const turns = {
      members: this.#members,
      inTurn: (network: string, work: (member: Member) => Promise<void>) => this.#inTurn(network, work),
      publish: (network: string) => this.#objects.publish(network),
    };
    this.#publication = new Publication({ ...options, ...turns, take: (one) => this.#ownLeases.take(one) });
    this.#parents = new ParentLinks({ ...options, ...turns });
  }

  listen(listener: MembershipListener): void {
    this.#listener = listener;
  }

  /** @throws WeftError FAILED_PRECONDITION while another node holds this node's subnet of the network */
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

  /** The address is unused on this node: a claim on it that could not be answered is answered again. */
  freed(network: string, ip: string): void {
    if (this.#claims.isOpen(network, ip)) void this.#answerClaims(network);
  }

  /** Sets the host endpoint of a network; undefined: none. */
  async expose(network: string, endpoint: Endpoint | undefined): Promise<void> {
    if (this.#members.get(network)?.expose(endpoint) === true) await this.#objects.publish(network);
  }

  /** An endpoint of the network was removed from this node. */
  endpointGone(network: string): void {
    this.#members.get(network)?.settleMove();
  }

  /** When this node's lease ends if it is not renewed; undefined for a reservation. */
  expires(network: string): Date | undefined {
    return this.#members.get(network)?.expires;
  }

  /** Restores memberships from the state directory, before the store answers. */
  async restore(saved: readonly SavedNetwork[]): Promise<void> {
    for (const { network, lease, granted, parent } of saved) {
      const followed = this.options.store.follow(network.name);
      const membership = {
        network,
        lease,
        underlay: this.options.underlay(),
        ...(parent === undefined ? {} : { parent }),
        ...this.#bridgeOf(network.name),
      };
      this.#members.set(
        network.name,
        this.#member(membership, new Map(granted.map(({ ip, ...holder }) => [ip, holder])), followed),
      );
      this.#unseen.add(network.name);
    }
    for (const { network } of saved) await this.#objects.publish(network.name);
  }

  /** After the store's first full list: confirms or leaves restored networks, and programs their peers. */
  async resume(): Promise<void> {
    this.#settledRemoval ??= this.options.store.view.removals.get(`node ${this.options.node}`)?.at;
    for (const name of [...this.#members.keys()])
      await this.#inTurn(name, (member) => this.#resumeOne(name, member));
    // The networks that this node is not on are known from here on.
    await this.#objects.setFirewall();
    await this.followRoutes();
  }

  async #resumeOne(name: string, member: Member): Promise<void> {
    if (!(await this.#restored(name, member))) return;
    this.#peers.confirm(member);
    await this.#ownLeases.take(member);
    await this.#objects.publish(name);
  }

  /**
   * Writes the network back where etcd has lost it; a failure is a problem.
   * @returns false: it was removed on purpose, and the node has left it, or will hear of that
   */
  async #restored(name: string, member: Member): Promise<boolean> {
    const { view } = this.options.store;
    if (view.networks.get(name) === undefined) {
      const { network, lease } = member.membership;
      // A copy of etcd can have the tombstone of an earlier network of that name. An agent that saw the later one knows its
      // revision; one that started since then has only the time.
      const had = this.#unseen.has(name) ? lease.since : undefined;
      const removal = view.removals.get(`network ${name}`);
      if (networkGone(removal, had) === 'removed') {
        await this.#leave(name, member);
        return false;
      }
      const what = `network ${name}, which etcd has lost`;
      let isLost = true;
      await attempt(this.options, { scope: networkScope(name), kind: 'restoration', what }, async () => {
        const own = this.#leases.request(network, lease);
        isLost = await this.options.store.restoreNetwork(network, own, had);
        if (isLost) this.options.log.warn('a network that etcd had lost was written back', { network: name });
      });
      // Its tombstone, or the config that somebody else has written back, is on the way; one that is not served has come.
      if (!isLost && !view.networks.has(name) && unservedConfig(view, name) === undefined) return false;
    }
    const network = view.networks.get(name);
    if (network !== undefined) {
      this.#unseen.delete(name);
      member.adopt(network);
    }
    return true;
  }

  /**
   * Joins a network, if the node is not on it yet: takes a subnet and programs everything.
   * @throws WeftError NOT_FOUND, FAILED_PRECONDITION, RESOURCE_EXHAUSTED, UNAVAILABLE; the signal's reason
   */
  async join(name: string, options: JoinOptions = {}): Promise<Membership> {
    const { wanted, previous, again, signal } = options;
    if (options.withoutBridge !== true && this.#bridgeOf(name).subnetOnly === true) throw noBridge(name);
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
      const network = await knownNetwork(store, name);
      const others = this.list().map((other) => other.network);
      checkJoinable(network, others, underlay(), node);
      if (again !== true) await checkHostRoutes(this.options, network);
      const link = await findParent(kernel, network, underlay(), node);
      const parent = sharedParent(network, link, this.list());
      const former = previous ?? formerSubnets(this.options.state, network);
      const alone = !this.#leases.areNeeded(network);
      const [lease, followed] = await takeAndFollow(store, name, { alone, signal }, () =>
        this.#leases.acquire(network, { previous: former, wanted, signal }),
      );
      const membership: Membership = {
        network,
        lease,
        underlay: underlay(),
        ...(parent === undefined ? {} : { parent }),
        ...this.#bridgeOf(name),
      };
      const member = this.#member(membership, this.#claims.grantedIn(membership), followed);
      try {
        member.save();
        // Who waits for a subnet, as a script that starts dockerd with --bip does, needs nothing of the kernel.
        await this.#objects.writeEnv(member);
      } catch (error) {
        followed.end();
        throw error;
      }
      this.#members.set(name, member);
      member.keep(lease);
      const failures = await this.#objects.publish(name);
      const [failure] = driverOf(network).rollsBackFailedJoin ? failures : [];
      if (failure !== undefined) {
        await this.#leave(name, member);
        if (addressingOf(network) === 'blocks') await store.releaseLease(lease);
        throw refusedByKernel(name, failure);
      }
      this.options.log.info('joined a network', { network: name, subnet: lease.subnet.toString() });
      this.options.onMembership?.('joined', name, `this node has ${lease.subnet.toString()}`);
      return membership;
    });
  }

  /**
   * Takes the node out of a network: everything of it here goes, and its subnet is given back.
   * @throws WeftError UNAVAILABLE; then it is still on it
   */
  async leave(name: string): Promise<void> {
    await this.#inTurn(name, (member) => this.#ownLeases.release(member, () => this.#leave(name, member)));
  }

  /** Changes of the store, as soon as they arrive: handle() is called when earlier batches have been handled. */
  note(changes: readonly Change[]): void {
    this.#peers.note(changes);
  }

  /** Changes of the store: every batch once, in order. */
  async handle(changes: readonly Change[]): Promise<void> {
    const touched = new Map<string, Records>();
    const claimed = new Set<string>();
    const freed = new Set<string>();
    const add = (name: string, fresh: Records): void => {
      const records: Records = touched.get(name) ?? new RecordMap();
      for (const [record, objects] of fresh) records.set(record, objects);
      if (records.size > 0) touched.set(name, records);
    };
    for (const change of changes) {
      if (change.kind === 'network') await this.#networkChanged(change.name, change.after);
      else if (change.kind === 'removal') await this.#removalChanged(change.key);
      else if (change.kind === 'node')
        for (const [name, member] of this.#members) add(name, this.#peers.ofNode(member, change.name));
      else if (change.kind === 'endpoint') {
        const member = this.#members.get(change.network);
        if (member !== undefined) add(change.network, this.#peers.ofEndpoint(member, change));
      }
      if (change.kind !== 'lease' && change.kind !== 'claim') continue;
      const name = change.network;
      const member = this.#members.get(name);
      // Also while the node joins: the answer has its turn after that.
      if (change.kind === 'claim') claimed.add(name);
      else if (member?.isOwn(change.subnet) === true) {
        if (!this.#expelled) await this.#ownLeases.changed(member, change.subnet);
      } else if (change.after === undefined && this.#ownLeases.isDue(name)) freed.add(name);
      if (member === undefined) continue;
      add(
        name,
        change.kind === 'claim' ? this.#peers.ofClaim(member, change) : this.#peers.ofLease(member, change),
      );
    }
    for (const [name, records] of touched) {
      if (this.#members.has(name)) await this.options.reconciler.set(records);
    }
    if (changes.some((change) => this.#objects.concernsMembers(change))) await this.#objects.setMembers();
    if (claimed.size > 0) await this.#objects.claimsChanged();
    for (const name of claimed) await this.#answerClaims(name);
    for (const name of freed) await this.#ownLeases.reacquire(name);
    if (changes.some(({ kind }) => kind === 'network')) {
      await this.#objects.setFirewall();
      await this.followRoutes();
    }
  }

  /** Answers other nodes' claims on this node's subnet. */
  async #answerClaims(name: string): Promise<void> {
    if (this.#listener !== undefined) await this.#inTurn(name, (member) => this.#claims.answer(member));
  }

  /** The node's underlay addresses or MTU changed: rewrites its leases and its tunnels. */
  async underlayChanged(): Promise<void> {
    await this.#publication.underlayChanged();
  }

  /** Rewrites this node's leases and compiles their networks anew. @returns whether every lease was written */
  republish(isConcerned: (network: Network) => boolean): Promise<boolean> {
    return this.#publication.republish(isConcerned);
  }

  /** Other networks are kept from this node by its routes than before. */
  async routesChanged(): Promise<void> {
    await this.#objects.setFirewall();
  }

  /** Controllers or etcd have other addresses than before. */
  async controlChanged(): Promise<void> {
    await this.#objects.setFirewall();
  }

  /** A parent link may have another MTU: its containers, and the bridge between, have it too. */
  parentsChanged(): Promise<void> {
    return this.#parents.follow();
  }

  /** etcd answers, for the first time or again: writes what could not be written meanwhile, and answers claims. */
  async reconnected(): Promise<void> {
    await this.resume();
    for (const name of [...this.#members.keys()]) await this.#answerClaims(name);
  }

  async stop(): Promise<void> {
    this.#peers.stop();
    this.#ownLeases.stop();
    for (const member of this.#members.values()) member.stop();
    await Promise.all(
      [...this.#members.keys()].map((name) => this.#locks.run(name, () => Promise.resolve())),
    );
  }

  async #networkChanged(name: string, after: Network | undefined): Promise<void> {
    await this.#inTurn(name, async (member) => {
      if (after === undefined) return this.#resumeOne(name, member);
      this.#unseen.delete(name);
      if (!member.adopt(after)) return;
      const { lease } = member.membership;
      if (!this.#leases.isCurrent(lease, after) || !this.#leases.isThere(after, lease))
        await this.#ownLeases.take(member);
      member.save();
      await this.#objects.publish(name);
    });
  }

  async #removalChanged(key: string): Promise<void> {
    const removal = this.options.store.view.removals.get(key);
    if (removal !== undefined) this.#peers.removed(removal);
    // It may come after the end of the config.
    if (removal?.kind === 'network' && !this.options.store.view.networks.has(removal.name))
      await this.#inTurn(removal.name, (member) => this.#resumeOne(removal.name, member));
    if (removal?.kind !== 'node' || removal.name !== this.options.node || !removal.forced) return;
    if (removal.at === this.#settledRemoval) return;
    this.#expelled = true;
    this.options.problems.set(NODE_REMOVED, {
      what: `node ${this.options.node}`,
      why: 'it was removed from the cluster with `weft node rm --force` while it was up',
      fix: 'Restart the agent to join again.',
    });
    for (const name of [...this.#members.keys()])
      await this.#inTurn(name, (member) => this.#leave(name, member));
  }

  async #leave(name: string, member: Member): Promise<void> {
    member.stop();
    this.#ownLeases.left(name);
    this.#unseen.delete(name);
    // First: an attach under way finds it gone.
    this.#members.delete(name);
    await this.#listener?.left(name);
    keepFormerSubnets(this.options, member.membership);
    this.options.state.deleteNetwork(name);
    await this.#objects.remove(name);
    member.followed.end();
    this.options.log.info('left a network', { network: name });
    const gone = this.options.store.view.networks.has(name)
      ? 'this node is no longer on it'
      : 'it was removed';
    this.options.onMembership?.('left', name, gone);
  }

  /** Joins the networks that networks of this node's containers are routed with. */
  followRoutes(): Promise<void> {
    const join = async (name: string): Promise<void> => void (await this.join(name, { withoutBridge: true }));
    return joinRoutedNetworks({
      ...this.options,
      isUsed: (name) => this.#isUsed(name),
      isMember: (name) => this.#members.has(name) || this.#expelled,
      join,
    });
  }

  #bridgeOf(name: string): Pick<Membership, 'subnetOnly'> {
    return this.options.subnetOnly?.includes(name) === true ? { subnetOnly: true } : {};
  }

  #member(membership: Membership, granted: Member['granted'], followed: Member['followed']): Member {
    const exclusively = (work: () => Promise<void>): Promise<void> =>
      this.#inTurn(membership.network.name, work);
    const isUsed = this.#isUsed.bind(this);
    return new Member(
      { ...this.options, leases: this.#leases, isUsed, exclusively },
      membership,
      granted,
      followed,
    );
  }

  /** Runs `work` on the member as it is when its turn comes; not at all where the node is not on the network then. */
  #inTurn(network: string, work: (member: Member) => Promise<void>): Promise<void> {
    return this.#locks.run(network, async () => {
      const member = this.#members.get(network);
      if (member !== undefined) await work(member);
    });
  }

  #isUsed(network: string, within?: IpNetwork): boolean {
    return this.#listener?.isUsed(network, within) ?? false;
  }
}
