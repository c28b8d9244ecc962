// Selectors of policies: which containers, nodes or addresses are meant.
//
//   role=db,network=blue     a container of network blue whose label role is db
//   host,node=h1             the node h1 itself
//   cidr=198.51.100.0/24     whatever has an address in it
//
// All terms of a selector hold. A policy has several selectors, of which one is enough.
import { IpNetwork, type IpAddress } from '../address.js';
import { invalidArgument } from '../errors.js';
import { isLabelKey, isLabelValue, type Labels } from '../labels.js';
import { parseName, parseNetworkName } from '../network.js';

export type Term =
  | { kind: 'label'; key: string; value: string }
  | { kind: 'name' | 'network' | 'node'; value: string }
  | { kind: 'cidr'; prefix: IpNetwork }
  | { kind: 'host' | 'any' };

export interface Selector {
  terms: readonly Term[];
  /** In one spelling: equal texts are equal selectors. */
  text: string;
}

/** A container, or a node itself. */
export interface Subject {
  /** A node: only selectors with the term `host` mean it, and those of addresses alone. */
  host?: true;
  node?: string;
  network?: string;
  name?: string;
  labels?: Labels;
  /** Its labels are not known yet. */
  unlabelled?: true;
  ips: readonly IpAddress[];
}

/** @throws WeftError INVALID_ARGUMENT */
export function parseSelector(text: string): Selector {
  const byText = new Map(
    splitTerms(text)
      .map((part) => parseTerm(part, text))
      .map((term) => [formatTerm(term), term]),
  );
  const texts = [...byText.keys()].toSorted();
  return { terms: texts.flatMap((one) => byText.get(one) ?? []), text: texts.join(',') };
}

/** At commas; `\,` is a comma, and `\\` a backslash. */
function splitTerms(text: string): string[] {
  const parts: string[] = [];
  let part = '';
  for (let i = 0; i < text.length; i++) {
    const [here = '', next = ''] = [text[i], text[i + 1]];
    if (here === ',') {
      parts.push(part);
      part = '';
    } else if (here === '\\' && (next === ',' || next === '\\')) {
      part += next;
      i++;
    } else part += here;
  }
  return [...parts, part];
}

const EXPECTED =
  'A selector is KEY=VALUE of a label, name=N, network=N, node=N, cidr=C, host or any; several with a comma between.';

function parseTerm(term: string, selector: string): Term {
  if (term === 'host' || term === 'any') return { kind: term };
  const at = term.indexOf('=');
  const [key, value] = [term.slice(0, at), term.slice(at + 1)];
  if (at < 0) throw invalidArgument(`selector ${selector}: "${term}" is no term`, EXPECTED);
  if (key === 'name' || key === 'node') return { kind: key, value: parseName(value) };
  if (key === 'network') return { kind: key, value: parseNetworkName(value) };
  if (key === 'cidr') {
    const bits = value.includes(':') ? 128 : 32;
    return {
      kind: 'cidr',
      prefix: IpNetwork.parse(value.includes('/') ? value : `${value}/${bits}`, 'cidr'),
    };
  }
  const label = key.startsWith('label:') ? key.slice('label:'.length) : key;
  if (!isLabelKey(label))
    throw invalidArgument(`selector ${selector}: "${label}" is no key of a label`, EXPECTED);
  if (!isLabelValue(value))
    throw invalidArgument(
      `selector ${selector}: the value of ${label} is none of a label`,
      'It is one line of at most 256 characters.',
    );
  return { kind: 'label', key: label, value };
}

const RESERVED = new Set(['name', 'network', 'node', 'cidr']);

function formatTerm(term: Term): string {
  if (term.kind === 'cidr') return `cidr=${term.prefix.toString()}`;
  if (!('value' in term)) return term.kind;
  if (term.kind !== 'label') return `${term.kind}=${term.value}`;
  const value = term.value.replaceAll(/[\\,]/g, String.raw`\$&`);
  return `${RESERVED.has(term.key) ? 'label:' : ''}${term.key}=${value}`;
}

/** Whether it is of addresses alone: then it needs no subject. */
export const isOfAddresses = ({ terms }: Selector): boolean =>
  terms.every(({ kind }) => kind === 'cidr' || kind === 'any');

/** Whether an address is in all that the selector says of addresses. */
export const holdsAddress = ({ terms }: Selector, ip: IpAddress): boolean =>
  terms.every((term) => term.kind !== 'cidr' || term.prefix.contains(ip));

/** Whether it can mean nodes only. */
export const isOfHosts = ({ terms }: Selector): boolean => terms.some(({ kind }) => kind === 'host');

/** Whether the subject is meant, by this address of it; undefined: by one that is not known. */
export const selects = (selector: Selector, subject: Subject, ip: IpAddress | undefined): boolean =>
  (subject.host !== true ||
    subject.network !== undefined ||
    isOfAddresses(selector) ||
    isOfHosts(selector)) &&
  selector.terms.every((term) => holds(term, subject, ip));

/** The same of a target: a node is one by `host` alone. */
export const selectsTarget = (selector: Selector, subject: Subject, ip: IpAddress | undefined): boolean =>
  (subject.host !== true || isOfHosts(selector)) && selects(selector, subject, ip);

function holds(term: Term, subject: Subject, ip: IpAddress | undefined): boolean {
  switch (term.kind) {
    case 'any':
      return true;
    case 'host':
      return subject.host === true;
    case 'cidr':
      return ip !== undefined && term.prefix.contains(ip);
    case 'label':
      return subject.labels?.[term.key] === term.value;
    default:
      return subject[term.kind] === term.value;
  }
}
