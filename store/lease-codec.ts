// Subnet lease codec: flannel's lease attributes to Lease and back.
//
// What only weft knows (which node, which instance, since when, the MTU of its underlay, the type of a backend of which flannel
// writes none) is under "Weft", which flannel ignores.
import * as z from 'zod';

import { IpAddress } from '../core/address.js';
import { backendOf, BACKEND_TYPES, encodeLeaseData, isBackend } from '../core/backends/index.js';
import type { BackendType, LeaseData } from '../core/backends/types.js';
import {
  check,
  goObject,
  ifReadable,
  integer,
  ip4,
  ip6,
  isObject,
  parseJsonObject,
  text,
} from '../core/parse.js';
import { publicIpIn } from '../core/families.js';
import type { Lease } from '../core/records.js';
import type { ParsedKey } from './keys.js';
import type { StoredLease } from './store.js';

/** RFC 791: every host can receive as much. */
const MIN_MTU = 576;

const ATTRIBUTES = goObject({
  PublicIP: ip4.optional(),
  PublicIPv6: ip6.optional(),
  BackendType: text.default(''),
  Weft: goObject({
    Node: text.optional(),
    Instance: text.optional(),
    Since: text.optional(),
    BackendType: text.optional(),
    MTU: integer(MIN_MTU, 65_535).optional(),
    Beside: z.unknown().optional(),
  }).optional(),
});

/** BackendData and BackendV6Data, of the backends that publish any. */
const DATA = new Map(
  BACKEND_TYPES.flatMap((type) => {
    const schema = backendOf(type).data?.schema;
    if (schema === undefined) return [];
    return [[type, goObject({ BackendData: schema.optional(), BackendV6Data: schema.optional() })] as const];
  }),
);

/** What flannel reads if no address is given, as in a reservation by hand. */
const NO_ADDRESS = IpAddress.parse('0.0.0.0');

/**
 * PublicIP of a node that has no IPv4 address: IPv4's dummy address (RFC 7600). With 0.0.0.0 a flanneld that starts without
 * IPv4 would take the lease for its own (flannel's findLeaseByIP).
 */
const DUMMY = IpAddress.parse('192.0.0.8');

/**
 * @param etcdLease '0' for a key without an etcd lease, which makes it a reservation
 * @throws UnreadableError
 */
export function decodeLease(
  key: ParsedKey & { kind: 'lease' },
  value: string,
  etcdLease: string,
): StoredLease {
  const json = parseJsonObject(value);
  const attributes = check(ATTRIBUTES, json);
  // Data of backends that weft does not serve (a WireGuard key) is ignored.
  const backendType = attributes.BackendType || (attributes.Weft?.BackendType ?? '');
  const data = isBackend(backendType) ? dataIn(backendType, json) : undefined;
  return {
    network: key.network,
    subnet: key.subnet,
    ...(key.subnet6 && { subnet6: key.subnet6 }),
    ...publicIpsIn(attributes),
    ...(attributes.Weft?.MTU !== undefined && { mtu: attributes.Weft.MTU }),
    backendType,
    ...(data && { data }),
    ...besideIn(attributes.Weft?.Beside),
    ...(attributes.Weft?.Node !== undefined && { node: attributes.Weft.Node }),
    ...(attributes.Weft?.Instance !== undefined && { instance: attributes.Weft.Instance }),
    ...(attributes.Weft?.Since !== undefined && { since: attributes.Weft.Since }),
    reservation: etcdLease === '0',
    etcdLease,
  };
}

function publicIpsIn({
  PublicIP: ip,
  PublicIPv6: ip6,
}: z.infer<typeof ATTRIBUTES>): Pick<Lease, 'publicIp' | 'publicIp6'> {
  const hasIpv4 = ip !== undefined && ip.value !== 0n && !ip.equals(DUMMY);
  const hasIpv6 = ip6 !== undefined && ip6.value !== 0n;
  if (hasIpv6 && !hasIpv4) return { publicIp: ip6 };
  return { publicIp: hasIpv4 ? ip : NO_ADDRESS, ...(hasIpv6 && { publicIp6: ip6 }) };
}

/** What the node publishes for the backend beside; what cannot be read is not there. */
function besideIn(value: unknown): Pick<Lease, 'beside'> {
  if (!isObject(value)) return {};
  const beside = ifReadable((): Lease['beside'] => {
    const { BackendType: backendType } = check(goObject({ BackendType: text }), value);
    const data = isBackend(backendType) ? dataIn(backendType, value) : undefined;
    return { backendType, ...(data && { data }) };
  });
  return beside === undefined ? {} : { beside };
}

function dataIn(type: BackendType, json: Record<string, unknown>): LeaseData | undefined {
  const schema = DATA.get(type);
  if (schema === undefined) return undefined;
  const { BackendData, BackendV6Data } = check(schema, json);
  if (BackendData === undefined && BackendV6Data === undefined) return undefined;
  return {
    type,
    ...(BackendData && { 4: BackendData }),
    ...(BackendV6Data && { 6: BackendV6Data }),
  } as LeaseData;
}

/** In flanneld's form, with the fields in its order. */
export function encodeLease(lease: Lease): string {
  const unnamed = isBackend(lease.backendType) && backendOf(lease.backendType).unnamed === true;
  return JSON.stringify({
    PublicIP: (publicIpIn(lease, 4) ?? DUMMY).toString(),
    PublicIPv6: publicIpIn(lease, 6)?.toString() ?? null,
    BackendType: unnamed ? undefined : lease.backendType,
    BackendData: encodeLeaseData(lease, 4),
    BackendV6Data: encodeLeaseData(lease, 6),
    ...([lease.node, lease.instance, lease.mtu].some((field) => field !== undefined) && {
      Weft: {
        Node: lease.node,
        Instance: lease.instance,
        Since: lease.since,
        MTU: lease.mtu,
        // weft's own leases tell more than flannel's: a network may move between two such backends.
        BackendType: unnamed ? lease.backendType : undefined,
        ...(lease.beside !== undefined && {
          Beside: {
            BackendType: lease.beside.backendType,
            BackendData: encodeLeaseData(lease.beside, 4),
            BackendV6Data: encodeLeaseData(lease.beside, 6),
          },
        }),
      },
    }),
  });
}
