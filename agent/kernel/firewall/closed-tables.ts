// Reads the host's own tables and chains for what drops weft's traffic (closed.ts).
import type { Family } from '../../../core/address.js';
import type { Firewall } from '../../../core/firewall.js';
import { findClosed, nftOwner, trafficOf, xtablesOwner, type Finding } from './closed.js';
import type { Nftables, NftChain, NftObject } from './libnftables.js';
import { nftPacketTable } from './nft-packet-rules.js';
import { matches } from './packet-match.js';
import { packetTable, type PacketTable } from './packet-rules.js';
import type { SavedTable, Xtables } from './xtables.js';

const XTABLES_BASES = { input: 'INPUT', forward: 'FORWARD', output: 'OUTPUT' } as const;

/** In a filter table of an iptables command. */
export function xtablesClosed(xtables: Xtables, filter: SavedTable, desired: Firewall): Finding[] {
  const table = packetTable(filter);
  const ownerOf = xtablesOwner(xtables.name, xtables.command, table);
  return findClosed(table, XTABLES_BASES, trafficOf(desired, xtables.family), ownerOf);
}

/**
 * Whether a filter table that readFilter read might drop weft's traffic. It shows an iptables-nft rule's conditions in part, so
 * that only iptables itself, a process, tells for sure.
 */
export function mayClose(filter: SavedTable, desired: Firewall, family: Family): boolean {
  const traffic = trafficOf(desired, family);
  const isShut = ({ hook }: (typeof traffic)[number]): boolean =>
    hook !== 'forward' && filter.get(XTABLES_BASES[hook])?.policy === 'DROP';
  if (traffic.some(isShut)) return true;
  const packets = traffic.flatMap((kind) => kind.packets);
  return [...packetTable(filter).values()].some(({ rules }) =>
    rules.some(
      (rule) =>
        (rule.target === 'DROP' || rule.target === 'REJECT') &&
        packets.some((packet) => matches(rule, packet) === 'yes'),
    ),
  );
}

/** In the tables of nftables' own. @param chains output of `list chains` */
export function nftClosed(
  nft: Nftables,
  chains: readonly NftObject[],
  families: readonly Family[],
  desired: Firewall,
): Finding[] {
  const kinds = ['inet', ...families.map((family) => (family === 4 ? 'ip' : 'ip6'))];
  const bases = chains.flatMap(({ chain }) =>
    chain !== undefined &&
    isHook(chain.hook) &&
    chain.type !== 'nat' &&
    kinds.includes(chain.family) &&
    !isOther(chain)
      ? [{ ...chain, hook: chain.hook }]
      : [],
  );
  return bases.flatMap((base) => {
    const { family, name, hook } = base;
    const table = `${family} ${base.table}`;
    const listed = listTable(nft, base);
    const own = family === 'inet' ? families : ([family === 'ip' ? 4 : 6] as const);
    return own.flatMap((one) =>
      findClosed(listed, { [hook]: name }, trafficOf(desired, one), nftOwner(table), ({ chain, rule }) =>
        rule?.handle === undefined ? undefined : nft.ruleText(table, chain, rule.handle),
      ),
    );
  });
}

const isHook = (hook: string | undefined): hook is keyof typeof XTABLES_BASES =>
  hook !== undefined && hook in XTABLES_BASES;

/** weft's own table; chains of iptables-nft, which are read in iptables' form. */
const isOther = ({ family, table, name }: NftChain): boolean =>
  family === 'inet' ? table === 'weft' : table === 'filter' && /^(?:INPUT|FORWARD|OUTPUT)$/.test(name);

/** Other programs may use names, and write rules, that nft cannot list: then only a forward chain's policy counts. */
function listTable(nft: Nftables, { family, table, name, hook, policy }: NftChain): PacketTable {
  try {
    return nftPacketTable(nft.listTable(family, table));
  } catch {
    const known = hook === 'forward' && policy !== undefined ? { policy: policy.toUpperCase() } : {};
    return new Map([[name, { ...known, rules: [] }]]);
  }
}
