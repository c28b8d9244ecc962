// Errors for names that nothing has: what was looked for, and what was perhaps meant.
import { notFound, type WeftError } from '../core/errors.js';
import { didYouMean } from './suggest.js';

/** @param known the names that there are */
export function unknownName(
  kind: 'network' | 'node' | 'policy',
  name: string,
  known: Iterable<string>,
): WeftError {
  const hint = didYouMean(name, known);
  return notFound(`${kind} ${name}: there is no such ${kind}`, hint === '' ? `See weft ${kind} ls.` : hint);
}

/** What a word may be the name of, where it may name several kinds of things. */
export interface Places {
  endpoints: Iterable<{ name: string; network: string; aliases: readonly string[] }>;
  nodes: Iterable<{ name: string }>;
  /** Absent: the word does not mean networks. */
  networks?: Iterable<string> | undefined;
}

/** @param places where it was looked for */
export function unknownPlace(word: string, { endpoints, nodes, networks }: Places): WeftError {
  const known = [
    ...[...endpoints].flatMap(({ name, network, aliases }) => [name, ...aliases, `${name}.${network}`]),
    ...[...nodes].map(({ name }) => name),
    ...(networks ?? []),
  ];
  const [kinds, lists] =
    networks === undefined
      ? ['endpoint, container or node', 'weft endpoint ls and weft node ls']
      : ['endpoint, container, node or network', 'weft endpoint ls, weft node ls and weft network ls'];
  return notFound(
    `${word}: no ${kinds} is called so`,
    `${didYouMean(word, known)} See ${lists}.`.trimStart(),
  );
}
