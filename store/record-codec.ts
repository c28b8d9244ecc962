// JSON codec of weft's own records: endpoints, claims, nodes, removals.
//
// They are validated as strictly as flannel's, since any client of etcd can write them.
import * as z from 'zod';

import { IpAddress } from '../core/address.js';
import { messageOf } from '../core/errors.js';
import { labelsIn } from '../core/labels.js';
import { MANAGERS, type ForeignKey, type Manager } from '../core/manager.js';
import { parsePolicy, textsOf, type Policy } from '../core/policy/index.js';
import type { Claim, Endpoint, NodeRecord, OwnName, Removal } from '../core/records.js';
import type { ParsedKey } from './keys.js';
import {
  check,
  flag,
  integer,
  interfaceText,
  prefixText,
  ip,
  linkName,
  mac,
  parseJsonObject,
  text,
  UnreadableError,
  word,
} from '../core/parse.js';

const port = integer(1, 65535);

const PUBLISHED = z.object({
  hostIp: text,
  hostPort: port,
  port,
  protocol: z.enum(['tcp', 'udp'], { error: 'expected "tcp" or "udp"' }),
  everywhere: flag.default(false),
});

const key = text.min(1).max(512);

/**
 * The manager of an endpoint in etcd and the state directory. Release 0.1 writes and reads only `door`, and only for
 * Docker: the field stays beside `manager`, since such an agent would otherwise treat Docker's endpoints as its own.
 */
export const MANAGER_FIELDS = {
  manager: z.enum(MANAGERS).optional().catch(undefined),
  foreignKey: z
    .discriminatedUnion('manager', [
      z.object({ manager: z.literal('docker'), network: key, endpoint: key }),
      z.object({ manager: z.enum(['cni', 'netavark']), network: key, containerId: key, ifname: key }),
    ])
    .optional()
    .catch(undefined),
  door: z.literal('docker').optional().catch(undefined),
};

type ManagerFields = {
  manager?: Manager | undefined;
  foreignKey?: ForeignKey | undefined;
  door?: 'docker' | undefined;
};

/** The fields as the record has them. */
export function readManager<T extends ManagerFields>(
  fields: T,
): Omit<T, keyof ManagerFields> & Pick<Endpoint, 'manager' | 'foreignKey'> {
  const { manager: written, foreignKey, door, ...rest } = fields;
  const manager = written ?? door ?? 'weft';
  return { ...rest, manager, ...(foreignKey?.manager === manager && { foreignKey }) };
}

/** The fields as they are written. */
export const writeManager = <T extends Pick<Endpoint, 'manager'>>(record: T): T & { door?: 'docker' } => ({
  ...record,
  ...(record.manager === 'docker' && { door: 'docker' }),
});

/** What is no label is left out: it names a container, and must not hide it. */
export const LABELS = z.record(z.string(), z.string()).transform(labelsIn).optional().catch(undefined);

/** Bytes: MAX_PORTS ports, and all the rest. */
const MAX_ENDPOINT_BYTES = 1024 * 1024;

const ENDPOINT = z.object({
  name: word,
  explicitName: flag.default(false),
  node: word,
  target: word,
  sandbox: z.object({ path: word, cookie: text, bootId: text }),
  ifname: linkName,
  hostIfname: linkName,
  mac,
  ip: interfaceText,
  ip6: interfaceText.optional(),
  claimed: flag.optional(),
  defaultRoute: flag.default(false),
  aliases: z.array(text).default([]),
  allowedAddresses: z.array(prefixText).optional(),
  publish: z.array(PUBLISHED).default([]),
  vlan: integer(1, 4094).optional(),
  dns: flag.default(false),
  labels: LABELS,
  ...MANAGER_FIELDS,
  createdAt: text.default(''),
});

const CLAIM = z.object({
  node: word,
  endpoint: word,
  state: z.enum(['asked', 'granted', 'refused'], { error: 'expected "asked", "granted" or "refused"' }),
  why: text.optional(),
});

const NODE = z.object({
  instance: word,
  publicIp: ip,
  publicIp6: ip.optional(),
  underlayIp: ip.optional(),
  underlayIp6: ip.optional(),
  version: text.default(''),
  startedAt: text.default(''),
});

