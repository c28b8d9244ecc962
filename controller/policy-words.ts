// The words of `weft policy test`, and what has an address.
import { IpAddress } from '../core/address.js';
import { find } from '../core/find.js';
import { invalidArgument } from '../core/errors.js';
import { nodeSubjects, subjectOf, type PolicyWorld, type Subject } from '../core/policy/index.js';
import type { Endpoint } from '../core/records.js';
import { unknownPlace } from '../daemon/unknown.js';
import type { View } from '../store/store.js';

/** What a word means: its addresses, of one family once or more. */
export interface Meant {
  text: string;
  ips: readonly IpAddress[];
}

/** What a person writes, and ids of the endpoints of what the asking host means by it as a TARGET. */
export interface Word {
  word: string;
  here: readonly string[];
}

const HOST = 'host';

/** How many an ambiguous word names. */
const NAMED = 5;

export class PolicyWords {
  readonly #endpoints: readonly Endpoint[];
  readonly #nodes: ReadonlyMap<string, Subject>;

  constructor(private readonly view: View) {
    this.#endpoints = [...view.endpoints.values()].flatMap((all) => [...all.values()]);
    this.#nodes = nodeSubjects({
      nodes: view.nodes.values(),
      leases: [...view.leases.values()].flatMap((all) => [...all.values()]),
    });
  }

  /** What the records say, for judge: policies in the order of their names. */
  get world(): PolicyWorld {
    const { policies, networks } = this.view;
    return {
      policies: [...policies.values()].toSorted((a, b) => (a.name < b.name ? -1 : 1)),
      isolated: new Set([...networks.values()].flatMap((one) => (one.isolated === true ? [one.name] : []))),
      subjectOf: (ip) => this.subjectOf(ip),
    };
  }

  /** Containers come before nodes. */
  subjectOf(ip: IpAddress): Subject | undefined {
    const has = ({ ips }: Subject): boolean => ips.some((one) => one.equals(ip));
    return this.#endpoints.map(subjectOf).find(has) ?? [...this.#nodes.values()].find(has);
  }

  /** Two words; of them `host` is the host of the other one, such as its container. @throws WeftError as find */
  both(from: Word, to: Word): [from: Meant, to: Meant] {
    const hostOf = (other: Word): Meant => {
      const { text, ips } = this.find(other.word, other.here);
      const node = ips.map((ip) => this.subjectOf(ip)?.node).find((name) => name !== undefined);
      const host = node === undefined ? undefined : this.#nodes.get(`node ${node}`);
      if (node === undefined || host === undefined)
        throw invalidArgument(`host: ${text} is on no host that is known`, 'Give the name of a node.');
      return { text: `node ${node}`, ips: host.ips };
    };
    const find = (one: Word, other: Word): Meant =>
      one.word === HOST && other.word !== HOST ? hostOf(other) : this.find(one.word, one.here);
    return [find(from, to), find(to, from)];
  }

  /**
   * @param here ids of the endpoints of what the asking host means by the word as a TARGET
   * @throws WeftError NOT_FOUND; INVALID_ARGUMENT for a word that means several
   */
  find(word: string, here: readonly string[] = []): Meant {
    const address = IpAddress.tryParse(word);
    if (address !== undefined) return { text: word, ips: [address] };
    const nodes = [...this.view.nodes.values()];
    const found = find(word, { endpoints: this.#endpoints, nodes }, here);
    const endpoints = found.flatMap((one) => (one.kind === 'endpoint' ? one.endpoint : []));
    const [one] = endpoints;
    if (one !== undefined && endpoints.length === 1)
      return { text: `${one.name}.${one.network}`, ips: subjectOf(one).ips };
    if (one !== undefined) {
      const names = endpoints.slice(0, NAMED).map(({ id, name, network }) => `${id} (${name}.${network})`);
      throw invalidArgument(
        `${word} means ${endpoints.length} endpoints: ${names.join(', ')}${endpoints.length > NAMED ? ', …' : ''}`,
        'Give NAME.NETWORK, or an id.',
      );
    }
    const node = found.some(({ kind }) => kind === 'node') ? this.#nodes.get(`node ${word}`) : undefined;
    if (node !== undefined) return { text: `node ${word}`, ips: node.ips };
    throw unknownPlace(word, { endpoints: this.#endpoints, nodes });
  }
}
