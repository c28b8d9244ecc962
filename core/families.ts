// Values by family: the pairs of IPv4 and IPv6 that records have.
//
// A network, lease, node or endpoint has its IPv4 value first, and its IPv6 value second if it has both. Where it has no IPv4,
// the IPv6 value is the first. What needs one value of any family (a key, a MAC address, a name in a log) takes the first.
import { bareIp, type Family, type IpAddress, type IpNetwork } from './address.js';

export const FAMILIES = [4, 6] as const satisfies readonly Family[];

const ofFamily = <T extends { readonly family: Family }>(
  family: Family,
  ...values: readonly (T | undefined)[]
): T | undefined => values.find((value) => value?.family === family);

/** The prefix that a network or a lease has in a family. */
export const subnetIn = (
  { subnet, subnet6 }: { subnet: IpNetwork; subnet6?: IpNetwork | undefined },
  family: Family,
): IpNetwork | undefined => ofFamily(family, subnet, subnet6);

/** The address of a family on the underlay. */
export const addressIn = (
  { ip, ip6 }: { ip: IpAddress; ip6?: IpAddress | undefined },
  family: Family,
): IpAddress | undefined => ofFamily(family, ip, ip6);

/** The address that a node sends and receives by, as its lease says. */
export const publicIpIn = (
  { publicIp, publicIp6 }: { publicIp: IpAddress; publicIp6?: IpAddress | undefined },
  family: Family,
): IpAddress | undefined => ofFamily(family, publicIp, publicIp6);

/** The text of a pair that has this family, with or without a prefix length. */
export const textIn = (
  { ip, ip6 }: { ip?: string | undefined; ip6?: string | undefined },
  family: Family,
): string | undefined =>
  [ip, ip6].find((text) => text !== undefined && text.includes(':') === (family === 6));

/** The same without prefix length. */
export function bareIn(pair: Parameters<typeof textIn>[0], family: Family): string | undefined {
  const text = textIn(pair, family);
  return text === undefined ? undefined : bareIp(text);
}

/** The families of an endpoint's addresses. */
export const familiesIn = (pair: { ip?: string | undefined; ip6?: string | undefined }): Family[] =>
  FAMILIES.filter((family) => textIn(pair, family) !== undefined);

/** The prefix length of a node's subnet in a family. */
export const hostPrefixIn = (
  network: { subnet: IpNetwork; hostPrefix: number; hostPrefix6?: number | undefined },
  family: Family,
): number | undefined => (network.subnet.family === family ? network.hostPrefix : network.hostPrefix6);
