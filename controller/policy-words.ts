// The words of `weft policy test`: an id, an address, a name, a TARGET or a node, and what has them.
import { IpAddress } from '../core/address.js';
import { invalidArgument, notFound } from '../core/errors.js';
import { nodeSubjects, subjectOf, type Subject } from '../core/policy/index.js';
import type { Endpoint } from '../core/records.js';
import type { View } from '../store/store.js';

/** What a word means: its addresses, of one family once or more. */
export interface Meant {
  text: string;
  ips: readonly IpAddress[];
}

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

  /** Containers come before nodes. */
  subjectOf(ip: IpAddress): Subject | undefined {
    const has = ({ ips }: Subject): boolean => ips.some((one) => one.equals(ip));
    return this.#endpoints.map(subjectOf).find(has) ?? [...this.#nodes.values()].find(has);
  }

  /** @throws WeftError NOT_FOUND; INVALID_ARGUMENT for a word that means several */
  find(word: string): Meant {
    const address = IpAddress.tryParse(word);
    if (address !== undefined) return { text: word, ips: [address] };
    const isTarget = /^(?:netns|pid|docker|run):/.test(word);
    const fits: ((one: Endpoint) => boolean)[] = isTarget
      ? [({ target }) => target === word]
      : [
          ({ id }) => id === word,
          ({ name }) => name === word,
          ({ name, network }) => `${name}.${network}` === word,
          ({ target }) => target.replace(/^[a-z]+:(?:.*\/)?/, '') === word,
          ({ id }) => word.length >= 4 && id.startsWith(word),
        ];
    for (const isMeant of fits) {
      const found = this.#endpoints.filter(isMeant);
      const [one, ...others] = found;
      if (one === undefined) continue;
      if (others.length === 0) return { text: `${one.name}.${one.network}`, ips: subjectOf(one).ips };
      const names = found.slice(0, NAMED).map(({ id, name, network }) => `${id} (${name}.${network})`);
      throw invalidArgument(
        `${word} means ${found.length} endpoints: ${names.join(', ')}${found.length > NAMED ? ', …' : ''}`,
        'Give NAME.NETWORK, or an id.',
      );
    }
    const node = this.#nodes.get(`node ${word}`);
    if (node !== undefined && this.view.nodes.has(word)) return { text: `node ${word}`, ips: node.ips };
    throw notFound(
      `${word}: there is no endpoint, container or node of that name`,
      'See weft endpoint ls and weft node ls.',
    );
  }
}
