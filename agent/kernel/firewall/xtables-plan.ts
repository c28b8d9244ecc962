// Plans an iptables table: an iptables-restore script, and its description.
//
// weft's rules are in chains named WEFT-…, and in the plain jumps to them.
import type { SavedChain, SavedTable } from './xtables.js';

export const OWN_PREFIX = 'WEFT-';

export interface Jump {
  from: string;
  to: string;
  /** Its place; behind the jump to that chain, or last where there is none. */
  at: 'first' | 'last' | 'anywhere' | { behind: string };
}

export interface WantedTable {
  chains: ReadonlyMap<string, readonly string[]>;
  jumps: readonly Jump[];
}

export const NOTHING: WantedTable = { chains: new Map(), jumps: [] };

export interface TablePlan {
  /** For iptables-restore --noflush; undefined where nothing differs. */
  script?: string;
  words: string[];
}

/** The target of a rule: the argument of -j or -g. */
export const targetOf = (rule: string): string | undefined =>
  /(?:^| )(?:-j|-g) (\S+)/.exec(rule.replace(/"(?:[^"\\]|\\.)*"/g, '""'))?.[1];

/** The hash in a rule's comment identifies its text, which every version of iptables-save prints differently. */
const identity = (rule: string): string => /--comment "?(weft:[0-9a-f]{8})/.exec(rule)?.[1] ?? rule;

/** @param asWritten rules of weft's chains as read back after they were written, where known */
export function planTable(
  name: string,
  saved: SavedTable | undefined,
  wanted: WantedTable,
  asWritten?: ReadonlyMap<string, readonly string[]>,
): TablePlan {
  const have: SavedTable = saved ?? new Map<string, SavedChain>();
  const words: string[] = [];
  const lines: string[] = [];

  const stale = [...have.keys()].filter((chain) => chain.startsWith(OWN_PREFIX) && !wanted.chains.has(chain));
  for (const chain of stale) words.push(`chain ${chain} of table ${name} is not wanted`);

  let rewrite = false;
  for (const [chain, rules] of wanted.chains) {
    const word = chainWord(name, chain, have.get(chain)?.rules, rules, asWritten?.get(chain));
    if (word === undefined) continue;
    words.push(word);
    rewrite = true;
  }
  // All chains at once: they refer to each other, and a chain must exist before a rule jumps to it.
  if (rewrite) {
    for (const chain of wanted.chains.keys()) lines.push(`:${chain} - [0:0]`);
    for (const [chain, rules] of wanted.chains) for (const rule of rules) lines.push(`-A ${chain} ${rule}`);
  }

  for (const [from, { rules }] of have) {
    if (from.startsWith(OWN_PREFIX)) continue;
    const toOwn = rules.filter((rule) => isOwnJump(rule));
    const jumps = wanted.jumps.filter((jump) => jump.from === from);
    const texts = jumps.map(({ to }) => `-j ${to}`);
    const ideal = withJumps(rules, jumps);
    const isPlaced = jumps.every(({ at }) => at === 'anywhere')
      ? toOwn.join('\n') === texts.join('\n')
      : ideal.join('\n') === rules.join('\n');
    if (isPlaced) continue;
    // By their text, not by number: the rules may have moved since they were read.
    for (const rule of toOwn) lines.push(`-D ${from} ${rule}`);
    const last = new Set(jumps.filter(({ at }) => at === 'last').map(({ to }) => `-j ${to}`));
    for (const [index, rule] of ideal.entries()) {
      if (!isOwnJump(rule)) continue;
      lines.push(last.has(rule) ? `-A ${from} ${rule}` : `-I ${from} ${index + 1} ${rule}`);
    }
    words.push(jumpWord(name, from, toOwn, texts));
  }
  for (const jump of wanted.jumps) {
    // A built-in chain that is not listed has never been used; naming it creates it.
    if (have.has(jump.from)) continue;
    lines.push(`-I ${jump.from} 1 -j ${jump.to}`);
    words.push(`${name} ${jump.from}: jump to ${jump.to} missing`);
  }

  for (const chain of stale) lines.push(`-F ${chain}`);
  for (const chain of stale) lines.push(`-X ${chain}`);
  return lines.length === 0 ? { words } : { words, script: `*${name}\n${lines.join('\n')}\nCOMMIT\n` };
}

const isOwnJump = (rule: string): boolean => targetOf(rule)?.startsWith(OWN_PREFIX) === true;

/** The rules of a chain with weft's jumps in their places. */
function withJumps(rules: readonly string[], jumps: readonly Jump[]): string[] {
  const others = rules.filter((rule) => !isOwnJump(rule));
  const head: string[] = [];
  const tail: string[] = [];
  for (const { to, at } of jumps) {
    const text = `-j ${to}`;
    const place = typeof at === 'object' ? others.findIndex((rule) => targetOf(rule) === at.behind) : -1;
    if (place !== -1) others.splice(place + 1, 0, text);
    else if (at === 'first' || at === 'anywhere') head.push(text);
    else tail.push(text);
  }
  return [...head, ...others, ...tail];
}

function chainWord(
  table: string,
  chain: string,
  have: readonly string[] | undefined,
  want: readonly string[],
  asWritten: readonly string[] | undefined,
): string | undefined {
  if (have === undefined) return `chain ${chain} of table ${table} was missing`;
  const haveIds = have.map(identity);
  const wantIds = want.map(identity);
  if (haveIds.join('\n') === wantIds.join('\n')) {
    const changed =
      asWritten !== undefined && asWritten.length === have.length && asWritten.join('\n') !== have.join('\n');
    return changed ? `chain ${chain} of table ${table}: a rule was changed` : undefined;
  }
  const haveSet = new Set(haveIds);
  const wantSet = new Set(wantIds);
  const missing = want.filter((_, i) => !haveSet.has(wantIds[i] ?? ''));
  const extra = have.filter((_, i) => !wantSet.has(haveIds[i] ?? ''));
  const shown = (rules: readonly string[]): string => {
    const [rule = ''] = rules;
    const text = rule.replace(/ -m comment --comment (?:"[^"]*"|\S+)/, '');
    return rules.length > 1 ? `"${text}" and ${rules.length - 1} more` : `"${text}"`;
  };
  const parts = [
    ...(missing.length > 0 ? [`${shown(missing)} missing`] : []),
    ...(extra.length > 0 ? [`${shown(extra)} not wanted`] : []),
  ];
  return `chain ${chain} of table ${table}: ${parts.length > 0 ? parts.join(', ') : 'rules in another order'}`;
}

function jumpWord(table: string, from: string, have: readonly string[], want: readonly string[]): string {
  if (want.length === 0) return `${table} ${from}: jump to ${targetOf(have[0] ?? '') ?? ''} is not wanted`;
  const target = targetOf(want[0] ?? '') ?? '';
  return have.length === 0
    ? `${table} ${from}: jump to ${target} missing`
    : `${table} ${from}: jump to ${target} not in its place`;
}
