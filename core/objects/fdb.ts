// FDB entry of a VXLAN device: the VTEP behind a MAC address.
import { asKey, PHASE, type ItemKind, type ObjectKey } from './kind.js';

/**
 * Where frames for a unicast MAC address are sent. There is at most one: the kernel accepts a second by append and ignores it
 * (vxlan_fdb_update_existing), so another destination replaces the first.
 */
export interface FdbObject {
  kind: 'fdb';
  link: string;
  mac: string;
  /** Underlay address of the VTEP. */
  dst: string;
}

export const fdbKey = (link: string, mac: string): ObjectKey => asKey(`fdb ${link} ${mac}`);

export const fdb: ItemKind<FdbObject> = {
  key: ({ link, mac }) => fdbKey(link, mac),
  describe: ({ link, mac, dst }) => `fdb ${mac} dst ${dst} dev ${link}`,
  order: () => PHASE.fdb,
  same: (a, b) => a.dst === b.dst,
  link: ({ link }) => link,
  guards: ({ link }) => [link],
};
