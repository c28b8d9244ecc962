// Pump: what carries packets between a device and UDP, and the prefixes of its peers.
//
// A process at a TUN device, or the kernel itself (FOU) at an IPIP device. Of FOU it is the port at which datagrams are received.
// The prefixes are routes of a table of their own, to which no rule leads: the kernel keeps and shows them, the pump reads them,
// and neither needs the agent.
import { asKey, PHASE, type ItemKind } from './kind.js';

export interface PumpObject {
  kind: 'pump';
  link: string;
  /** The underlay address that it sends from and receives at. */
  local: string;
  /** UDP port, its own and every peer's. */
  port: number;
  /** The kernel is the pump: there is no process. */
  fou?: true;
  /** It was started by another version of weft. */
  outdated?: true;
}

export const pump: ItemKind<PumpObject> = {
  key: ({ link }) => asKey(`pump ${link}`),
  describe: ({ link, local, port, fou }) =>
    `${fou === true ? 'FOU' : 'pump'} of ${link} at UDP ${local}:${port}`,
  order: () => PHASE.tunnelKey,
  same: (a, b) => a.local === b.local && a.port === b.port && a.fou === b.fou && a.outdated === b.outdated,
  link: ({ link }) => link,
  guards: ({ link }) => [link],
  // Without its device it would wait for ever.
  released: true,
};

/** A prefix that a peer has: datagrams to it go to the peer, and packets from it are taken from no other. */
export interface PumpPrefixObject {
  kind: 'pump-prefix';
  link: string;
  to: string;
  /** The peer's underlay address. */
  via: string;
}

export const pumpPrefix: ItemKind<PumpPrefixObject> = {
  key: ({ to }) => asKey(`pump-prefix ${to}`),
  describe: ({ to, via, link }) => `prefix ${to} of peer ${via} dev ${link}`,
  order: () => PHASE.tunnelPrefix,
  same: (a, b) => a.link === b.link && a.via === b.via,
  link: ({ link }) => link,
  guards: ({ link }, step) => (step === 'delete' ? [] : [link]),
};
