// Direct routes: a peer on this node's link is the gateway of its own subnet.
//
// Shared by the backends that send packets without a tunnel, to all peers or to those on the link.
import type { IpNetwork } from '../address.js';
import type { OnLink, OverlayMembership, Router } from '../membership.js';
import type { KernelObject } from '../objects/index.js';
import { hostSource, routeMtu, type Remote } from './backend.js';

/** The route of the longest prefix that contains the peer's address, as the kernel chooses it. */
function wayTo({ underlay }: OverlayMembership, { publicIp }: Remote): OnLink | Router | undefined {
  const ways: (OnLink | Router)[] = [...underlay.onLink, ...(underlay.routers ?? [])];
  return ways
    .filter(({ prefix }) => prefix.contains(publicIp))
    .reduce<OnLink | Router | undefined>(
      (best, way) => (best === undefined || way.prefix.length > best.prefix.length ? way : best),
      undefined,
    );
}

/** The link on which the peer is a neighbour; undefined: it is behind a router. */
export function linkTo(membership: OverlayMembership, remote: Remote): string | undefined {
  const way = wayTo(membership, remote);
  return way !== undefined && 'link' in way ? way.link : undefined;
}

/** Where a peer is that is on no link of this node. */
export function whereIs(membership: OverlayMembership, remote: Remote): string {
  const way = wayTo(membership, remote);
  const { link, onLink } = membership.underlay;
  const here = `${link}: ${onLink.map(({ prefix }) => prefix.toString()).join(', ')}`;
  const router = way === undefined || 'link' in way ? '' : `is behind the router ${way.via.toString()} and `;
  return `its address ${remote.publicIp.toString()} ${router}is not on a link of this node (${here})`;
}

/** A route over the hosts' own link, which the peer forwards to its containers. */
export const directRoute = (
  membership: OverlayMembership,
  remote: Remote,
  to: IpNetwork,
  link: string,
): KernelObject => ({
  kind: 'route',
  to: to.toString(),
  link,
  via: remote.publicIp.toString(),
  underlay: true,
  ...hostSource(membership, remote.family),
  // No tunnel adds a header.
  ...routeMtu(membership, remote, 0),
});

/** Why an internal network cannot have such routes. */
export const ON_THE_HOSTS_LINK =
  "its packets arrive by the hosts' own link, where the firewall cannot tell them from what comes from outside";

/**
 * What no other route leads to is unreachable. Without this route the packets would take the host's default route, to a router
 * that does not know the subnets, or in clear where they are encrypted.
 */
export const nowhere = (prefix: IpNetwork): KernelObject => ({
  kind: 'route',
  to: prefix.toString(),
  link: '',
  unreachable: true,
});
