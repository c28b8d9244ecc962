// veth pair as seen from the node: a container's bridge port.
import { PHASE, type LinkKind } from './kind.js';
import { ANY_LINK, guardsBridge, guardsItself } from './link.js';

/** The other end is created directly in the container's namespace. */
export interface VethLink {
  kind: 'link';
  type: 'veth';
  name: string;
  alias: string;
  mtu: number;
  /** The bridge that it is a port of. */
  master: string;
  /** The only VLAN of the port, untagged; 0: in none, or in several. Absent: the bridge assigns it, or it is not known. */
  vlan?: number;
  /** Hairpin mode: whether the bridge sends frames back out of their ingress port. Absent: off. */
  hairpin?: boolean;
  /** With `onNode` it is created in the node's namespace, and the container's manager moves it. */
  peer: { name: string; mac: string; onNode?: boolean };
}

/** An absent VLAN (in a kernel notification, or on a bridge that assigns it) equals any. */
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
