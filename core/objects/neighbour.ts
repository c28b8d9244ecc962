// Permanent neighbour entry: the MAC address of a gateway.
import { asKey, PHASE, type ItemKind, type ObjectKey } from './kind.js';

export interface NeighbourObject {
  kind: 'neighbour';
  link: string;
  ip: string;
  mac: string;
}

export const neighbourKey = (link: string, ip: string): ObjectKey => asKey(`neighbour ${link} ${ip}`);

export const neighbour: ItemKind<NeighbourObject> = {
  key: ({ link, ip }) => neighbourKey(link, ip),
  describe: ({ link, ip, mac }) => `neighbour ${ip} lladdr ${mac} dev ${link}`,
  order: () => PHASE.neighbour,
  same: (a, b) => a.mac === b.mac,
  link: ({ link }) => link,
  guards: ({ link }) => [link],
  // neigh_changeaddr (net/core/neighbour.c) also deletes permanent entries.
  lostWithMac: true,
};
