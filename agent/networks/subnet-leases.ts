// Subnet leases: the part of a network that this node gives addresses out of.
//
// Where nodes share the network it is a lease in etcd, requested with the node's earlier one; otherwise it is the whole
// network, with nothing in etcd.
import { isDeepStrictEqual } from 'node:util';

import { backendIn, leaseDataFor } from '../../core/backends/index.js';
import type { LeaseData } from '../../core/backends/types.js';
import { type Membership, publicAddresses, type Underlay } from '../../core/compile.js';
import { addressingOf, backendTypeOf, isBridged } from '../../core/drivers/index.js';
import { addressIn, FAMILIES, subnetIn } from '../../core/families.js';
import { failedPrecondition } from '../../core/errors.js';
import type { Network, OverlayNetwork } from '../../core/network.js';
import type { Lease } from '../../core/records.js';
import type { LeaseRequest, Store, StoredLease } from '../../store/store.js';
import type { Kernel } from '../kernel/index.js';
import type { Reconciler } from '../reconcile/index.js';
import type { State } from '../state/index.js';
import { ownSubnets } from './address-claims.js';
import { hostRoutesBeside } from './route-overlaps.js';

export interface SubnetLeasesOptions {
  store: Store;
  kernel: Pick<Kernel, 'routes'>;
  node: string;
  instance: string;
  state: Pick<State, 'keys'>;
  subnetTtlSeconds: number;
  /** Networks whose bridge and gateway are another program's here; absent: none. */
  subnetOnly?: readonly string[];
  underlay: () => Underlay;
  /** Whether containers of this node are on the network. */
  isUsed: (network: string) => boolean;
  reconciler: { cloud: Pick<Reconciler['cloud'], 'has'> };
}

/** An earlier subnet of the node, and since when it had it. */
export type PreviousSubnet = Pick<Lease, 'subnet' | 'subnet6' | 'since'>;

export interface AcquireOptions {
  previous?: PreviousSubnet | undefined;
  wanted?: LeaseRequest['wanted'];
  signal?: AbortSignal | undefined;
}

export class SubnetLeases {
  constructor(private readonly options: SubnetLeasesOptions) {}

  /** @throws WeftError RESOURCE_EXHAUSTED, FAILED_PRECONDITION, UNAVAILABLE */
  async acquire(network: Network, { previous, wanted, signal }: AcquireOptions = {}): Promise<StoredLease> {
    const request = this.request(network, previous);
    if (request === undefined) return this.#unshared(network);
    const { avoid } = await hostRoutesBeside(this.options, network);
    return this.options.store.acquireLease({ ...request, avoid, ...(wanted && { wanted }) }, signal);
  }

  areNeeded(network: Network): boolean {
    return ['subnets', 'blocks'].includes(addressingOf(network));
  }

  /** Undefined where the node's part of the network needs no lease. */
  request(network: Network, previous?: PreviousSubnet): LeaseRequest | undefined {
    if (!this.areNeeded(network)) return undefined;
    const { node, instance, subnetTtlSeconds, underlay, isUsed } = this.options;
    const { ip, ip6 } = publicAddresses(underlay());
    const { mtu } = underlay();
    const data = this.#data(network);
    return {
      network,
      node,
      instance,
      publicIp: ip,
      ...(subnetIn(network, 6) !== undefined && ip6 !== undefined && { publicIp6: ip6 }),
      mtu,
      ...(data === undefined ? {} : { data }),
      ...this.#beside(network),
      ...(previous === undefined
        ? {}
        : {
            previous: {
              subnet: previous.subnet,
              ...(previous.subnet6 === undefined ? {} : { subnet6: previous.subnet6 }),
            },
            ...(previous.since === undefined ? {} : { since: previous.since }),
            inUse: isUsed(network.name),
          }),
      ttlSeconds: subnetTtlSeconds,
    };
  }

  /** Whether etcd has this lease of this node; true where the network has none. */
  isThere(network: Network, { subnet }: Lease): boolean {
    if (!this.areNeeded(network)) return true;
    const there = this.options.store.view.leases.get(network.name)?.get(subnet.toString());
    return there?.instance === this.options.instance;
  }

  /** Whether a lease has the data that the network's backend publishes now. */
  isCurrent({ backendType, data, beside }: Lease, network: Network): boolean {
    return (
      backendType === backendTypeOf(network) &&
      isDeepStrictEqual(data, this.#data(network)) &&
      isDeepStrictEqual(beside, this.#beside(network).beside)
    );
  }

  #beside(network: Network): Pick<Lease, 'beside'> {
    const beside = isBridged(network) ? undefined : network.beside;
    if (beside === undefined || !this.#hasFollowed(beside)) return {};
    const data = this.#data(beside);
    return { beside: { backendType: beside.backend, ...(data === undefined ? {} : { data }) } };
  }

  /** Where a cloud carries the packets, it must lead here before the network flips. */
  #hasFollowed(beside: OverlayNetwork): boolean {
    const { cloud } = backendIn(beside);
    const { reconciler } = this.options;
    return cloud === undefined || reconciler.cloud.has({ cloud: cloud.name, name: beside.name });
  }

  /** Whether this node's lease in etcd says what the node would write now. */
  isAsWritten(lease: Lease, network: Network): boolean {
    const { ip, ip6 } = publicAddresses(this.options.underlay());
    const hasTwo = subnetIn(lease, 6) !== undefined && ip6 !== undefined;
    return (
      lease.publicIp.equals(ip) &&
      (!hasTwo || lease.publicIp6?.equals(ip6) === true) &&
      this.isCurrent(lease, network)
    );
  }

  #data(network: Network): LeaseData | undefined {
    if (isBridged(network)) return undefined;
    const { instance, state, underlay } = this.options;
    const families = FAMILIES.filter(
      (family) =>
        subnetIn(network, family) !== undefined &&
        backendIn(network)
          .carriers(network, family)
          .some((carrier) => addressIn(underlay(), carrier) !== undefined),
    );
    return leaseDataFor(network, { instance, keys: state.keys.public }, families);
  }

  /** The other node that holds this node's subnet, by the store; undefined: none. */
  otherHolder({ network, subnet }: Lease): string | undefined {
    const { view } = this.options.store;
    const { node, instance, underlay } = this.options;
    const there = view.leases.get(network)?.get(subnet.toString());
    if (there === undefined) return undefined;
    // This instance under another name: before it was renamed, or on another machine that is a copy of this one.
    const isCopys = there.node !== node && view.alive.get(there.node ?? '') === instance;
    const own =
      there.instance === undefined
        ? there.publicIp.equals(publicAddresses(underlay()).ip)
        : there.instance === instance && !isCopys;
    return own ? undefined : (there.node ?? there.publicIp.toString());
  }

  #unshared(network: Network): StoredLease {
    const { node, instance, underlay } = this.options;
    const pool = isBridged(network) ? network.pool : undefined;
    return {
      network: network.name,
      subnet: pool ?? network.subnet,
      ...(network.subnet6 === undefined ? {} : { subnet6: network.subnet6 }),
      publicIp: publicAddresses(underlay()).ip,
      backendType: backendTypeOf(network),
      node,
      instance,
      // Not in etcd: it never ends.
      reservation: true,
      etcdLease: '0',
    };
  }
}

/** The membership, if it has the requested subnet. @throws WeftError FAILED_PRECONDITION */
export function hasWanted(membership: Membership, wanted: LeaseRequest['wanted']): Membership {
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
