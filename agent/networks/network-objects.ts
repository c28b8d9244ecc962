// Kernel objects of this node's networks: links, peer routes, firewall, subnet.env.
import { isDeepStrictEqual } from 'node:util';

import { compileCloud } from '../../core/cloud.js';
import { compileFirewall, compileNetwork } from '../../core/compile.js';
import { driverOf } from '../../core/drivers/index.js';
import type { ControlAddress, FirewallMember } from '../../core/firewall.js';
import type { IpAddress } from '../../core/address.js';
import type { Network } from '../../core/network.js';
import type { KernelObject } from '../../core/objects/index.js';
import type { Lease } from '../../core/records.js';
import { compileFou, compileOwnBridge } from '../../core/port-security.js';
import type { Logger } from '../../daemon/log.js';
import type { Change, Store, View } from '../../store/store.js';
import { attempt, networkScope, type Problems } from '../health/index.js';
import type { Kernel, StepFailure } from '../kernel/index.js';
import { type Reconciler, RecordMap } from '../reconcile/index.js';
import { FirewallMembers } from './firewall-members.js';
import type { Member } from './member.js';
import type { PeerRoutes, Records } from './peer-routes.js';
import { deleteSubnetEnv, writeSubnetEnv } from './subnet-env.js';

export interface NetworkObjectsOptions {
  kernel: Pick<Kernel, 'carriesUdp'>;
  reconciler: Reconciler;
  store: Pick<Store, 'view'>;
  node: string;
  problems: Problems;
  log: Logger;
  /** Where subnets/NETWORK.env is written; undefined: not at all. */
  runDir: string | undefined;
  /** Whether containers ask this node for names. */
  servesNames?: boolean;
  peers: PeerRoutes;
  members: ReadonlyMap<string, Member>;
  /** What containers must not reach. */
  control?: () => readonly ControlAddress[];
  maxConnections?: number | undefined;
  /** Whether this node has another network at the addresses of a network that it is not on. */
  keepsOut?: (network: Network) => boolean;
  /** The network has been compiled anew: its endpoints must be, too. */
  changed: (network: string) => Promise<void>;
}

export class NetworkObjects {
  readonly #compiled = new FirewallMembers();

  constructor(private readonly options: NetworkObjectsOptions) {}

  /**
   * Compiles a network anew. The firewall comes first: no packet goes where it will forbid it. Both enter the reconciler's
   * queue in the turn in which the network becomes a member. A peer or an endpoint that overtook the network's record would
   * find no link of it: the kernel would refuse it, and the peer would be unreachable until the next full comparison.
   * @returns what the kernel refused
   */
  async publish(name: string): Promise<StepFailure[]> {
    const { reconciler, members, changed } = this.options;
    const member = members.get(name);
    if (member === undefined) return [];
    this.setCloud();
    const records = this.#recordsOf([...this.#followFou().filter((one) => one !== member), member]);
    // What the peers' leases are believed to be is known from here on.
    const firewall = this.setFirewall();
    const [failures] = await Promise.all([reconciler.set(records), firewall]);
    await changed(name);
    await this.writeEnv(member);
    return failures;
  }