const OWN_NAME = z.object({
  ips: z
    .array(ip, { error: 'expected a list of IP addresses' })
    .min(1, { error: 'expected at least one address' }),
  createdAt: text.default(''),
});

const POLICY = z.object({
  from: z.array(text, { error: 'expected a list of selectors' }),
  to: z.array(text, { error: 'expected a list of selectors' }),
  ports: z.array(text).default([]),
  createdAt: text.default(''),
});

const REMOVAL = z.object({
  at: text.default(''),
  forced: flag.default(false),
  proof: text.optional().catch(undefined),
});

/** @throws UnreadableError */
export function decodeEndpoint(key: ParsedKey & { kind: 'endpoint' }, value: string): Endpoint {
  const { ip6, vlan, claimed, dns, labels, allowedAddresses, ...fields } = readManager(
    check(ENDPOINT, parseJsonObject(value, MAX_ENDPOINT_BYTES)),
  );
  return {
    id: key.id,
    network: key.network,
    ...fields,
    ...(ip6 !== undefined && { ip6 }),
    ...(vlan !== undefined && { vlan }),
    ...(claimed !== undefined && { claimed }),
    ...(dns && { dns }),
    ...(labels !== undefined && { labels }),
    ...(allowedAddresses !== undefined && { allowedAddresses }),
  };
}

export function encodeEndpoint({ id: _id, network: _network, ...fields }: Endpoint): string {
  return JSON.stringify(writeManager(fields));
}

/** @throws UnreadableError */
export function decodeClaim(key: ParsedKey & { kind: 'claim' }, value: string): Claim {
  const { why, ...fields } = check(CLAIM, parseJsonObject(value));
  return { network: key.network, ip: key.ip, ...fields, ...(why !== undefined && { why }) };
}

export function encodeClaim({ node, endpoint, state, why }: Claim): string {
  return JSON.stringify({ node, endpoint, state, why });
}

/** @throws UnreadableError */
export function decodeOwnName(key: ParsedKey & { kind: 'ownName' }, value: string): OwnName {
  return { network: key.network, name: key.name, ...check(OWN_NAME, parseJsonObject(value)) };
}

export function encodeOwnName({ ips, createdAt }: OwnName): string {
  return JSON.stringify({ ips, createdAt });
}

/** @throws UnreadableError */
export function decodeNode(name: string, value: string): NodeRecord {
  const { publicIp, publicIp6, underlayIp, underlayIp6, ...fields } = check(NODE, parseJsonObject(value));
  return {
    name,
    ...fields,
    publicIp: publicIp.toString(),
    ...(publicIp6 && { publicIp6: publicIp6.toString() }),
    ...(underlayIp && { underlayIp: underlayIp.toString() }),
    ...(underlayIp6 && { underlayIp6: underlayIp6.toString() }),
  };
}

export function encodeNode({ name: _name, ...fields }: NodeRecord): string {
  return JSON.stringify(fields);
}

/** @throws UnreadableError */
export function decodePolicy(name: string, value: string): Policy {
  const { createdAt, ...texts } = check(POLICY, parseJsonObject(value));
  try {
    return parsePolicy({ name, ...texts }, createdAt);
  } catch (error) {
    throw new UnreadableError(messageOf(error), { cause: error });
  }
}

export function encodePolicy(policy: Policy): string {
  const { from, to, ports } = textsOf(policy);
  return JSON.stringify({ from, to, ports, createdAt: policy.createdAt });
}

/** @throws UnreadableError */
export function decodeRemoval(kind: Removal['kind'], name: string, value: string): Removal {
  const { proof, ...removal } = check(REMOVAL, parseJsonObject(value));
  return { kind, name, ...removal, ...(proof !== undefined && { proof }) };
}

export function encodeRemoval({ at, forced, proof }: Removal): string {
  return JSON.stringify({ at, forced, proof });
}

/** The instance that holds a node's life lease. @throws UnreadableError */
export function decodeAlive(value: string): string {
  if (value === '' || value.length > 256)
    throw new UnreadableError('the value is not an instance id: 1 to 256 characters');
  return value;
}

/** The underlay addresses of a node. */
export const addressesOf = (node: NodeRecord): IpAddress[] =>
  [node.publicIp, node.publicIp6].flatMap((text) => {
    const address = text === undefined ? undefined : IpAddress.tryParse(text);
    return address === undefined ? [] : [address];
  });
