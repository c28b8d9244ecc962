// NIC of the host as a port of a bridge of weft's.
import { asKey, PHASE, type ItemKind, type ObjectKey } from './kind.js';

/** Becoming a port, it hands its addresses and routes on to the bridge, and released it has them back as they were. */
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
  // It has the host's addresses to give back.
  released: true,
  whyTaken: ({ link, master }) => `${link} is a port of ${master}, and weft did not make it one`,
};