  /** Of networks and their peers. */
  #recordsOf(members: readonly Member[]): Records {
    return new RecordMap<readonly KernelObject[] | undefined>(
      members.flatMap((one) => [
        [{ kind: 'network', network: one.membership.network.name }, compileNetwork(one.membership)] as const,
        ...this.options.peers.of(one),
      ]),
    );
  }

  /**
   * Whether the kernel carries a network in UDP itself depends on the other networks: it makes one tunnel for an address, which
   * IP in IP needs. @returns the members for which that has changed
   */
  #followFou(): Member[] {
    const members = [...this.options.members.values()];
    const isSuited = ({ membership: { network } }: Member): boolean =>
      driverOf(network).fou(network) !== undefined;
    const isFree = !members.some(({ membership: { network } }) => driverOf(network).inIp(network));
    const suited = members.find(isSuited);
    const chosen = suited !== undefined && isFree && this.options.kernel.carriesUdp() ? suited : undefined;
    const changed = members.filter((member) => (member.membership.fou === true) !== (member === chosen));
    for (const { membership } of changed) {
      if (membership === chosen?.membership) membership.fou = true;
      else delete membership.fou;
    }
    return changed;
  }

  async writeEnv({ membership }: Member): Promise<void> {
    const { runDir } = this.options;
    const { name } = membership.network;
    if (runDir === undefined) return;
    await attempt(
      this.options,
      {
        scope: networkScope(name),
        kind: 'subnet-env',
        what: `the subnet.env file of network ${name}`,
        otherwise: `Make ${runDir} writable and give it space; it is written again when the network changes or etcd answers again.`,
      },
      () => Promise.resolve(writeSubnetEnv(runDir, membership)),
    );
  }

  /** Removes a network that the node has left. */
  async remove(name: string): Promise<void> {
    const { reconciler, problems, runDir } = this.options;
    if (runDir !== undefined) deleteSubnetEnv(runDir, name);
    problems.clearScope(networkScope(name));
    // An endpoint that could not be removed keeps its own record.
    const records = reconciler.recordsOf(name).filter(({ kind }) => kind !== 'endpoint');
    this.setCloud();
    await reconciler.set(records.map((record) => [record, undefined] as const));
    // At once, and without its endpoints, which do not change: the node may be leaving that network, too.
    const changed = this.#followFou();
    if (changed.length > 0) await reconciler.set(this.#recordsOf(changed));
    await this.setFirewall();
  }

  /** Tells the firewall who the other nodes are. */
  setMembers(): Promise<void> {
    return this.options.reconciler.setMembers(this.#others());
  }

  /** Whether a change of the store may be one of who the other nodes are. */
  concernsMembers(change: Change): boolean {
    if (change.kind === 'network') return true;
    if (change.kind === 'node') {
      const [before, after] = [change.before, change.after].map((node) => node && this.#compiled.node(node));
      return !isDeepStrictEqual(before, after);
    }
    if (change.kind !== 'lease') return false;
    const { members, store } = this.options;
    return (
      members.has(change.network) ||
      [change.before, change.after].some((lease) => lease !== undefined && isStranger(store.view, lease))
    );
  }

  #others(): Map<string, FirewallMember> {
    const { store, members, peers } = this.options;
    const { nodes, leases } = store.view;
    const mine = [...members.values()].map(({ membership }) => membership);
    const found = new Map<string, FirewallMember>();
    for (const node of nodes.values()) found.set(`node ${node.name}`, this.#compiled.node(node));
    for (const [network, all] of leases) {
      if (members.has(network)) continue;
      for (const lease of all.values())
        if (isStranger(store.view, lease))
          found.set(`lease ${network} ${lease.subnet.toString()}`, this.#compiled.stranger(lease));
    }
    for (const member of members.values()) {
      const { membership } = member;
      const { name } = membership.network;
      for (const lease of peers.standing(name)) {
        const node = lease.node === undefined ? undefined : nodes.get(lease.node);
        const key = `lease ${name} ${lease.subnet.toString()}`;
        found.set(key, this.#compiled.member(membership, lease, node, mine));
      }
      // What each peer may send is what leads to it.
      if (membership.fou === true)
        for (const object of peers.standingObjects(member))
          if (object.kind === 'pump-prefix') found.set(`fou ${object.to}`, compileFou(object));
      if (membership.subnetOnly === true) found.set(`own ${name}`, compileOwnBridge(membership, mine));
    }
    return found;
  }

  /** Addresses of other nodes' subnets have routes of their own. */
  async claimsChanged(): Promise<void> {
    this.setCloud();
    if ([...this.options.members.values()].some(({ membership }) => membership.fou)) await this.setMembers();
  }

  /** What leads to this node in the route tables of clouds. */
  setCloud(): void {
    const { reconciler, store, members, node } = this.options;
    const claimed = (network: string): IpAddress[] =>
      [...(store.view.claims.get(network)?.values() ?? [])].flatMap((claim) =>
        claim.node === node && claim.state === 'granted' ? [claim.ip] : [],
      );
    reconciler.cloud.set(
      compileCloud(
        [...members.values()].map(({ membership }) => membership),
        claimed,
      ),
    );
  }

  /** Tells the firewall of the networks, and who the other nodes are. */
  setFirewall(): Promise<void> {
    const { reconciler, store, members, servesNames = false, keepsOut = () => false } = this.options;
    const { control = () => [], maxConnections } = this.options;
    const memberships = [...members.values()].map(({ membership }) => membership);
    const known = [...store.view.networks.values()].filter(
      (network) => members.has(network.name) || !keepsOut(network),
    );
    const rules = {
      ...compileFirewall(memberships, known),
      names: servesNames,
      control: control(),
      ...(maxConnections !== undefined && { maxConnections }),
    };
    return reconciler.setFirewall(rules, this.#others());
  }
}

/** The node of a lease has no record, as a flanneld: its address is in the lease alone. */
const isStranger = ({ nodes }: Pick<View, 'nodes'>, { node }: Lease): boolean =>
  node === undefined || !nodes.has(node);
