// Finds what a person means by a word: an endpoint or a node.
//
// The order is that of the documents: a prefix, an id, an address, an endpoint's name, a TARGET, a node. The first of these
// that fits anything counts, so that a name never loses against the beginning of an id.
import { IpAddress } from './address.js';
import { canonicalForms, normalNetns, PREFIXED_TARGET } from './target.js';

export interface FindableEndpoint {
  id: string;
  name: string;
  network: string;
  node: string;
  target: string;
  hostIfname: string;
  mac: string;
  /** With prefix lengths; empty or absent: none. */
  ip: string;
  ip6?: string | undefined;
  aliases: readonly string[];
}

export interface FindableNode {
  name: string;
  publicIp: string;
  publicIp6?: string | undefined;
}

export type Found<E> = { kind: 'endpoint'; endpoint: E } | { kind: 'node'; node: string };

/** As many digits of an id as tables show. */
const SHOWN_OF_ID = 12;

/**
 * All that it may mean; several: it is ambiguous.
 * @param here ids of the endpoints of what the asking host itself means by the word as a TARGET: they come before others
 */
export function find<E extends FindableEndpoint>(
  word: string,
  { endpoints, nodes }: { endpoints: readonly E[]; nodes: readonly FindableNode[] },
  here: readonly string[] = [],
): Found<E>[] {
  const where = (fits: (endpoint: E) => boolean): Found<E>[] =>
    endpoints.filter(fits).map((endpoint) => ({ kind: 'endpoint', endpoint }));
  const asTarget = (): Found<E>[] => {
    const own = where(({ id }) => here.includes(id));
    const forms = targetsOf(word);
    return own.length > 0 ? own : where(({ target }) => forms.includes(target));
  };
  if (PREFIXED_TARGET.test(word)) return asTarget();
  const ip = IpAddress.tryParse(word)?.toString();
  const mac = word.toLowerCase().replaceAll('-', ':');
  const steps: (() => Found<E>[])[] = [
    () => where(({ id }) => id === word || (word.length >= SHOWN_OF_ID && id.startsWith(word))),
    () =>
      ip === undefined
        ? where((one) => one.mac === mac)
        : [
            ...where((one) => [one.ip, one.ip6].some((text) => text?.split('/')[0] === ip)),
            ...nodesAt(ip, nodes),
          ],
    () =>
      where(({ name, network, aliases }) =>
        [name, ...aliases].some((one) => one === word || `${one}.${network}` === word),
      ),
    () => where(({ hostIfname }) => hostIfname === word),
    asTarget,
    () => nodes.filter(({ name }) => name === word).map(({ name }) => ({ kind: 'node', node: name })),
    () => where(({ id }) => id.startsWith(word)),
  ];
  for (const step of steps) {
    const found = step();
    if (found.length > 0) return found;
  }
  return [];
}

/** As records have it; a path is that of a namespace. */
function targetsOf(word: string): string[] {
  if (word.startsWith('/')) return [`netns:${normalNetns(word)}`];
  try {
    return canonicalForms(word);
  } catch {
    return [];
  }
}

const nodesAt = (ip: string, nodes: readonly FindableNode[]): { kind: 'node'; node: string }[] =>
  nodes
    .filter(({ publicIp, publicIp6 }) => publicIp === ip || publicIp6 === ip)
    .map(({ name }) => ({ kind: 'node', node: name }));
