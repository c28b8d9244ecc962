// Networks that a node joins because a network of its containers is routed with them.
import { areRouted } from '../../core/network.js';
import type { Logger } from '../../daemon/log.js';
import type { Store } from '../../store/store.js';
import { attempt, NODE, type Problems } from '../health/index.js';

export interface RoutedNetworksOptions {
  store: Pick<Store, 'view'>;
  log: Logger;
  problems: Problems;
  /** Whether containers of this node are on the network. */
  isUsed: (network: string) => boolean;
  /** Whether the node is on it, or may join none. */
  isMember: (network: string) => boolean;
  join: (network: string) => Promise<void>;
}

/** Packets take the other network's tunnels and answers this one's, so the node must be on both. */
export async function joinRoutedNetworks(options: RoutedNetworksOptions): Promise<void> {
  const { store, problems, isUsed, isMember, join } = options;
  const known = [...store.view.networks.values()];
  const used = known.filter(({ name }) => isUsed(name));
  const wanted = known.filter((other) => used.some((network) => areRouted(network, other)));
  for (const { name } of wanted) {
    if (isMember(name)) continue;
    const what = `network ${name}, which a network of this node's containers is routed with`;
    await attempt(options, { scope: NODE, kind: 'routed-network', id: name, what }, () => join(name));
  }
  const names = new Set(wanted.map(({ name }) => name));
  problems.keepOnly(NODE, 'routed-network', names);
}
