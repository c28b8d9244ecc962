// Classes: sources, and targets, that every policy treats alike.
//
// A source's class is the set of selectors that mean it, a target's the set of policies that select it. A class has its number from
// what it is (a hash): it is the same on every node and after every restart, and belongs to no other class.
import { createHash } from 'node:crypto';

import type { IpAddress } from '../address.js';
import { addressRanges, type AddressRange } from './address-ranges.js';
import { askForLabels, isIsolated } from './evaluate.js';
import type { Policy, PortRange } from './policy.js';
import {
  holdsAddress,
  isOfAddresses,
  isOfHosts,
  selects,
  selectsTarget,
  type Selector,
  type Subject,
} from './selector.js';

/** Both halves are 1 to 65534: it is a packet mark, and a class of traffic control. */
export type ClassNumber = number;

/** What a source's class may send to a target's. */
export type Allowed = 'everything' | readonly PortRange[];

export class PolicyClasses {
  /** Places in the order of the policies. */
  readonly #order: ReadonlyMap<Policy, number>;
  readonly #askForLabels: boolean;
  readonly #from: SelectorIndex;
  readonly #to: SelectorIndex;
  /** Policies by the text of each of their targets' selectors. */
  readonly #byTo = new Map<string, Policy[]>();
  /** Of sources: the texts of their selectors. */
  readonly #peers = new Map<ClassNumber, ReadonlySet<string>>();
  /** Of targets: the policies that select them. */
  readonly #targets = new Map<ClassNumber, readonly Policy[]>();
  readonly #byFrom = new Map<string, Policy[]>();
  readonly #peersOf = new Map<string, Set<ClassNumber>>();
  readonly #targetsOf = new Map<Policy, Set<ClassNumber>>();
  readonly #numbers = new Map<string, ClassNumber>();
  readonly ranges: readonly (AddressRange & { peer: ClassNumber })[];
  /** Whether some policy's target is a node. */
  readonly closesHosts: boolean;

  constructor(
    readonly policies: readonly Policy[],
    readonly isolated: ReadonlySet<string>,
  ) {
    this.#order = new Map(policies.map((policy, n) => [policy, n]));
    this.#askForLabels = askForLabels(policies);
    this.closesHosts = policies.some(({ to }) => to.some(isOfHosts));
    this.#from = new SelectorIndex(policies.flatMap(({ from }) => from));
    this.#to = new SelectorIndex(policies.flatMap(({ to }) => to));
    for (const policy of policies) {
      for (const { text } of policy.to) push(this.#byTo, text, policy);
      for (const { text } of policy.from) push(this.#byFrom, text, policy);
    }
    this.ranges = addressRanges(this.#from.ofAddresses).map(({ selectors, ...range }) => ({
      ...range,
      peer: this.#peer(selectors),
    }));
  }

  /** Whether there is anything to enforce. */
  get isUsed(): boolean {
    return this.policies.length > 0 || this.isolated.size > 0;
  }

  /** The class of a source; undefined: only what is said of addresses counts. */
  peerOf(subject: Subject, ip: IpAddress): ClassNumber | undefined {
    const found = this.#from.meaning(subject, ip);
    return found.length === 0 ? undefined : this.#peer(found);
  }

