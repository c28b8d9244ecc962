// Finds this node's underlay addresses, link and MTU.
//
// They are the configured addresses, those of the configured interface, or those of the default route's interface.
import { addressBits, IpNetwork, parseInterface, type IpAddress } from '../../core/address.js';
import { failedPrecondition, type WeftError } from '../../core/errors.js';
import type { OnLink, Underlay } from '../../core/compile.js';
import type { UnderlayLink } from '../kernel/index.js';

export interface UnderlaySettings {
  ips?: readonly IpAddress[];
  iface?: string;
}

/** @throws WeftError FAILED_PRECONDITION that names what was looked for and what exists */
export function findUnderlay(links: readonly UnderlayLink[], settings: UnderlaySettings): Underlay {
  if (settings.ips !== undefined && settings.ips.length > 0) return byAddress(links, settings.ips);
  if (settings.iface !== undefined) {
    // Its addresses move to the bridge when it becomes a bridge port.
    const link = links.find(({ name, port }) => name === settings.iface || port === settings.iface);
    if (link === undefined) throw missing(`there is no interface ${settings.iface} with an address`, links);
    return fromLink(link, links);
  }
  const metric = (link: UnderlayLink): number => link.defaultMetric4 ?? link.defaultMetric6 ?? Infinity;
  const [best] = links.filter((link) => metric(link) < Infinity).sort((a, b) => metric(a) - metric(b));
  if (best === undefined)
    throw missing('this host has no default route that shows which interface other nodes reach', links);
  return fromLink(best, links);
}

function byAddress(links: readonly UnderlayLink[], ips: readonly IpAddress[]): Underlay {
  const ip = ips.find((candidate) => candidate.family === 4);
  const ip6 = ips.find((candidate) => candidate.family === 6);
  if (ip === undefined) throw missing('the underlay needs an IPv4 address', links);
  const holder = (wanted: IpAddress): UnderlayLink => {
    const link = links.find((candidate) => addressesOf(candidate).some((address) => address.equals(wanted)));
    if (link === undefined)
      throw missing(`no interface of this host has the address ${wanted.toString()}`, links);
    return link;
  };
  const link = holder(ip);
  const link6 = ip6 === undefined ? link : holder(ip6);
  const mtu = Math.min(link.mtu, link6.mtu);
  const onLink = [...new Set([link, link6])].flatMap(prefixesOf);
  return { ip, ...(ip6 === undefined ? {} : { ip6 }), mtu, link: link.name, onLink };
}

function fromLink(link: UnderlayLink, links: readonly UnderlayLink[]): Underlay {
  const addresses = addressesOf(link);
  const ip = addresses.find((address) => address.family === 4);
  const ip6 = addresses.find((address) => address.family === 6);
  if (ip === undefined) throw missing(`interface ${link.name} has no IPv4 address`, links);
  return {
    ip,
    ...(ip6 === undefined ? {} : { ip6 }),
    mtu: link.mtu,
    link: link.name,
    onLink: prefixesOf(link),
  };
}

const addressesOf = (link: UnderlayLink): IpAddress[] =>
  link.addresses.map((text) => parseInterface(text).address);

/** Prefixes of a link's addresses. A full-length prefix has no neighbours. */
const prefixesOf = ({ name, addresses }: UnderlayLink): OnLink[] =>
  addresses.flatMap((text) => {
    const { address, length } = parseInterface(text);
    return length === addressBits(address.family)
      ? []
      : [{ link: name, prefix: IpNetwork.of(address, length) }];
  });

function missing(why: string, links: readonly UnderlayLink[]): WeftError {
  const there = links.map((link) => `${link.name} (${link.addresses.join(', ')})`).join(', ');
  return failedPrecondition(
    why,
    `Name it with --underlay-ip or --underlay-iface. This host has: ${there === '' ? 'no interface with an address' : there}.`,
  );
}

export const sameUnderlay = (a: Underlay, b: Underlay): boolean =>
  a.ip.equals(b.ip) &&
  a.ip6?.toString() === b.ip6?.toString() &&
  a.mtu === b.mtu &&
  a.link === b.link &&
  onLinkText(a) === onLinkText(b);

const onLinkText = ({ onLink }: Underlay): string =>
  onLink
    .map(({ link, prefix }) => `${link} ${prefix.toString()}`)
    .sort()
    .join(' ');
