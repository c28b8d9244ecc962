// Counters of dropped packets, by reason, and by container where a bridge drops them.
import type { FirewallDrops } from '../kernel.js';
import type { Nftables } from './libnftables.js';
import type { NftTable } from './nft-table.js';
import { BRIDGE_REASONS, HOST_REASONS, counterName, lossSet } from './rules.js';

/** Of all containers. The counters begin at 0 whenever the tables are written anew. */
export function countedDrops(nft: Nftables, tables: readonly (NftTable | undefined)[]): FirewallDrops {
  const counters = tables.flatMap((table) =>
    table?.isThere === true ? nft.list(`list counters table ${table.name}`) : [],
  );
  const byName = new Map<string, number>();
  for (const { counter } of counters) {
    if (counter === undefined) continue;
    byName.set(counter.name, (byName.get(counter.name) ?? 0) + (counter.packets ?? 0));
  }
  return [...new Set([...BRIDGE_REASONS, ...HOST_REASONS])].flatMap((reason) => {
    const packets = byName.get(counterName(reason));
    return packets === undefined ? [] : [{ reason, packets }];
  });
}

/** Of one container's port; reasons without any are left out. */
export function countedLosses(nft: Nftables, link: string): FirewallDrops {
  return BRIDGE_REASONS.flatMap((reason) => {
    const [found] = nft
      .list(`list set bridge weft ${lossSet(reason)}`)
      .flatMap(({ set }) => set?.elem ?? [])
      .flatMap(elementCount)
      .filter(({ value }) => value === link);
    return found === undefined ? [] : [{ reason, packets: found.packets }];
  });
}

/** Of closed containers, by address: what no policy allows. */
export function countedDenials(nft: Nftables): { ip: string; packets: number }[] {
  return ['denied4', 'denied6']
    .flatMap((name) => nft.list(`list set inet weft ${name}`))
    .flatMap(({ set }) => set?.elem ?? [])
    .flatMap(elementCount)
    .map(({ value, packets }) => ({ ip: value, packets }));
}

function elementCount(element: unknown): { value: string; packets: number }[] {
  const { elem } = element as { elem?: { val?: unknown; counter?: { packets?: number } } };
  return typeof elem?.val === 'string' ? [{ value: elem.val, packets: elem.counter?.packets ?? 0 }] : [];
}
