// veth pair, seen from the node: a container's port of a bridge.
import { PHASE, type LinkKind } from './kind.js';
import { ANY_LINK, guardsBridge, guardsItself } from './link.js';

/** The other end is made straight in the container's namespace. */
export interface VethLink {
  kind: 'link';
  type: 'veth';
  name: string;
  alias: string;
  mtu: number;
  /** The bridge it is a port of. */
  master: string;
  /** The one VLAN that the port is in, untagged; 0: in none, or in others. Absent: the bridge sees to it, or not known. */
  vlan?: number;
  /** Whether the bridge sends a frame back by the port that it came from. Absent: it does not. */
  hairpin?: boolean;
  /** With `onNode` it is made in the node's namespace, and whoever runs the container moves it. */
  peer: { name: string; mac: string; onNode?: boolean };
}

/** Where one of the two does not say, a notification of the kernel's or a bridge that sees to it itself, nothing differs. */
const sameVlan = (a: number | undefined, b: number | undefined): boolean =>
  a === undefined || b === undefined || a === b;

export const veth: LinkKind<VethLink> = {
  ...ANY_LINK,
  order: () => PHASE.veth,
  same: (a, b) =>
    a.mtu === b.mtu &&
    a.alias === b.alias &&
    a.master === b.master &&
    sameVlan(a.vlan, b.vlan) &&
    (a.hairpin ?? false) === (b.hairpin ?? false),
  remade: () => false,
  bridge: ({ master }) => master,
  guards: (link, step) => [...guardsItself(link, step), ...guardsBridge(link.master)],
};
