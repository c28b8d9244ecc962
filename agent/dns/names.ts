// The table of names: addresses by network and name, and the reverse.
//
// Every endpoint and every name added by hand is an entry; a changed entry costs its own names, however many others exist.
import { parseInterface, type IpAddress } from '../../core/address.js';
import { isDnsName } from '../../core/names.js';
import type { Endpoint, OwnName } from '../../core/records.js';

/** An entry: names for one or several addresses. */
export interface Entry {
  network: string;
  /** As written by the user. */
  name: string;
  /** Every name in lower case, the main one first. */
  names: readonly string[];
  addresses: readonly IpAddress[];
  origin:
    | { kind: 'endpoint'; id: string; node: string; target: string }
    /** Given by `weft dns add`. */
    | { kind: 'own' };
}

const NONE: readonly Entry[] = [];

export class NameTable {
  readonly #entries = new Map<string, Entry>();
  /** By network, then by name in lower case. */
  readonly #byName = new Map<string, Map<string, Entry[]>>();
  /** By the text of the address. */
  readonly #byAddress = new Map<string, Entry[]>();
  #generation = 0;

  /** Changes with every change of the table. */
  get generation(): number {
    return this.#generation;
  }

  /** Each entry once, with its key. */
  entries(): Iterable<[string, Entry]> {
    return this.#entries;
  }

  find(network: string, name: string): readonly Entry[] {
    return this.#byName.get(network)?.get(name) ?? NONE;
  }

  findAddress(ip: string): readonly Entry[] {
    return this.#byAddress.get(ip) ?? NONE;
  }

  /** @param key identity of the entry, independent of its content */
  put(key: string, entry: Entry): void {
    const before = this.#entries.get(key);
    if (before !== undefined) {
      if (sameEntry(before, entry)) return;
      this.#unlink(before);
    }
    this.#generation++;
    this.#entries.set(key, entry);
    const names = inner(this.#byName, entry.network);
    for (const name of entry.names) append(names, name, entry);
    for (const ip of entry.addresses) append(this.#byAddress, ip.toString(), entry);
  }

  remove(key: string): void {
    const entry = this.#entries.get(key);
    if (entry === undefined) return;
    this.#generation++;
    this.#entries.delete(key);
    this.#unlink(entry);
  }

  #unlink(entry: Entry): void {
    const names = this.#byName.get(entry.network);
    if (names !== undefined) {
      for (const name of entry.names) takeOut(names, name, entry);
      if (names.size === 0) this.#byName.delete(entry.network);
    }
    for (const ip of entry.addresses) takeOut(this.#byAddress, ip.toString(), entry);
  }
}

export function endpointEntry(endpoint: Endpoint): Entry {
  const { network, name, aliases, ip, ip6, id, node, target } = endpoint;
  return {
    network,
    name,
    // A name that is no valid DNS name is left out; the endpoint may have other names.
    names: [...new Set([name, ...aliases].filter(isDnsName).map((one) => one.toLowerCase()))],
    addresses: [ip, ...(ip6 === undefined ? [] : [ip6])].map((text) => parseInterface(text).address),
    origin: { kind: 'endpoint', id, node, target },
  };
}

export const ownNameEntry = ({ network, name, ips }: OwnName): Entry => ({
  network,
  name,
  names: [name.toLowerCase()],
  addresses: ips,
  origin: { kind: 'own' },
});

const sameEntry = (a: Entry, b: Entry): boolean => JSON.stringify(a) === JSON.stringify(b);

function inner<T>(maps: Map<string, Map<string, T>>, key: string): Map<string, T> {
  let map = maps.get(key);
  if (map === undefined) maps.set(key, (map = new Map()));
  return map;
}

function append(map: Map<string, Entry[]>, key: string, entry: Entry): void {
  const list = map.get(key);
  if (list === undefined) map.set(key, [entry]);
  else list.push(entry);
}

function takeOut(map: Map<string, Entry[]>, key: string, entry: Entry): void {
  const list = map.get(key);
  const at = list?.indexOf(entry) ?? -1;
  if (list === undefined || at < 0) return;
  if (list.length === 1) map.delete(key);
  else list.splice(at, 1);
}
