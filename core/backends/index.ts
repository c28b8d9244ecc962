// The registry of backends.
import type { Family } from '../address.js';
import type { OverlayNetwork } from '../network.js';
import type { Lease } from '../records.js';
import { awsVpc } from './aws-vpc.js';
import type { Backend, Identity, LeaseFields } from './backend.js';
import { gce } from './gce.js';
import { hostGw } from './host-gw.js';
import { ipip } from './ipip.js';
import type { BackendType, LeaseData } from './types.js';
import { udp } from './udp.js';
import { vxlan } from './vxlan.js';
import { wireguard } from './wireguard.js';

export { BACKEND_TYPES, DEFAULT_BACKEND, isBackend, UNSERVED_BACKENDS } from './types.js';

/** Total: an entry of BackendTypes without a backend here does not compile. */
const BACKENDS = { vxlan, 'host-gw': hostGw, wireguard, udp, ipip, 'aws-vpc': awsVpc, gce } satisfies {
  [T in BackendType]: Backend<T>;
};

// Each backend accepts networks of its own type only. The network's type chooses the backend, so the two always match.
export const backendOf = (type: BackendType): Backend => BACKENDS[type];

export const backendIn = ({ backend }: Pick<OverlayNetwork, 'backend'>): Backend => backendOf(backend);

/** What a node publishes with its lease of the network; undefined if the backend needs no such data. */
export function leaseDataFor(
  network: OverlayNetwork,
  self: Identity,
  families: readonly Family[],
): LeaseData | undefined {
  const { type, data } = backendIn(network);
  if (data === undefined) return undefined;
  const ends = families.flatMap((family) => {
    const end = data.make(self, network, family);
    return end === undefined ? [] : [[family, end] as const];
  });
  return { type, ...Object.fromEntries(ends) };
}

/** The published data of a lease without one family. */
export function withoutFamily(data: LeaseData, family: Family): LeaseData {
  const { [family]: _left, ...rest } = data;
  return rest;
}

/** The lease's data of one family in its backend's format; undefined if there is none. */
export function encodeLeaseData({ data }: Pick<Lease, 'data'>, family: Family): object | undefined {
  const end = data?.[family];
  return data === undefined || end === undefined ? undefined : backendOf(data.type).data?.encode(end);
}

/** Fields of the API that describe a lease. */
export const describeLease = (lease: Lease): LeaseFields =>
  lease.data === undefined ? {} : backendOf(lease.data.type).describeLease(lease);
