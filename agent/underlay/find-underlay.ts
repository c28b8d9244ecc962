// Finds this node's underlay addresses, link and MTU.
//
// They are the configured addresses, or addresses of the configured interface, or at first those that the kernel itself would
// send from. The node then stays on them: a second address, a VPN's default route or a new privacy address (RFC 8981) is no
// reason to move every tunnel. It moves when an address is gone, or cannot be used any more and another one can.
import { addressBits, type Family, IpAddress, IpNetwork, parseInterface } from '../../core/address.js';
import { FAMILIES } from '../../core/families.js';
import { failedPrecondition, type WeftError } from '../../core/errors.js';
import type { OnLink, Router, Underlay } from '../../core/compile.js';
import type { AddressFlaw, Kernel, UnderlayLink } from '../kernel/index.js';

export interface UnderlaySettings {
  ips?: readonly IpAddress[];
  iface?: string;
  /** What other nodes send to instead. */
  nat?: NonNullable<Underlay['nat']>;
}

/** Addresses that the node stood on last. */
export interface LastAddresses {
  ip?: IpAddress;
  ip6?: IpAddress;
}

/** An address of this host. */
interface Candidate {
  address: IpAddress;
  /** Of the prefix. */
  length: number;
  link: UnderlayLink;
  flaw: AddressFlaw | undefined;
}

interface Search {
  links: readonly UnderlayLink[];
  candidates: readonly Candidate[];
  sendsFrom: Kernel['sendsFrom'];
  settings: UnderlaySettings;
  last: LastAddresses;
}

/** @throws WeftError FAILED_PRECONDITION that names what was looked for and what exists */
export async function findUnderlay(
  kernel: Pick<Kernel, 'underlayLinks' | 'sendsFrom'>,
  settings: UnderlaySettings,
  last: LastAddresses = {},
): Promise<Underlay> {
  const links = await kernel.underlayLinks();
  const { ips, iface } = settings;
  const sendsFrom: Kernel['sendsFrom'] = (family) => kernel.sendsFrom(family);
  // Its addresses move to the bridge when it becomes a bridge port.
  const eligible = links.filter(({ name, port }) => iface === undefined || iface === name || iface === port);
  if (eligible.length === 0 && iface !== undefined)
    throw missing(`there is no interface ${iface} with an address`, links);
  const search = { links, candidates: eligible.flatMap(candidatesOf), sendsFrom, settings, last };
  if (ips === undefined || ips.length === 0) {
    const four = choose4(search);
    const six = choose6(search, four?.link.name);
    if (four !== undefined) return underlayAt(search, four, six);
    if (six === undefined) throw noneFound(search);
    // Its IPv4 address may come back in a moment, or come later than the IPv6 one when a host starts.
    if (last.ip?.family === 4)
      throw failedPrecondition(
        `this host has no IPv4 address on the underlay any more; the node had ${last.ip.toString()}`,
        `Give it one again. To go on with IPv6 alone, name the address: --underlay-ip ${six.address.toString()}.`,
      );
    return underlayAt(search, six, undefined);
  }
  const [ip, ip6] = FAMILIES.flatMap((family) => ips.find((it) => it.family === family) ?? []);
  if (ip === undefined) throw noneFound(search);
  return underlayAt(search, given(search, ip), ip6 && given(search, ip6));
}

function given(search: Search, wanted: IpAddress): Candidate {
  const found = search.candidates.find(({ address }) => address.equals(wanted));
  const text = wanted.toString();
  if (found === undefined) throw missing(`no interface of this host has the address ${text}`, search.links);
  if (found.flaw === 'duplicate')
    throw failedPrecondition(
      `another host of the link has the address ${text}: the kernel does not use it (dadfailed)`,
      'Give one of the hosts another address, or this one another --underlay-ip.',
    );
  if (found.flaw === 'tentative' && !isLast(search, found))
    throw failedPrecondition(
      `the kernel is still checking whether another host has the address ${text} (tentative)`,
      'It takes a second or two.',
    );
  return found;
}

function choose4(search: Search): Candidate | undefined {
  const { candidates, sendsFrom, settings } = search;
  const there = candidates.filter(({ address }) => address.family === 4);
  const link = (sendsFrom(4) ?? sendsFrom(6))?.link;
  return (
    preferred(search, there, 4) ??
    // The addresses of other links, such as Docker's bridge, are none that other nodes reach.
    best(there.filter((it) => settings.iface !== undefined || it.link.name === link)) ??
    // The node has nowhere else to go, and the link may come up again.
    there.find((it) => isLast(search, it))
  );
}

