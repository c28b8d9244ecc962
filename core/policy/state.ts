// The items of one node's policies, changed with each container and node at its own cost.
import type { ClassNumber, PolicyClasses } from './classes.js';
import type { PolicyAddress, PolicyChange, PolicyItem, PolicyPort, PolicyRules } from './items.js';
import type { Subject } from './selector.js';

export interface PolicyEntry {
  subject: Subject;
  /** A container of this node, which the node protects; with its port on a bridge that has an address of the node. */
  local?: { port?: { link: string; gateway: string } };
}

interface Entry {
  addresses: PolicyAddress[];
  port?: PolicyPort;
}

export class PolicyState {
  /** One object as long as this is: whoever compares them need not read them. */
  readonly rules: PolicyRules;
  /** All of them, by keys of their own. */
  readonly items = new Map<string, PolicyItem>();
  readonly #entries = new Map<string, Entry>();
  /** Of two with one address, the first by its key counts: two nodes may be behind one. */
  readonly #byIp = new Map<string, Map<string, PolicyAddress>>();
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
    };
  }

  /** Sets a container or a node; undefined: it is gone. @returns what changes */
  set(key: string, entry: PolicyEntry | undefined): PolicyChange[] {
    const before = this.#entries.get(key);
    const after = entry === undefined ? undefined : this.#compile(entry, before);
    if (after === undefined) this.#entries.delete(key);
    else this.#entries.set(key, after);
    const ips = new Set([...(before?.addresses ?? []), ...(after?.addresses ?? [])].map(({ ip }) => ip));
    const changes = [...ips].flatMap((ip) =>
      this.#setAddress(
        ip,
        key,
        after?.addresses.find((one) => one.ip === ip),
      ),
    );
    for (const link of new Set([before?.port?.link, after?.port?.link])) {
      if (link === undefined || before?.port === after?.port) continue;
      changes.push([`port ${link}`, after?.port?.link === link ? after.port : undefined]);
    }
    for (const [name, item] of changes)
      if (item === undefined) this.items.delete(name);
      else this.items.set(name, item);
    return changes;
  }

  /** What is as before is the same object: then it has not changed. */
  #compile({ subject, local }: PolicyEntry, before: Entry | undefined): Entry {
    const { classes } = this;
    const addresses = subject.ips.flatMap((address): PolicyAddress[] => {
      const ip = address.toString();
      const peer = classes.peerOf(subject, address);
      const target = local === undefined ? undefined : classes.targetOf(subject, address);
      if (peer === undefined && target === undefined) return [];
      const there = before?.addresses.find((one) => one.ip === ip);
      if (there !== undefined && there.peer === peer && there.target === target) return [there];
      return [
        {
          ...{ policy: 'address', ip },
          ...(peer !== undefined && { peer }),
          ...(target !== undefined && { target }),
        },
      ];
    });
    const closed = addresses.some(({ target }) => target !== undefined);
    if (local?.port === undefined) return { addresses };
    const { link, gateway } = local.port;
    const there = before?.port;
    const isThere = there?.link === link && there.gateway === gateway && there.closed === closed;
    return { addresses, port: isThere ? there : { policy: 'port', link, gateway, closed } };
  }

  #setAddress(ip: string, key: string, address: PolicyAddress | undefined): PolicyChange[] {
    const all = this.#byIp.get(ip) ?? new Map<string, PolicyAddress>();
    const before = first(all);
    if (address === undefined) all.delete(key);
    else all.set(key, address);
    if (all.size === 0) this.#byIp.delete(ip);
    else this.#byIp.set(ip, all);
    const after = first(all);
    if (before === after) return [];
    return [
      [`address ${ip}`, after],
      // What comes first: a class that stays keeps its verdicts.
      ...this.#count(this.#peers, after?.peer, before?.peer, (peer) =>
        [...this.classes.targetsFor(peer)]
          .filter((target) => this.#targets.has(target))
          .map((target) => [peer, target]),
      ),
      ...this.#count(this.#targets, after?.target, before?.target, (target) =>
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

function first(all: ReadonlyMap<string, PolicyAddress>): PolicyAddress | undefined {
  const [key] = [...all.keys()].toSorted();
  return key === undefined ? undefined : all.get(key);
}
