// Decodes one key and its value: a record, or why it is none.
import { decodeLease } from './lease-codec.js';
import { decodeConfig } from './network-codec.js';
import {
  decodeAlive,
  decodeClaim,
  decodeEndpoint,
  decodeNode,
  decodeOwnName,
  decodePolicy,
  decodeRemoval,
} from './record-codec.js';
import { UnreadableError } from '../core/parse.js';
import type { Network } from '../core/network.js';
import type { Policy } from '../core/policy/index.js';
import type { Claim, Endpoint, NodeRecord, OwnName, Removal } from '../core/records.js';
import type { ParsedKey } from './keys.js';
import type { StoredLease } from './store.js';

/** A record with the key fields under which the view keeps it. */
export type StoreRecord =
  | { kind: 'network'; name: string; value: Network }
  | { kind: 'lease'; network: string; subnet: string; value: StoredLease }
  | { kind: 'endpoint'; network: string; id: string; value: Endpoint }
  | { kind: 'claim'; network: string; ip: string; value: Claim }
  | { kind: 'ownName'; network: string; name: string; value: OwnName }
  | { kind: 'node'; name: string; value: NodeRecord }
  | { kind: 'alive'; name: string; value: string }
  | { kind: 'policy'; name: string; value: Policy }
  | { kind: 'removal'; key: string; value: Removal };

/** Returns undefined for keys that are not part of the view. */
export function decodeRecord(
  key: ParsedKey,
  value: string,
  etcdLease: string,
): { record: StoreRecord } | { bad: string } | undefined {
  try {
    const record = decode(key, value, etcdLease);
    return record && { record };
  } catch (error) {
    if (error instanceof UnreadableError) return { bad: error.message };
    throw error;
  }
}

function decode(key: ParsedKey, value: string, etcdLease: string): StoreRecord | undefined {
  switch (key.kind) {
    case 'network':
      return { kind: 'network', name: key.name, value: decodeConfig(key.name, value) };
    case 'lease':
      return {
        kind: 'lease',
        network: key.network,
        subnet: key.subnet.toString(),
        value: decodeLease(key, value, etcdLease),
      };
    case 'endpoint':
      return { kind: 'endpoint', network: key.network, id: key.id, value: decodeEndpoint(key, value) };
    case 'claim':
      return { kind: 'claim', network: key.network, ip: key.ip.toString(), value: decodeClaim(key, value) };
    case 'ownName':
      return { kind: 'ownName', network: key.network, name: key.name, value: decodeOwnName(key, value) };
    case 'node':
      return { kind: 'node', name: key.name, value: decodeNode(key.name, value) };
    case 'alive':
      return { kind: 'alive', name: key.name, value: decodeAlive(value) };
    case 'policy':
      return { kind: 'policy', name: key.name, value: decodePolicy(key.name, value) };
    case 'removal':
      return { kind: 'removal', key: `${key.of} ${key.name}`, value: decodeRemoval(key.of, key.name, value) };
    case 'bad':
      throw new UnreadableError(key.why);
    case 'endpointName':
    case 'allocated':
    case 'leader':
    case 'other':
      return undefined;
  }
}
