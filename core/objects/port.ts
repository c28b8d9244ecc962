// Host NIC as a port of a bridge of weft's.
import { asKey, PHASE, type ItemKind, type ObjectKey } from './kind.js';

/** A NIC that becomes a port moves its addresses and routes to the bridge; on release they move back unchanged. */
export interface PortObject {
  kind: 'port';
  link: string;
  master: string;
}

export const portKey = (link: string): ObjectKey => asKey(`port ${link}`);

export const port: ItemKind<PortObject> = {
  key: ({ link }) => portKey(link),
  describe: ({ link, master }) => `port ${link} of ${master}`,
  order: () => PHASE.port,
  same: (a, b) => a.master === b.master,
  link: ({ link }) => link,
  bridge: ({ master }) => master,
  guards: ({ master }, step) => (step === 'delete' ? [] : [master]),
  onAnyLink: () => true,
  // Deleting it returns the host's addresses.
  released: true,
  whyTaken: ({ link, master }) => `${link} is a port of ${master}, and weft did not make it one`,
};
