// Search over everything with a name or an address: names, ids, IP and MAC addresses, containers, labels.
import type { Cluster } from './store.js';

export interface Found {
  kind: 'node' | 'network' | 'endpoint';
  /** Of its view. */
  key: string;
  title: string;
  /** Why it was found, and where it is. */
  detail: string;
}

/** 0: the whole word; 1: its beginning; 2: inside of it; undefined: not at all. */
function rank(words: readonly string[], wanted: string): number | undefined {
  let best: number | undefined;
  for (const word of words) {
    const at = word.toLowerCase().indexOf(wanted);
    if (at < 0) continue;
    const found = word.length === wanted.length ? 0 : at === 0 ? 1 : 2;
    if (best === undefined || found < best) best = found;
  }
  return best;
}

const withoutPrefix = (address: string): string => address.replace(/\/\d+$/, '');

/** The best ones first. @param most how many */
export function search(cluster: Cluster, text: string, most = 50): Found[] {
  const wanted = text.trim().toLowerCase();
  if (wanted === '') return [];
  const ranks: Found[][] = [[], [], []];
  const look = (words: readonly string[], found: () => Found): void => {
    const list = ranks[rank(words, wanted) ?? -1];
    if (list !== undefined && list.length < most) list.push(found());
  };
  for (const { name, publicIp, publicIp6 = '', state } of cluster.nodes.values())
    look([name, publicIp, publicIp6], () => ({
      ...{ kind: 'node', key: name, title: name, detail: `node, ${state}, ${publicIp}` },
    }));
  for (const { name, subnet, subnet6 = '' } of cluster.networks.values())
    look([name, subnet, subnet6], () => ({
      ...{ kind: 'network', key: name, title: name, detail: `network, ${subnet || subnet6}` },
    }));
  for (const it of cluster.endpoints.values())
    look(
      [
        ...[it.name, it.id, withoutPrefix(it.ip), withoutPrefix(it.ip6 ?? ''), it.mac, it.target],
        ...[...it.aliases, ...Object.entries(it.labels).map(([key, value]) => `${key}=${value}`)],
      ].filter((word) => word !== ''),
      () => ({
        ...{ kind: 'endpoint', key: it.id, title: `${it.name}.${it.network}` },
        detail: `endpoint on ${it.node}, ${it.ip || it.ip6 || ''}, ${it.target}`,
      }),
    );
  return ranks.flat().slice(0, most);
}
