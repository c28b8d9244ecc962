// One membership: the network, this node's subnet lease, and its grants.
//
// All of it is in the state directory.
import type { Membership } from '../../core/compile.js';
import { failedPrecondition } from '../../core/errors.js';
import { bareIp, type IpNetwork } from '../../core/address.js';
import type { Network } from '../../core/network.js';
import type { Endpoint } from '../../core/records.js';
import type { Logger } from '../../daemon/log.js';
import type { FollowedNetwork, Store, StoredLease } from '../../store/store.js';
import type { Claimed } from './address-claims.js';
import { canStay } from './join-checks.js';
import { LeaseRenewer } from './lease-renewer.js';
import { networkScope, type Problems } from '../health/index.js';
import type { State } from '../state/index.js';
import type { SubnetLeases } from './subnet-leases.js';

export interface MemberOptions {
  store: Store;
  state: State;
  log: Logger;
  problems: Problems;
  leases: SubnetLeases;
  /** Whether containers of this node are on the network, with addresses of `within` where it is given. */
  isUsed: (network: string, within?: IpNetwork) => boolean;
  subnetTtlSeconds: number;
  /** Runs work that excludes taking, changing and releasing the subnet. */
  exclusively: (work: () => Promise<void>) => Promise<void>;
}

export class Member implements Claimed {
  readonly #keeper: LeaseRenewer;
  #owner: string | undefined;
  /** Earlier subnets of this node. */
  readonly #left: IpNetwork[] = [];

  constructor(
    private readonly options: MemberOptions,
    readonly membership: Membership,
    readonly granted: Claimed['granted'],
    /** The view has the network's containers until this is ended. */
    readonly followed: FollowedNetwork,
  ) {
    this.#keeper = new LeaseRenewer({ ...options, ttlSeconds: options.subnetTtlSeconds });
  }

  /** When the lease ends if it is not renewed; undefined for a reservation. */
  get expires(): Date | undefined {
    return this.#keeper.expires;
  }

  /** Renews a fresh lease from here on. */
  keep(lease: StoredLease): void {
    this.#keeper.hold(lease);
  }

  stop(): void {
    this.#keeper.stop();
  }

  isOwn(subnet: string): boolean {
    return this.membership.lease.subnet.toString() === subnet;
  }

  /** Another node holds the subnet: nothing may be given out of it until this node has another. */
  dispossess(owner: string): void {
    this.#owner = owner;
  }

  /** @throws WeftError FAILED_PRECONDITION while another node holds the subnet */
  checkPossession(): void {
    if (this.#owner === undefined) return;
    const { network, lease } = this.membership;
    throw failedPrecondition(
      `subnet ${lease.subnet.toString()} of network ${network.name} belongs to ${this.#owner}, and this node has no other yet`,
      'See `weft status` for why.',
    );
  }

  /** Takes the subnet again, or another where another node holds it. @throws WeftError; then nothing has changed */
  async takeLease(): Promise<void> {
    const { network, lease } = this.membership;
    const taken = await this.options.leases.acquire(network, { previous: lease });
    if (!taken.subnet.equals(lease.subnet)) this.#left.push(lease.subnet);
    this.#owner = undefined;
    this.membership.lease = taken;
    this.keep(taken);
    this.settleMove();
    this.save();
  }

  /** A problem while containers have addresses of an earlier subnet. */
  settleMove(): void {
    const { network, lease } = this.membership;
    const key = { scope: networkScope(network.name), kind: 'moved-subnet' } as const;
    const inUse = this.#left.filter(
      (subnet) => !subnet.equals(lease.subnet) && this.options.isUsed(network.name, subnet),
    );
    if (inUse.length === 0) return this.options.problems.clear(key);
    this.options.problems.set(key, {
      what: `network ${network.name}`,
      why: `this node had ${inUse.join(' and ')}, which another node holds now; it has ${lease.subnet.toString()}`,
      fix: 'Attach its containers again: their addresses are of the old subnet.',
    });
  }

  /** Adopts a changed config, unless the node's subnet would not fit it: then the old one stays in force. */
  adopt(network: Network): boolean {
    const { network: old, lease } = this.membership;
    const key = { scope: networkScope(network.name), kind: 'config' } as const;
    if (!canStay(old, network, lease)) {
      this.options.problems.set(key, {
        what: `network ${network.name}`,
        why: `its config was changed so that this node's subnet ${lease.subnet.toString()} does not fit any more`,
        fix: 'Put the config back, or detach the containers and make a new network; until then the old one runs on.',
      });
      return false;
    }
    this.options.problems.clear(key);
    this.membership.network = network;
    return true;
  }

  /** Sets the host endpoint; undefined: none. @returns whether that is a change */
  expose(endpoint: Endpoint | undefined): boolean {
    const before = this.membership.exposed;
    const exposed = endpoint === undefined ? undefined : addressesOf(endpoint);
    if (before?.ip === exposed?.ip && before?.ip6 === exposed?.ip6) return false;
    this.membership.exposed = exposed;
    return true;
  }

  save(): void {
    const { network, lease, parent } = this.membership;
    this.options.state.saveNetwork({
      network,
      lease,
      granted: [...this.granted].map(([ip, { node, endpoint }]) => ({ ip, node, endpoint })),
      ...(parent === undefined ? {} : { parent }),
    });
  }
}

const addressesOf = ({ ip, ip6 }: Endpoint): NonNullable<Membership['exposed']> => ({
  ip: bareIp(ip),
  ip6: ip6 === undefined ? undefined : bareIp(ip6),
});
