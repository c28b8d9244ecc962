// The maps behind the view: insert and delete records, return the changes.
//
// Changed in place, so that one event costs what its one record costs, however large the cluster is.
import type { Network } from '../core/network.js';
import type { Policy } from '../core/policy/index.js';
import type { BadRecord, Claim, Endpoint, NodeRecord, OwnName, Removal } from '../core/records.js';
import type { StoreRecord } from './decode.js';
import type { Change, StoredLease, View } from './store.js';

export class LiveView implements View {
  readonly networks = new Map<string, Network>();
  readonly leases = new Map<string, Map<string, StoredLease>>();
  readonly endpoints = new Map<string, Map<string, Endpoint>>();
  readonly claims = new Map<string, Map<string, Claim>>();
  readonly names = new Map<string, Map<string, OwnName>>();
  readonly nodes = new Map<string, NodeRecord>();
  readonly alive = new Map<string, string>();
  readonly policies = new Map<string, Policy>();
  readonly removals = new Map<string, Removal>();
  readonly bad = new Map<string, BadRecord>();

  put(record: StoreRecord): Change {
    switch (record.kind) {
      case 'network':
        return { kind: 'network', name: record.name, ...set(this.networks, record.name, record.value) };
      case 'lease': {
        const { network, subnet, value } = record;
        return { kind: 'lease', network, subnet, ...set(inner(this.leases, network), subnet, value) };
      }
      case 'endpoint': {
        const { network, id, value } = record;
        return { kind: 'endpoint', network, id, ...set(inner(this.endpoints, network), id, value) };
      }
      case 'claim': {
        const { network, ip, value } = record;
        return { kind: 'claim', network, ip, ...set(inner(this.claims, network), ip, value) };
      }
      case 'ownName': {
        const { network, name, value } = record;
        return { kind: 'ownName', network, name, ...set(inner(this.names, network), name, value) };
      }
      case 'node':
        return { kind: 'node', name: record.name, ...set(this.nodes, record.name, record.value) };
      case 'alive':
        return { kind: 'alive', name: record.name, ...set(this.alive, record.name, record.value) };
      case 'policy':
        return { kind: 'policy', name: record.name, ...set(this.policies, record.name, record.value) };
      case 'removal':
        return { kind: 'removal', key: record.key, ...set(this.removals, record.key, record.value) };
    }
  }

  remove(record: StoreRecord): Change {
    switch (record.kind) {
      case 'network':
        this.networks.delete(record.name);
        return { kind: 'network', name: record.name, before: record.value };
      case 'lease':
        removeInner(this.leases, record.network, record.subnet);
        return { kind: 'lease', network: record.network, subnet: record.subnet, before: record.value };
      case 'endpoint':
        removeInner(this.endpoints, record.network, record.id);
        return { kind: 'endpoint', network: record.network, id: record.id, before: record.value };
      case 'claim':
        removeInner(this.claims, record.network, record.ip);
        return { kind: 'claim', network: record.network, ip: record.ip, before: record.value };
      case 'ownName':
        removeInner(this.names, record.network, record.name);
        return { kind: 'ownName', network: record.network, name: record.name, before: record.value };
      case 'node':
        this.nodes.delete(record.name);
        return { kind: 'node', name: record.name, before: record.value };
      case 'alive':
        this.alive.delete(record.name);
        return { kind: 'alive', name: record.name, before: record.value };
      case 'policy':
        this.policies.delete(record.name);
        return { kind: 'policy', name: record.name, before: record.value };
      case 'removal':
        this.removals.delete(record.key);
        return { kind: 'removal', key: record.key, before: record.value };
    }
  }

  putBad(bad: BadRecord): Change {
    return { kind: 'bad', key: bad.key, ...set(this.bad, bad.key, bad) };
  }

  removeBad(bad: BadRecord): Change {
    this.bad.delete(bad.key);
    return { kind: 'bad', key: bad.key, before: bad };
  }
}

function set<T>(map: Map<string, T>, key: string, after: T): { before?: T; after: T } {
  const before = map.get(key);
  map.set(key, after);
  return before === undefined ? { after } : { before, after };
}

function inner<T>(maps: Map<string, Map<string, T>>, key: string): Map<string, T> {
  let map = maps.get(key);
  if (map === undefined) maps.set(key, (map = new Map()));
  return map;
}

function removeInner<T>(maps: Map<string, Map<string, T>>, outer: string, key: string): void {
  const map = maps.get(outer);
  map?.delete(key);
  if (map?.size === 0) maps.delete(outer);
}
