// Policies: who may speak to whom, as people write them.
//
// What a policy's `to` selects, or whose network is isolated, admits only what a policy allows. Policies only allow: their order
// does not matter.
import { createHash } from 'node:crypto';

import { invalidArgument } from '../errors.js';
import { parseName } from '../network.js';
import { parseSelector, type Selector } from './selector.js';

export interface PortRange {
  protocol: 'tcp' | 'udp';
  first: number;
  last: number;
}

export interface Policy {
  name: string;
  /** Any of them. */
  from: readonly Selector[];
  /** Any of them: containers, and by `host` nodes. */
  to: readonly Selector[];
  /** None: every protocol and port. */
  ports: readonly PortRange[];
  /** RFC 3339. */
  createdAt: string;
}

/** A policy in the words of commands, services and etcd. */
export interface PolicyTexts {
  name: string;
  from: readonly string[];
  to: readonly string[];
  ports: readonly string[];
}

/** Selectors, and ports, of one policy. */
const MOST = 64;

/** An empty name is made from what the policy says. @throws WeftError INVALID_ARGUMENT */
export function parsePolicy({ name, from, to, ports }: PolicyTexts, createdAt = ''): Policy {
  const parsed = {
    from: parseSelectors(from, 'from'),
    to: parseSelectors(to, 'to'),
    ports: unique(bounded(ports, 'port').map(parsePorts), formatPorts),
  };
  const digest = digestOf([{ ...parsed, name: '', createdAt: '' }]);
  return { name: name === '' ? `policy-${digest.slice(0, 8)}` : parseName(name), ...parsed, createdAt };
}

function parseSelectors(texts: readonly string[], side: 'from' | 'to'): Selector[] {
  if (texts.length === 0)
    throw invalidArgument(`${side}: no selector is given`, `Give --${side} SELECTOR, such as any.`);
  return unique(bounded(texts, side).map(parseSelector), ({ text }) => text);
}

function bounded(texts: readonly string[], field: string): readonly string[] {
  if (texts.length > MOST)
    throw invalidArgument(
      `${field}: ${texts.length} are too many for one policy`,
      `At most ${MOST} are allowed; write two policies.`,
    );
  return texts;
}

const unique = <T>(all: readonly T[], textOf: (one: T) => string): T[] => [
  ...new Map(all.map((one) => [textOf(one), one])).values(),
];

/** 5432, tcp/5432, 8000-8010, udp/53; Docker's 5432/tcp as well. @throws WeftError INVALID_ARGUMENT */
export function parsePorts(text: string): PortRange {
  const match =
    /^(?:(?<before>tcp|udp)\/)?(?<first>\d{1,5})(?:-(?<last>\d{1,5}))?(?:\/(?<behind>tcp|udp))?$/.exec(text);
  const { before, behind, first, last = first } = match?.groups ?? {};
  const range = {
    protocol: (before ?? behind ?? 'tcp') as 'tcp' | 'udp',
    first: Number(first),
    last: Number(last),
  };
  const isValid =
    (before === undefined || behind === undefined) &&
    range.first >= 1 &&
    range.last <= 65_535 &&
    range.first <= range.last;
  if (match === null || !isValid)
    throw invalidArgument(`port: "${text}" is no port`, 'Write 5432, udp/53 or tcp/8000-8010.');
  return range;
}

export const formatPorts = ({ protocol, first, last }: PortRange): string =>
  `${protocol}/${first}${first === last ? '' : `-${last}`}`;

export const textsOf = ({ name, from, to, ports }: Policy): PolicyTexts => ({
  name,
  from: from.map(({ text }) => text),
  to: to.map(({ text }) => text),
  ports: ports.map(formatPorts),
});

/** Whether two policies allow the same, whatever their names. */
export const allowSame = (a: Policy, b: Policy): boolean => contentOf(a) === contentOf(b);

/** Of policies, which never change. */
const contents = new WeakMap<Policy, string>();

function contentOf(policy: Policy): string {
  let content = contents.get(policy);
  if (content === undefined) {
    const { from, to, ports } = textsOf(policy);
    content = JSON.stringify([from.toSorted(), to.toSorted(), ports.toSorted()]);
    contents.set(policy, content);
  }
  return content;
}

/** Equal for the same policies: by it a node says which ones it keeps. */
export const digestOf = (policies: readonly Policy[]): string =>
  createHash('sha256')
    .update(JSON.stringify(policies.map((one) => `${one.name} ${contentOf(one)}`).toSorted()))
    .digest('hex')
    .slice(0, 16);
