// weft's rules as an nftables table, by pure functions: the table that a desired state compiles to, its text, and what
// differs between it and a listing of the kernel's. The rules stand on sets, so that a network more is elements only.
import { createHash } from 'node:crypto';

import { IpNetwork, type Family } from '../../../core/address.js';
import type { Firewall, FirewallNetwork } from '../../../core/firewall.js';

export const TABLE = 'inet weft';

interface SetSpec {
  /** The parts of a concatenation, in nft's names. */
  type: readonly string[];
  interval: boolean;
  /** In the form that nft reads: `"wfbr1" . 10.1.0.0/16`. */
  elements: ReadonlySet<string>;
}

interface ChainSpec {
  type: 'filter' | 'nat';
  hook: 'input' | 'forward' | 'postrouting';
  prio: number;
  rules: readonly { text: string; comment: string }[];
}

export interface Ruleset {
  sets: ReadonlyMap<string, SetSpec>;
  chains: ReadonlyMap<string, ChainSpec>;
}

/** A rule with the comment that stands for its text: listings of different versions print the same rule differently. */
function rule(text: string, why: string): { text: string; comment: string } {
  return { text, comment: `${why} (${createHash('sha256').update(text).digest('hex').slice(0, 8)})` };
}

const CHAINS: ReadonlyMap<string, ChainSpec> = new Map<string, ChainSpec>([
  [
    'forward',
    {
      type: 'filter',
      hook: 'forward',
      prio: 0,
      rules: [
        // Exceptions to what follows (connections to published ports) belong here, before the first drop.
        rule(
          'iifname @links ip daddr @overlay4 iifname . ip daddr != @own4 drop',
          'networks do not reach each other',
        ),
        rule(
          'iifname @links ip6 daddr @overlay6 iifname . ip6 daddr != @own6 drop',
          'networks do not reach each other',
        ),
        // By link and not by address: with br_netfilter, multicast and neighbour discovery between the containers of
        // one bridge come through here as well, and must go on.
        rule(
          'iifname @internal iifname . oifname != @inside drop',
          'internal networks reach nothing outside',
        ),
        rule(
          'oifname @internal iifname . oifname != @inside drop',
          'nothing outside reaches internal networks',
        ),
      ],
    },
  ],
  [
    'input',
    {
      type: 'filter',
      hook: 'input',
      prio: 0,
      rules: [
        rule('iifname != @links accept', 'not from a container'),
        // Answers to what the host itself began, whatever address of its own it began it from.
        rule('ct state established,related accept', 'answers to the host'),
        // Exceptions to what follows belong here.
        rule(
          'ip daddr @overlay4 iifname . ip daddr != @own4 drop',
          "networks do not reach each other's gateways",
        ),
        rule(
          'ip6 daddr @overlay6 iifname . ip6 daddr != @own6 drop',
          "networks do not reach each other's gateways",
        ),
        rule(
          'iifname @internal ip daddr != 224.0.0.0/4 iifname . ip daddr != @own4 drop',
          'internal networks reach the host at their gateway only',
        ),
        // RFC 4861: neighbour discovery speaks to link-local and multicast addresses.
        rule(
          'iifname @internal ip6 daddr != { fe80::/10, ff00::/8 } iifname . ip6 daddr != @own6 drop',
          'internal networks reach the host at their gateway only',
        ),
      ],
    },
  ],
  [
    'postrouting',
    {
      type: 'nat',
      hook: 'postrouting',
      // srcnat.
      prio: 100,
      rules: [
        rule('oifname @links accept', 'inside the overlays'),
        // On lo, masquerading would take 127.0.0.1 for the host's own address.
        rule('oifname "lo" accept', 'to the host itself'),
        rule(
          'ip saddr @masq4 ip daddr != @overlay4 ip daddr != 224.0.0.0/4 masquerade fully-random',
          'leaves the overlay',
        ),
        rule(
          'ip6 saddr @masq6 ip6 daddr != @overlay6 ip6 daddr != ff00::/8 masquerade fully-random',
          'leaves the overlay',
        ),
      ],
    },
  ],
]);

