// The items of one node's policies, changed with each container and node at its own cost.
import type { ClassNumber, PolicyClasses } from './classes.js';
import type {
  PolicyChange,
  PolicyWay,
  PolicyItem,
  PolicyPort,
  PolicyPublished,
  PolicyRules,
} from './items.js';
import type { Subject } from './selector.js';

export interface PolicyEntry {
  subject?: Subject;
  /** A container of this node, which the node protects; with its port on a bridge that has an address of the node. */
  local?: { port?: Omit<PolicyPort, 'policy' | 'closed'> };
  /** Of this node itself: bridges by which its containers reach it. */
  bridges?: readonly string[];
  /** Ports of nodes that lead to a container. */
  published?: readonly Omit<PolicyPublished, 'policy'>[];
}

/** By their keys. */
type Items = Map<string, PolicyItem>;

export class PolicyState {
  /** One object as long as this is: whoever compares them need not read them. */
  readonly rules: PolicyRules;
  /** All of them, by keys of their own. */
  readonly items: Items = new Map();
  readonly #entries = new Map<string, Items>();
  /**
   * Of two with one address, a target counts, which another node's record must not open; then the first by its key: two nodes
   * may be behind one.
   */
  readonly #byKey = new Map<string, Items>();
  readonly #peers = new Map<ClassNumber, number>();
  readonly #targets = new Map<ClassNumber, number>();

  constructor(readonly classes: PolicyClasses) {
    for (const { peer } of classes.ranges) this.#peers.set(peer, 1);
    this.rules = {
      ranges: classes.ranges.map(({ family, first, last, peer }) => ({
        ...{ family, peer },
        first: first.toString(),
        last: last.toString(),
      })),
      ...(classes.closesHosts && { closesHosts: true }),
    };
  }

  /** Sets a container or a node; undefined: it is gone. @returns what changes */
  set(key: string, entry: PolicyEntry | undefined): PolicyChange[] {
    const before = this.#entries.get(key);
    const after = entry === undefined ? undefined : this.#compile(entry, before);
    if (after === undefined) this.#entries.delete(key);
    else this.#entries.set(key, after);
    const names = new Set([...(before?.keys() ?? []), ...(after?.keys() ?? [])]);
    const changes = [...names].flatMap((name) => this.#setItem(name, key, after?.get(name)));
    for (const [name, item] of changes)
      if (item === undefined) this.items.delete(name);
      else this.items.set(name, item);
    return changes;
  }

  /** What is as before is the same object: then it has not changed. */
  #compile({ subject, local, bridges = [], published = [] }: PolicyEntry, before: Items | undefined): Items {
    const items: Items = new Map();
    const add = (name: string, item: PolicyItem): void => {
      const there = before?.get(name);
      items.set(name, there !== undefined && JSON.stringify(there) === JSON.stringify(item) ? there : item);
    };
    let closed = false;
    for (const address of subject?.ips ?? []) {
      if (subject === undefined) break;
      const ip = address.toString();
      const peer = this.classes.peerOf(subject, address);
      const isTarget = local !== undefined || subject.host === true;
      const target = isTarget ? this.classes.targetOf(subject, address) : undefined;
      if (peer === undefined && target === undefined) continue;
      closed ||= target !== undefined;
      add(`address ${ip}`, {
        ...{ policy: 'address', ip },
        ...(peer !== undefined && { peer }),
        ...(target !== undefined && { target, ...(subject.host === true && { host: true }) }),
      });
    }
    if (local?.port !== undefined) add(`port ${local.port.link}`, { policy: 'port', ...local.port, closed });
    if (!this.classes.closesHosts) return items;
    for (const link of bridges) {
      const target = subject && this.classes.targetOf(subject, undefined);
      const way: PolicyWay = { policy: 'way', link, ...(target !== undefined && { target }) };
      add(`way ${link}`, way);
    }
    for (const port of published)
      add(`published ${port.ip} ${port.protocol} ${port.port}`, { policy: 'published', ...port });
    return items;
  }

  #setItem(name: string, key: string, item: PolicyItem | undefined): PolicyChange[] {
    const all: Items = this.#byKey.get(name) ?? new Map();
    const before = first(all);
    if (item === undefined) all.delete(key);
    else all.set(key, item);
    if (all.size === 0) this.#byKey.delete(name);
    else this.#byKey.set(name, all);
    const after = first(all);
    if (before === after) return [];
    const [is, was] = [classesOf(after), classesOf(before)];
    return [
      [name, after],
      // What comes first: a class that stays keeps its verdicts.
      ...this.#count(this.#peers, is.peer, was.peer, (peer) =>
        [...this.classes.targetsFor(peer)]
          .filter((target) => this.#targets.has(target))
          .map((target) => [peer, target]),
      ),
      ...this.#count(this.#targets, is.target, was.target, (target) =>
        [...this.classes.peersFor(target)]
          .filter((peer) => this.#peers.has(peer))
          .map((peer) => [peer, target]),
      ),
    ];
  }

  #count(
    used: Map<ClassNumber, number>,
    comes: ClassNumber | undefined,
    goes: ClassNumber | undefined,
    pairsOf: (one: ClassNumber) => [peer: ClassNumber, target: ClassNumber][],
  ): PolicyChange[] {
    if (comes === goes) return [];
    const changes: PolicyChange[] = [];
    if (comes !== undefined) {
      const count = (used.get(comes) ?? 0) + 1;
      used.set(comes, count);
      if (count === 1) changes.push(...pairsOf(comes).flatMap((pair) => this.#verdicts(...pair)));
    }
    if (goes !== undefined) {
      const count = (used.get(goes) ?? 0) - 1;
      if (count > 0) used.set(goes, count);
      else {
        for (const pair of pairsOf(goes))
          changes.push(...this.#verdicts(...pair).map(([key]): PolicyChange => [key, undefined]));
        used.delete(goes);
      }
    }
    return changes;
  }

  #verdicts(peer: ClassNumber, target: ClassNumber): PolicyChange[] {
    const allowed = this.classes.allowed(peer, target);
    const about = { policy: 'verdict', peer, target } as const;
    if (allowed === 'everything') return [[`verdict ${peer} ${target}`, about]];
    return allowed.map((ports) => [
      `verdict ${peer} ${target} ${ports.protocol} ${ports.first}`,
      { ...about, ports },
    ]);
  }
}

/** Those that an item needs verdicts of. */
function classesOf(item: PolicyItem | undefined): { peer?: ClassNumber; target?: ClassNumber } {
  return item?.policy === 'address' || item?.policy === 'way' ? item : {};
}

function first(all: Items): PolicyItem | undefined {
  const [item, ...others] = [...all.keys()].toSorted().map((key) => all.get(key));
  if (others.length === 0) return item;
  return [item, ...others].find((one) => classesOf(one).target !== undefined) ?? item;
}
