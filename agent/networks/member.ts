// This node in one network: its membership, the lease of its subnet, which is kept alive here, and what it has granted to
// other nodes. All of it is remembered in the state directory.
import type { Membership } from '../../core/compile.js';
import { failedPrecondition } from '../../core/errors.js';
import { bareIp, type IpNetwork } from '../../core/address.js';
import type { Network } from '../../core/network.js';
import type { Endpoint } from '../../core/records.js';
import type { Logger } from '../../daemon/log.js';
import type { Store, StoredLease } from '../../store/store.js';
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
  /** Runs what must not happen while the subnet is taken, changed or given back. */
  exclusively: (work: () => Promise<void>) => Promise<void>;
}

export class Member implements Claimed {
  readonly #keeper: LeaseRenewer;
  #owner: string | undefined;
  /** Subnets that this node had before the one that it has. */
  readonly #left: IpNetwork[] = [];

  constructor(
    private readonly options: MemberOptions,
    readonly membership: Membership,
    readonly granted: Claimed['granted'],
  ) {
    this.#keeper = new LeaseRenewer({ ...options, ttlSeconds: options.subnetTtlSeconds });
  }

  /** When the lease ends if it is not renewed; undefined for a reservation. */
  get expires(): Date | undefined {
    return this.#keeper.expires;
  }

  /** Renews a lease that was made just now from here on. */
  keep(lease: StoredLease): void {
    this.#keeper.hold(lease);
  }

  stop(): void {
    this.#keeper.stop();
  }

  isOwn(subnet: string): boolean {
    return this.membership.lease.subnet.toString() === subnet;
  }

  /** Somebody else has this node's subnet: until it has another, nothing may be given out of it. */
  dispossess(owner: string): void {
    this.#owner = owner;
  }

  /** @throws WeftError FAILED_PRECONDITION while the subnet is somebody else's */
  checkPossession(): void {
    if (this.#owner === undefined) return;
    const { network, lease } = this.membership;
    throw failedPrecondition(
      `subnet ${lease.subnet.toString()} of network ${network.name} belongs to ${this.#owner}, and this node has no other yet`,
      'See `weft status` for why.',
    );
  }

  /** Takes the subnet again, or another where it has become somebody else's. @throws WeftError; then it is as before */
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

  /** Says that containers have addresses of a subnet that this node does not have any more, while there are any. */
  settleMove(): void {
    const { network, lease } = this.membership;
    const key = { scope: networkScope(network.name), kind: 'moved-subnet' } as const;
    const inUse = this.#left.filter(
      (subnet) => !subnet.equals(lease.subnet) && this.options.isUsed(network.name, subnet),
    );
    if (inUse.length === 0) return this.options.problems.clear(key);
    this.options.problems.set(key, {
      what: `network ${network.name}`,
      why: `this node had ${inUse.join(' and ')}, which is another's now, and has ${lease.subnet.toString()}`,
      fix: 'Attach its containers again: their addresses are of the old subnet.',
    });
  }

  /** Takes a changed config over where the node's subnet stays what it is; otherwise the old one runs on. */
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

  /** By which endpoint the host itself is on the network; undefined: by none. Answers whether that is new. */
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