const quoted = (link: string): string => `"${link}"`;

/** The prefixes that lie in no other of them: interval sets refuse overlaps, and hand-made networks may overlap. */
function outermost(prefixes: readonly IpNetwork[]): IpNetwork[] {
  const sorted = prefixes.toSorted((a, b) => a.length - b.length || Number(a.base.value - b.base.value));
  // An overlap is always a containment; the shorter prefixes come first, so one look at each length is enough.
  const kept = new Map<string, IpNetwork>();
  const lengths = [...new Set(sorted.map((prefix) => prefix.length))];
  for (const prefix of sorted) {
    const inside = lengths.some(
      (length) => length <= prefix.length && kept.has(IpNetwork.of(prefix.base, length).toString()),
    );
    if (!inside) kept.set(prefix.toString(), prefix);
  }
  return [...kept.values()];
}

const ofFamily = (networks: readonly FirewallNetwork[], family: Family): IpNetwork[] =>
  networks.flatMap((network) => network.prefixes.filter((prefix) => prefix.family === family));

/** Undefined where there are no networks: then no table is wanted either. */
export function compileRuleset({ networks }: Firewall): Ruleset | undefined {
  if (networks.length === 0) return undefined;
  const internal = networks.filter((network) => network.internal);
  const masquerading = networks.filter((network) => network.masquerade);
  const linksOf = (some: readonly FirewallNetwork[]): string[] =>
    some.flatMap(({ links }) => links.map(quoted));
  const sets = new Map<string, SetSpec>([
    ['links', { type: ['ifname'], interval: false, elements: new Set(linksOf(networks)) }],
    ['internal', { type: ['ifname'], interval: false, elements: new Set(linksOf(internal)) }],
    [
      'inside',
      {
        type: ['ifname', 'ifname'],
        interval: false,
        elements: new Set(
          internal.flatMap(({ links }) =>
            links.flatMap((a) => links.map((b) => `${quoted(a)} . ${quoted(b)}`)),
          ),
        ),
      },
    ],
  ]);
  for (const family of [4, 6] as const) {
    const address = family === 4 ? 'ipv4_addr' : 'ipv6_addr';
    const prefixes = (some: readonly FirewallNetwork[]): Set<string> =>
      new Set(outermost(ofFamily(some, family)).map(String));
    const own = networks.flatMap((network) =>
      outermost(ofFamily([network], family)).flatMap((prefix) =>
        network.links.map((link) => `${quoted(link)} . ${prefix.toString()}`),
      ),
    );
    sets.set(`own${family}`, { type: ['ifname', address], interval: true, elements: new Set(own) });
    sets.set(`overlay${family}`, { type: [address], interval: true, elements: prefixes(networks) });
    sets.set(`masq${family}`, { type: [address], interval: true, elements: prefixes(masquerading) });
  }
  return { sets, chains: CHAINS };
}

/** Commands that put this table in the place of whatever is there, in one transaction. */
export function renderReplacement(ruleset: Ruleset | undefined): string {
  const lines = [`table ${TABLE}`, `delete table ${TABLE}`];
  if (ruleset === undefined) return `${lines.join('\n')}\n`;
  lines.push(`table ${TABLE} {`);
  for (const [name, { type, interval, elements }] of ruleset.sets) {
    lines.push(`set ${name} {`, `type ${type.join(' . ')}`);
    if (interval) lines.push('flags interval');
    if (elements.size > 0) lines.push(`elements = { ${[...elements].join(', ')} }`);
    lines.push('}');
  }
  for (const [name, { type, hook, prio, rules }] of ruleset.chains) {
    lines.push(`chain ${name} {`, `type ${type} hook ${hook} priority ${prio}; policy accept`);
    for (const { text, comment } of rules) lines.push(`${text} comment "${comment}"`);
    lines.push('}');
  }
  lines.push('}');
  return `${lines.join('\n')}\n`;
}