  /** The class of a target; undefined: it is open. @param ip undefined: one that is not known, of a node */
  targetOf(subject: Subject, ip: IpAddress | undefined): ClassNumber | undefined {
    if (subject.host === true ? !this.closesHosts : subject.network === undefined) return undefined;
    if (subject.unlabelled === true && this.#askForLabels && subject.host !== true) return this.#target([]);
    const found = [
      ...this.#to.meaning(subject, ip),
      ...(ip === undefined ? [] : this.#to.ofAddresses.filter((selector) => holdsAddress(selector, ip))),
    ].filter((selector) => selectsTarget(selector, subject, ip));
    if (found.length === 0 && !isIsolated(this.isolated, subject)) return undefined;
    const selecting = new Set(found.flatMap(({ text }) => this.#byTo.get(text) ?? []));
    const placeOf = (policy: Policy): number => this.#order.get(policy) ?? 0;
    return this.#target([...selecting].toSorted((a, b) => placeOf(a) - placeOf(b)));
  }

  #target(policies: readonly Policy[]): ClassNumber {
    const number = this.#numberOf(
      'to',
      policies.map(({ name }) => name),
    );
    if (this.#targets.has(number)) return number;
    this.#targets.set(number, policies);
    for (const policy of policies) add(this.#targetsOf, policy, number);
    return number;
  }

  allowed(peer: ClassNumber, target: ClassNumber): Allowed {
    const selectors = this.#peers.get(peer);
    const policies = (this.#targets.get(target) ?? []).filter(({ from }) =>
      from.some(({ text }) => selectors?.has(text) === true),
    );
    if (policies.some(({ ports }) => ports.length === 0)) return 'everything';
    return merged(policies.flatMap(({ ports }) => ports));
  }

  /** Sources that may send something to the target. */
  peersFor(target: ClassNumber): Set<ClassNumber> {
    const selectors = (this.#targets.get(target) ?? []).flatMap(({ from }) => from);
    return new Set(selectors.flatMap(({ text }) => [...(this.#peersOf.get(text) ?? [])]));
  }

  /** Targets that the source may send something to. */
  targetsFor(peer: ClassNumber): Set<ClassNumber> {
    const policies = [...(this.#peers.get(peer) ?? [])].flatMap((text) => this.#byFrom.get(text) ?? []);
    return new Set(policies.flatMap((policy) => [...(this.#targetsOf.get(policy) ?? [])]));
  }

  #peer(selectors: readonly Selector[]): ClassNumber {
    const texts = new Set(selectors.map(({ text }) => text));
    const number = this.#numberOf('from', [...texts].toSorted());
    if (this.#peers.has(number)) return number;
    this.#peers.set(number, texts);
    for (const text of texts) add(this.#peersOf, text, number);
    return number;
  }

  #numberOf(side: 'from' | 'to', members: readonly string[]): ClassNumber {
    const what = JSON.stringify([side, ...members]);
    const known = this.#numbers.get(what);
    if (known !== undefined) return known;
    const number = freeNumber(what, side === 'from' ? this.#peers : this.#targets);
    this.#numbers.set(what, number);
    return number;
  }
}

/** Two classes of one hash are rarer than one in a million clusters of 50 classes: the later one is then hashed again. */
function freeNumber(what: string, taken: { has: (number: ClassNumber) => boolean }): ClassNumber {
  for (let salt = ''; ; salt += '+') {
    const hash = createHash('sha256')
      .update(what + salt)
      .digest();
    const [high, low] = [hash.readUInt16BE(0), hash.readUInt16BE(2)].map((half) => 1 + (half % 0xfffe));
    const number = (high ?? 1) * 0x1_0000 + (low ?? 1);
    if (!taken.has(number)) return number;
  }
}

/** Selectors by a term that must hold: a container is compared with those alone that may mean it. */
class SelectorIndex {
  readonly ofAddresses: readonly Selector[];
  /** By kinds of terms, or keys of labels, and their values. */
  readonly #byTerm = new Map<string, Map<string, Selector[]>>();

  constructor(all: readonly Selector[]) {
    const distinct = [...new Map(all.map((one) => [one.text, one])).values()];
    this.ofAddresses = distinct.filter(isOfAddresses);
    for (const selector of distinct) {
      if (isOfAddresses(selector)) continue;
      const [kind, value] = rarestTerm(selector);
      const values = this.#byTerm.get(kind) ?? new Map<string, Selector[]>();
      push(values, value, selector);
      this.#byTerm.set(kind, values);
    }
  }

  /** Those that mean the subject, beside those of addresses alone. */
  meaning(subject: Subject, ip: IpAddress | undefined): Selector[] {
    const found: Selector[] = [];
    if (this.#byTerm.size === 0) return found;
    for (const [kind, value] of termsOf(subject))
      for (const selector of this.#byTerm.get(kind)?.get(value) ?? [])
        if (selects(selector, subject, ip)) found.push(selector);
    return found;
  }
}

function push<K, V>(map: Map<K, V[]>, key: K, value: V): void {
  const list = map.get(key);
  if (list === undefined) map.set(key, [value]);
  else list.push(value);
}

function add<K, V>(map: Map<K, Set<V>>, key: K, value: V): void {
  const there = map.get(key);
  if (there === undefined) map.set(key, new Set([value]));
  else there.add(value);
}

const RARITY = ['name', 'label', 'node', 'network', 'host'] as const;
const OF_LABEL = 'label:';

/** Its kind, of a label with the key, and its value. */
function rarestTerm({ terms }: Selector): [kind: string, value: string] {
  for (const kind of RARITY) {
    const term = terms.find((one) => one.kind === kind);
    if (term?.kind === 'label') return [OF_LABEL + term.key, term.value];
    if (term !== undefined && term.kind !== 'cidr') return [kind, 'value' in term ? term.value : ''];
  }
  return ['', ''];
}

function* termsOf({ host, name, network, node, labels = {} }: Subject): Iterable<[string, string]> {
  if (host === true) yield ['host', ''];
  if (name !== undefined) yield ['name', name];
  if (network !== undefined) yield ['network', network];
  if (node !== undefined) yield ['node', node];
  for (const [key, value] of Object.entries(labels)) yield [OF_LABEL + key, value];
}

/** Without overlaps, in order. */
function merged(ranges: readonly PortRange[]): PortRange[] {
  const sorted = ranges.toSorted(
    (a, b) => Number(a.protocol > b.protocol) - Number(a.protocol < b.protocol) || a.first - b.first,
  );
  const found: PortRange[] = [];
  for (const range of sorted) {
    const before = found.at(-1);
    if (before?.protocol === range.protocol && range.first <= before.last + 1)
      found[found.length - 1] = { ...before, last: Math.max(before.last, range.last) };
    else found.push(range);
  }
  return found;
}
