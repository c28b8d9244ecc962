// Proxy neighbour: an address that the node answers ARP or NDP for.
import { asKey, PHASE, type ItemKind } from './kind.js';

/** `ip neigh add proxy`. */
export interface ProxyObject {
  kind: 'proxy';
  link: string;
  ip: string;
}

export const proxy: ItemKind<ProxyObject> = {
  key: ({ link, ip }) => asKey(`proxy ${link} ${ip}`),
  describe: ({ link, ip }) => `proxy neighbour ${ip} dev ${link}`,
  order: () => PHASE.proxy,
  same: () => true,
  link: ({ link }) => link,
  guards: ({ link }) => [link],
};
