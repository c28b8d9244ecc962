// weft's rules as iptables chains, for the hosts that are without nftables: the same meaning as ruleset.ts, written as
// lists of rules for each network, so that nothing but iptables itself is needed.
import { createHash } from 'node:crypto';

import type { Family, IpNetwork } from '../../../core/address.js';
import type { Firewall } from '../../../core/firewall.js';
import { ACCEPT_RULES } from './forward.js';
import type { WantedTable } from './xtables-plan.js';

export interface WantedTables {
  filter: WantedTable;
  nat: WantedTable;
  /** Whether the family can be done without: only rules for completeness' sake are in here. */
  optional: boolean;
}

/** Undefined where nothing is wanted in this family. */
export function compileTables({ networks }: Firewall, family: Family): WantedTables | undefined {
  const prefixesOf = (prefixes: readonly IpNetwork[]): string[] =>
    prefixes.filter((prefix) => prefix.family === family).map(String);
  const overlays = networks.flatMap((network) => prefixesOf(network.prefixes));
  const optional = overlays.length === 0;
  // An internal network without addresses of this family must not get out by it either.
  if (optional && !networks.some((network) => network.internal)) return undefined;
  const multicast = family === 4 ? ['224.0.0.0/4'] : ['ff00::/8'];
  const linkLocal = family === 4 ? [] : ['fe80::/10'];

  const isolation: string[] = [];
  const input: string[] = [rule('-m conntrack --ctstate RELATED,ESTABLISHED', 'RETURN')];
  for (const { links, internal } of networks) {
    if (!internal) continue;
    // By link and not by address: see ruleset.ts.
    for (const from of links) for (const to of links) isolation.push(rule(`-i ${from} -o ${to}`, 'RETURN'));
    for (const link of links) isolation.push(rule(`-i ${link}`, 'DROP'), rule(`-o ${link}`, 'DROP'));
  }
  for (const { links, prefixes, internal } of networks) {
    for (const link of links) {
      const own = prefixesOf(prefixes).map((prefix) => rule(`-d ${prefix} -i ${link}`, 'RETURN'));
      if (!internal) isolation.push(...own, rule(`-i ${link}`, 'WEFT-OVERLAYS'));
      input.push(...own, rule(`-i ${link}`, 'WEFT-OVERLAYS'));
      if (!internal) continue;
      for (const to of [...multicast, ...linkLocal]) input.push(rule(`-d ${to} -i ${link}`, 'RETURN'));
      input.push(rule(`-i ${link}`, 'DROP'));
    }
  }
  const masquerading = networks
    .filter((network) => network.masquerade)
    .flatMap((network) => prefixesOf(network.prefixes));
  const filter: WantedTable = {
    chains: new Map([
      // Exceptions (connections to published ports) belong before the jump to WEFT-ISOLATION.
      ['WEFT-FORWARD', [rule('', 'WEFT-ISOLATION')]],
      ['WEFT-INPUT', input],
      ['WEFT-ISOLATION', isolation],
      ['WEFT-OVERLAYS', overlays.map((prefix) => rule(`-d ${prefix}`, 'DROP'))],
    ]),
    jumps: [
      { from: 'FORWARD', to: 'WEFT-FORWARD', first: true },
      { from: 'INPUT', to: 'WEFT-INPUT', first: true },
    ],
  };
  if (masquerading.length === 0) return { filter, nat: { chains: new Map(), jumps: [] }, optional };
  const nat: WantedTable = {
    chains: new Map([
      ['WEFT-POSTROUTING', masquerading.map((prefix) => rule(`-s ${prefix}`, 'WEFT-MASQUERADE'))],
      [
        'WEFT-MASQUERADE',
        [
          ...networks.flatMap(({ links }) => links.map((link) => rule(`-o ${link}`, 'RETURN'))),
          // On lo, masquerading would take 127.0.0.1 for the host's own address.
          rule('-o lo', 'RETURN'),
          ...[...overlays, ...multicast].map((prefix) => rule(`-d ${prefix}`, 'RETURN')),
          rule('', 'MASQUERADE', ' --random-fully'),
        ],
      ],
    ]),
    // Its place does not matter: what others translate in this chain is not weft's traffic.
    jumps: [{ from: 'POSTROUTING', to: 'WEFT-POSTROUTING', first: false }],
  };
  return { filter, nat, optional };
}

/** The same table with weft's links accepted, for hosts that drop or reject what they do not know. */
export function withAccept(filter: WantedTable): WantedTable {
  const chains = new Map(filter.chains);
  chains.set('WEFT-FORWARD', [...(chains.get('WEFT-FORWARD') ?? []), ...ACCEPT_RULES]);
  return { chains, jumps: filter.jumps };
}

function rule(match: string, target: string, options = ''): string {
  const text = `${match} -j ${target}${options}`;
  const hash = createHash('sha256').update(text).digest('hex').slice(0, 8);
  return `${match}${match === '' ? '' : ' '}-m comment --comment "weft:${hash}" -j ${target}${options}`;
}