/** @param link4 the link of the IPv4 address */
function choose6(search: Search, link4: string | undefined): Candidate | undefined {
  const { candidates, sendsFrom, settings } = search;
  const there = candidates.filter(({ address }) => address.family === 6);
  const link = sendsFrom(6)?.link ?? link4;
  const found =
    preferred(search, there, 6) ??
    best(there.filter((it) => settings.iface !== undefined || it.link.name === link));
  // Better an address that is about to go than none.
  return found ?? there.find((it) => isLast(search, it) && it.flaw !== 'duplicate' && it.flaw !== 'down');
}

function noneFound({ links, candidates, settings: { iface } }: Search): WeftError {
  if (iface !== undefined && candidates.every(({ flaw }) => flaw === 'down'))
    return failedPrecondition(`interface ${iface} is down`, `Bring it up: ip link set ${iface} up.`);
  if (iface !== undefined) return missing(`interface ${iface} has no address that can be used`, links);
  if (candidates.length === 0)
    return failedPrecondition(
      'this host has no address that other nodes reach',
      `Give an interface of it one. This host has: ${listed(links)}.`,
    );
  return missing('this host has no default route that shows which address other nodes reach', links);
}

/** The address that the node stood on last, or the one that the kernel would send from. */
function preferred(search: Search, there: readonly Candidate[], family: Family): Candidate | undefined {
  // An address of the node is tentative again for a moment when its link comes back.
  const kept = there.find((it) => isLast(search, it) && (it.flaw === undefined || it.flaw === 'tentative'));
  if (kept !== undefined) return kept;
  const source = search.sendsFrom(family)?.ip;
  return there.find(({ address, flaw }) => address.toString() === source && flaw === undefined);
}

/**
 * The oldest with neighbours: a host's own prefix has neighbours in it, and an address with none, or one that came later, is
 * often another service's (VRRP, anycast). The kernel would send from the newest IPv6 address of a prefix.
 */
function best(candidates: readonly Candidate[]): Candidate | undefined {
  const usable = candidates.filter(({ flaw }) => flaw === undefined);
  return usable.find(hasNeighbours) ?? usable[0];
}

const hasNeighbours = ({ address, length }: Candidate): boolean => length < addressBits(address.family);

const isLast = ({ last }: Search, { address }: Candidate): boolean =>
  [last.ip, last.ip6].some((ip) => ip?.equals(address) === true);

function underlayAt(
  { links, sendsFrom, settings: { nat } }: Search,
  at: Candidate,
  at6: Candidate | undefined,
): Underlay {
  // An address on the loopback is sent from through the link of the route.
  const carrier = ({ link, address }: Candidate): UnderlayLink =>
    link.loopback ? (links.find(({ name }) => name === sendsFrom(address.family)?.link) ?? link) : link;
  const carriers = [carrier(at), ...(at6 === undefined ? [] : [carrier(at6)])];
  const carrying = [...new Set(carriers)];
  const routers = carrying.flatMap(routersOf);
  return {
    ip: at.address,
    ...(at6 === undefined ? {} : { ip6: at6.address }),
    ...(nat === undefined ? {} : { nat }),
    mtu: Math.min(...carriers.map(({ mtu }) => mtu)),
    link: carrier(at).name,
    onLink: carrying.flatMap((link) => candidatesOf(link).filter(hasNeighbours).map(onLinkOf)),
    ...(routers.length === 0 ? {} : { routers }),
  };
}

const candidatesOf = (link: UnderlayLink): Candidate[] =>
  link.addresses.map((text) => ({ ...parseInterface(text), link, flaw: link.flaws?.[text] }));

const onLinkOf = ({ address, length, link }: Candidate): OnLink => ({
  link: link.name,
  prefix: IpNetwork.of(address, length),
});

const routersOf = ({ routers = [] }: UnderlayLink): Router[] =>
  routers.map(({ to, via }) => ({ prefix: IpNetwork.parse(to), via: IpAddress.parse(via) }));

const listed = (links: readonly UnderlayLink[]): string =>
  links
    .filter(({ addresses }) => addresses.length > 0)
    .map(({ name, addresses }) => `${name} (${addresses.join(', ')})`)
    .join(', ') || 'no interface with an address';

const missing = (why: string, links: readonly UnderlayLink[]): WeftError =>
  failedPrecondition(why, `Name it with --underlay-ip or --underlay-iface. This host has: ${listed(links)}.`);

export const sameUnderlay = (a: Underlay, b: Underlay): boolean =>
  a.ip.equals(b.ip) &&
  a.ip6?.toString() === b.ip6?.toString() &&
  a.mtu === b.mtu &&
  a.link === b.link &&
  waysText(a) === waysText(b);

const waysText = ({ onLink, routers = [] }: Underlay): string =>
  [...onLink, ...routers]
    .map((way) => `${way.prefix.toString()} ${'via' in way ? way.via.toString() : way.link}`)
    .sort()
    .join(' ');
