// The rules of a table of nftables' own, reduced as packet-rules.ts does.
import type { Family } from '../../../core/address.js';
import type { NftObject, NftRule } from './libnftables.js';
import type { PacketRule, PacketTable } from './packet-rules.js';

/** @param objects output of `list table` */
export function nftPacketTable(objects: readonly NftObject[]): PacketTable {
  const chains = new Map<string, { policy?: string; rules: PacketRule[] }>();
  for (const { chain, rule } of objects) {
    if (chain !== undefined) {
      const policy = chain.policy?.toUpperCase();
      chains.set(chain.name, { ...(policy !== undefined && { policy }), rules: [] });
    } else if (rule !== undefined) chains.get(rule.chain)?.rules.push(...nftRules(rule));
  }
  return chains;
}

/** More than one where a verdict map decides. */
function nftRules({ expr = [], handle }: NftRule): PacketRule[] {
  const rule: PacketRule = {
    vague: false,
    target: '',
    goto: false,
    text: '',
    ...(handle !== undefined && { handle }),
  };
  for (const expression of expr) {
    const [kind = '', value] = Object.entries(expression)[0] ?? [];
    const fields = isRecord(value) ? value : {};
    if (kind === 'counter' || kind === 'log' || (kind === 'xt' && fields['name'] === 'comment')) continue;
    if (kind === 'match') addMatch(rule, fields['left'], fields['right'], fields['op'] === '!=');
    else if (kind === 'vmap') return verdictMap(rule, fields);
    else if (!setVerdict(rule, expression)) rule.vague = true;
  }
  return [rule];
}

function setVerdict(rule: PacketRule, verdict: unknown): boolean {
  const [kind = '', value] = isRecord(verdict) ? (Object.entries(verdict)[0] ?? []) : [];
  if (kind === 'jump' || kind === 'goto') {
    rule.target = isRecord(value) ? String(value['target']) : '';
    rule.goto = kind === 'goto';
  } else if (['accept', 'drop', 'reject', 'return', 'continue'].includes(kind))
    rule.target = kind.toUpperCase();
  else return false;
  return true;
}

function verdictMap(rule: PacketRule, { key, data }: Record<string, unknown>): PacketRule[] {
  const pairs = isRecord(data) && Array.isArray(data['set']) ? (data['set'] as unknown[]) : [];
  return pairs.flatMap((pair) => {
    if (!Array.isArray(pair)) return [];
    const one = { ...rule };
    addMatch(one, key, pair[0], false);
    return setVerdict(one, pair[1]) ? [one] : [];
  });
}

const META = { iifname: 'in', oifname: 'out', l4proto: 'protocol', nfproto: 'family' } as const;

function addMatch(rule: PacketRule, left: unknown, right: unknown, not: boolean): void {
  const field = isRecord(left) ? Object.entries(left)[0] : undefined;
  const about = isRecord(field?.[1]) ? field[1] : {};
  const named = about['key'] ?? about['field'];
  const key = typeof named === 'string' ? named : '';
  const values = valuesOf(right);
  const meta = META[key as keyof typeof META];
  if (field?.[0] === 'payload') addPayload(rule, String(about['protocol']), key, values, not);
  else if (values === undefined) rule.vague = true;
  else if (field?.[0] === 'meta' && meta === 'family')
    rule.family = { not, values: values.map((value) => value.replace('ipv', '')) };
  else if (field?.[0] === 'meta' && meta !== undefined) rule[meta] = { not, values };
  else if (field?.[0] === 'ct' && (key === 'state' || key === 'status') && rule.state === undefined)
    rule.state = { not, values: values.map((value) => value.toUpperCase()) };
  else rule.vague = true;
}

/** What a rule says of a header holds for packets with that header alone. */
function addPayload(
  rule: PacketRule,
  protocol: string,
  field: string,
  values: string[] | undefined,
  not: boolean,
): void {
  const family: Family | undefined = protocol === 'ip' ? 4 : protocol === 'ip6' ? 6 : undefined;
  if (family !== undefined) rule.family ??= { not: false, values: [String(family)] };
  else if (protocol !== 'th') rule.protocol ??= { not: false, values: [protocol] };
  if (values !== undefined && field === 'dport') rule.port = { not, values };
  else if (values !== undefined && field === 'type' && protocol.startsWith('icmp'))
    rule.type = { not, values };
  else if (values !== undefined && family !== undefined && field === 'saddr') rule.source = { not, values };
  else rule.vague = true;
}

/** The values of a match's right side; undefined for a set by name, or a form that is not known. */
function valuesOf(right: unknown): string[] | undefined {
  const all = isRecord(right) && Array.isArray(right['set']) ? (right['set'] as unknown[]) : [right].flat();
  const values = all.map(valueOf);
  return values.every((value) => value !== undefined) ? values : undefined;
}

function valueOf(value: unknown): string | undefined {
  if (typeof value === 'number') return String(value);
  if (typeof value === 'string') return value.startsWith('@') ? undefined : value;
  if (!isRecord(value)) return undefined;
  const { range, prefix } = value;
  if (Array.isArray(range) && range.every((end) => typeof end === 'number')) return range.join(':');
  return isRecord(prefix) ? `${String(prefix['addr'])}/${String(prefix['len'])}` : undefined;
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
