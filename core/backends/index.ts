// The registry of backends.
import type { Family } from '../address.js';
import type { OverlayNetwork } from '../network.js';
import type { Lease } from '../records.js';
import type { Backend } from './backend.js';
import { hostGw } from './host-gw.js';
import type { BackendType, LeaseData } from './types.js';
import { vxlan } from './vxlan.js';

/** Total: an entry of BackendTypes without a backend here does not compile. */
const BACKENDS = { vxlan, 'host-gw': hostGw } satisfies { [T in BackendType]: Backend<T> };

export const BACKEND_TYPES = Object.keys(BACKENDS) as BackendType[];

/** What a network gets that names none. flannel's own is udp in its code and vxlan in its documents. */
export const DEFAULT_BACKEND: BackendType = 'vxlan';

/** flannel's backends that weft does not serve (pkg/backend): known by name, reported and left alone. */
export const UNSERVED_BACKENDS: readonly string[] = [
  'wireguard',
  'udp',
  'ipip',
  'ipsec',
  'extension',
  'alloc',
  'aws-vpc',
  'gce',
  'ali-vpc',
  'tencent-vpc',
];

export const isBackend = (text: string): text is BackendType => Object.hasOwn(BACKENDS, text);

// Each backend takes networks of its own type alone; the type of a network chooses it, so that the two always fit.
export const backendOf = (type: BackendType): Backend => BACKENDS[type];

export const backendIn = ({ backend }: Pick<OverlayNetwork, 'backend'>): Backend => backendOf(backend);

/** What a node publishes of its end of the network; undefined where its backend needs nothing of the kind. */
export function leaseDataFor(
  network: OverlayNetwork,
  instance: string,
  families: readonly Family[],
): LeaseData | undefined {
  const { type, data } = backendIn(network);
  if (data === undefined) return undefined;
  const ends = families.flatMap((family) => {
    const end = data.make(instance, network, family);
    return end === undefined ? [] : [[family, end] as const];
  });
  return { type, ...Object.fromEntries(ends) };
}

/** What a lease without a family publishes. */
export function withoutFamily(data: LeaseData, family: Family): LeaseData {
  const { [family]: _left, ...rest } = data;
  return rest;
}

/** The lease's data of one family, in the words of its backend; undefined where there is none. */
export function encodeLeaseData({ data }: Lease, family: Family): object | undefined {
  const end = data?.[family];
  return data === undefined || end === undefined ? undefined : backendOf(data.type).data?.encode(end);
}

/** Fields that the API shows of a lease. */
export const describeLease = (lease: Lease): { vtepMac?: string } =>
  lease.data === undefined ? {} : backendOf(lease.data.type).describeLease(lease);
