// Schemas of the state directory's records: networks, endpoints, reservations.
//
// A file is parsed once, here, and must pass what etcd's readers require: it programs the kernel, and is written back to etcd
// after a loss.
import * as z from 'zod';

import type { Parent } from '../../core/compile.js';
import { driverNamed, DRIVER_NAMES } from '../../core/drivers/index.js';
import type { IpNetwork } from '../../core/address.js';
import { savedIp, savedName, savedNet, savedVlan } from '../../core/drivers/saved.js';
import { MANAGERS } from '../../core/manager.js';
import { parseNetworkName, type Network } from '../../core/network.js';
import type { ClaimHolder, Endpoint, Lease } from '../../core/records.js';
import type { Reservation } from '../../daemon/plugin-host.js';
import { decodeConfig, encodeConfig } from '../../store/network-codec.js';
import { integer, interfaceText, linkName, mac } from '../../core/parse.js';
import { leaseSchema } from './lease-fields.js';
import {
  decodeEndpoint,
  encodeEndpoint,
  LABELS,
  MANAGER_FIELDS,
  readManager,
} from '../../store/record-codec.js';

/** A network of this node. */
export interface SavedNetwork {
  network: Network;
  lease: Lease;
  /** Address claims of other nodes in this node's subnet, which it has granted. */
  granted: ({ ip: string } & ClaimHolder)[];
  /** The parent link of the network on this node. */
  parent?: Parent;
}

const networkSchema = z.union(DRIVER_NAMES.map((name) => driverNamed(name).saved));

const parentSchema = z.object({
  name: linkName,
  isBridge: z.boolean(),
  mac,
  mtu: integer(0, 65_535),
  native: savedVlan.optional(),
});

const endpointSchema = z.object({
  id: z.string().regex(/^[0-9a-f]{16}$/),
  name: z.string(),
  explicitName: z.boolean(),
  network: z.string(),
  node: z.string(),
  target: z.string(),
  sandbox: z.object({ path: z.string(), cookie: z.string(), bootId: z.string() }),
  ifname: z.string(),
  hostIfname: z.string(),
  mac: z.string(),
  ip: z.string(),
  ip6: z.string().optional(),
  claimed: z.boolean().optional(),
  defaultRoute: z.boolean(),
  aliases: z.array(z.string()),
  allowedAddresses: z.array(z.string()).optional(),
  publish: z
    .array(
      z.object({
        hostIp: z.string(),
        hostPort: z.number(),
        port: z.number(),
        protocol: z.enum(['tcp', 'udp']),
        everywhere: z.boolean(),
      }),
    )
    .default([]),
  vlan: z.number().optional(),
  dns: z.literal(true).optional(),
  labels: LABELS,
  ...MANAGER_FIELDS,
  createdAt: z.string(),
});

const savedSchema = z.object({
  network: networkSchema,
  lease: leaseSchema,
  granted: z.array(
    z.object({
      ip: savedIp.transform((address) => address.toString()),
      node: z.string(),
      endpoint: z.string(),
    }),
  ),
  parent: parentSchema.optional(),
  /** The config as it was in etcd, unknown fields included, so that nothing is missing when it is written back after a loss. */
  config: z.string().optional(),
});

/** A subnet that this node had of a network that it has left. */
export interface FormerSubnet {
  /** The network's prefix. */
  whole: IpNetwork;
  subnet: IpNetwork;
  /** RFC 3339, when it left. */
  at: string;
}

const formerSubnetSchema = z
  .object({ whole: savedNet, subnet: savedNet, at: z.iso.datetime() })
  .refine(({ whole, subnet }) => whole.contains(subnet), 'the subnet is not in the network');

export const savedFormerSubnet = (value: unknown): FormerSubnet => formerSubnetSchema.parse(value);

const reservationSchema = z.object({
  id: z.string().regex(/^[0-9a-f]{16}$/),
  network: savedName,
  ip: interfaceText,
  // Release 0.1 has only Docker's.
  manager: z.enum(MANAGERS).default('docker'),
  foreignKey: MANAGER_FIELDS.foreignKey,
  sandbox: z.object({ path: z.string(), cookie: z.string(), bootId: z.string() }).optional(),
  createdAt: z.string(),
});
export const savedReservation = (value: unknown): Reservation =>
  withoutUndefined(reservationSchema.parse(value)) as Reservation;

// zod sets absent optional keys to `undefined`; the records leave such keys out.
export function savedNetwork(value: unknown): SavedNetwork {
  const { config, ...rest } = savedSchema.parse(value);
  // Release 0.1 writes `docker` for networks that Docker made.
  const { docker, ...fields } = rest.network as Network & { docker?: boolean };
  const saved = withoutUndefined({
    ...rest,
    network: { ...fields, ...(docker === true && { madeBy: 'docker' }) },
  }) as SavedNetwork;
  // Always parsed as a record of etcd: a config that is invalid there is no network here.
  return { ...saved, network: decodeConfig(saved.network.name, config ?? encodeConfig(saved.network)) };
}

/** Must be valid as a record of etcd: it is written there, and it programs the kernel. */
export function savedEndpoint(value: unknown): Endpoint {
  const endpoint = withoutUndefined(readManager(endpointSchema.parse(value))) as Endpoint;
  const { id, network } = endpoint;
  decodeEndpoint({ kind: 'endpoint', network: parseNetworkName(network), id }, encodeEndpoint(endpoint));
  return endpoint;
}

function withoutUndefined(record: object): object {
  return Object.fromEntries(
    Object.entries(record)
      .filter(([, value]) => value !== undefined)
      .map(([key, value]: [string, unknown]) => [key, isPlain(value) ? withoutUndefined(value) : value]),
  );
}

const isPlain = (value: unknown): value is object =>
  typeof value === 'object' && value !== null && Object.getPrototypeOf(value) === Object.prototype;
