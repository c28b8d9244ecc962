// Detects hosts whose INPUT chains drop incoming tunnel packets.
//
// Tunnels arrive as UDP packets at the host itself, and a closed INPUT chain drops them silently. weft opens nothing there; it
// reports what is closed, and only where no rule could let them in: what the rules alone do not show is left to the measured
// round-trip times.
import type { Family } from '../../../core/address.js';
import type { NftObject, Nftables } from './libnftables.js';
import type { Problem } from './types.js';
import { targetOf } from './xtables-plan.js';
import type { SavedTable } from './xtables.js';

/** @param name of the command, as displayed @param filter the table in iptables-save's form, with all its chains */
export function arrivalProblems(
  name: string,
  family: Family,
  filter: SavedTable | undefined,
  ports: readonly number[],
): Problem[] {
  if (filter?.get('INPUT')?.policy !== 'DROP') return [];
  const rules = reachable(filter);
  const command = family === 4 ? 'iptables' : 'ip6tables';
  return ports
    .filter((port) => !rules.some((rule) => mayAccept(rule, port)))
    .map((port) => ({
      what: `${name}, chain INPUT`,
      why: `it drops packets that no rule accepts, and no rule there accepts UDP port ${port}, at which tunnels arrive`,
      fix: `Accept it: ${command} -I INPUT -p udp --dport ${port} -j ACCEPT, and add it where the rules are stored.`,
    }));
}

/** All rules that a packet can pass from INPUT on. */
function reachable(filter: SavedTable): string[] {
  const chains = new Set(['INPUT']);
  // A set may grow during iteration.
  for (const chain of chains) {
    for (const rule of filter.get(chain)?.rules ?? []) {
      const target = targetOf(rule) ?? '';
      if (filter.has(target)) chains.add(target);
    }
  }
  return [...chains].flatMap((chain) => filter.get(chain)?.rules ?? []);
}

/** Whether a rule could accept the first packet of a tunnel; true in doubt. */
function mayAccept(rule: string, port: number): boolean {
  if (targetOf(rule) !== 'ACCEPT' || /(?:^| )-i (?:lo|wf\S*)(?: |$)/.test(rule)) return false;
  const protocol = /(?:^| )-p (\S+)/.exec(rule)?.[1];
  if (protocol !== undefined && !['udp', 'all', '17'].includes(protocol)) return false;
  const states = /--(?:ctstate|state) (\S+)/.exec(rule)?.[1]?.split(',');
  if (states !== undefined && !states.includes('NEW')) return false;
  const ports = /--dports? (\S+)/.exec(rule)?.[1];
  if (ports === undefined || /! --dport/.test(rule)) return true;
  return ports.split(',').some((range) => {
    const [first = 0, last = first] = range.split(':').map(Number);
    return port >= first && port <= last;
  });
}

/** The same for tables of nftables' own: a rule that names the port is taken to handle it. */
export function nftArrivalProblems(
  nft: Nftables,
  chains: readonly NftObject[],
  families: readonly Family[],
  ports: readonly number[],
): Problem[] {
  const kinds = ['inet', ...families.map((family) => (family === 4 ? 'ip' : 'ip6'))];
  return chains.flatMap(({ chain }): Problem[] => {
    if (chain?.hook !== 'input' || chain.policy !== 'drop' || !kinds.includes(chain.family)) return [];
    if (isXtablesInput(chain)) return [];
    const table = `${chain.family} ${chain.table}`;
    let objects: NftObject[];
    try {
      objects = nft.listTable(chain.family, chain.table);
    } catch {
      // Its rules cannot be listed: then nothing is reported.
      return [];
    }
    const text = JSON.stringify(objects);
    if (objects.some(acceptsWhateverPort)) return [];
    return ports
      .filter((port) => !new RegExp(`\\b${port}\\b`).test(text))
      .map((port) => ({
        what: `nftables table ${table}, chain ${chain.name}`,
        why: `it drops packets that no rule accepts, and no rule there names UDP port ${port}, at which tunnels arrive`,
        fix: `Accept it: nft insert rule ${table} ${chain.name} udp dport ${port} accept, and add it to the file that defines the table.`,
      }));
  });
}

/** A chain of iptables-nft, which is read in iptables' form. */
export const isXtablesInput = (chain: NonNullable<NftObject['chain']>): boolean =>
  chain.family !== 'inet' && chain.table === 'filter' && chain.name === 'INPUT';

/** A rule that accepts by interface or address alone, or by a set that may hold the port. */
function acceptsWhateverPort({ rule }: NftObject): boolean {
  if (rule === undefined) return false;
  const said = JSON.stringify(rule.expr ?? []);
  return said.includes('"accept"') && !/"(?:dport|sport|l4proto|protocol|type|state|status|lo)"/.test(said);
}
