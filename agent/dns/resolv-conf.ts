// resolv.conf(5): formats a container's and parses the host's. Pure.
import { ownGateways, type Membership } from '../../core/compile.js';
import { IpAddress } from '../../core/address.js';

/** The domain that has every network as a subdomain: NAME.NETWORK.weft. */
export const DOMAIN = 'weft';

/** glibc reads at most this many (MAXNS, resolv.h). */
const MAX_NAMESERVERS = 3;
/** Limit of glibc before 2.26, and of musl: search domains in one line of at most 256 characters. */
const MAX_SEARCH = 6;

export interface ResolvConf {
  /** In order of preference. */
  nameservers: readonly string[];
  search: readonly string[];
  /** Such as `ndots:0`. */
  options: readonly string[];
}

/** Of a host without one, or with an empty one. */
export const NO_RESOLV_CONF: ResolvConf = { nameservers: [], search: [], options: [] };

/** First line of every resolv.conf that weft writes, by which it recognizes its own. */
export const RESOLV_CONF_MARK = '# Written by weft for a container, until that leaves.';

/**
 * The resolv.conf of a container on these networks, the most important one first: the gateways answer for all of them.
 *
 * With ndots:0 a name is queried first as written, and only then below the search domains: `db` is one query,
 * on whichever of the container's networks it exists, and www.example.com is never tried as a name of weft's.
 * @param host the host's own: its search domains are kept, because its other names depend on them, and all of it is used
 * where no gateway answers for weft, as on a LAN whose gateway is a router
 */
export function containerResolvConf(
  memberships: readonly Membership[],
  host: ResolvConf = NO_RESOLV_CONF,
): string {
  const gateways = (family: 4 | 6): string[] =>
    memberships.flatMap((membership) =>
      ownGateways(membership)
        .filter((gateway) => gateway.family === family)
        .map(String),
    );
  // First one IPv4 gateway of each network: a second family of the same agent adds little.
  const nameservers = [...gateways(4), ...gateways(6)].slice(0, MAX_NAMESERVERS);
  if (nameservers.length === 0) return formatResolvConf(host);
  return formatResolvConf({
    nameservers,
    search: [...memberships.map(({ network }) => `${network.name}.${DOMAIN}`), ...host.search],
    options: ['ndots:0'],
  });
}

export function formatResolvConf({ nameservers, search, options }: ResolvConf): string {
  const lines = [RESOLV_CONF_MARK, ...nameservers.map((ip) => `nameserver ${ip}`)];
  const domains = [...new Set(search)].slice(0, MAX_SEARCH);
  if (domains.length > 0) lines.push(`search ${domains.join(' ')}`);
  if (options.length > 0) lines.push(`options ${options.join(' ')}`);
  return `${lines.join('\n')}\n`;
}

/** Parses as glibc does: unknown lines are skipped; the last `search` or `domain` counts. */
export function parseResolvConf(text: string): ResolvConf {
  const nameservers: string[] = [];
  let search: string[] = [];
  const options: string[] = [];
  for (const line of text.split('\n')) {
    if (/^[#;]/.test(line)) continue;
    const [keyword, ...words] = line.trim().split(/\s+/);
    if (keyword === 'nameserver') {
      // A zone (fe80::1%eth0) is part of the address here.
      const [ip = '', zone] = (words[0] ?? '').split('%');
      const address = IpAddress.tryParse(ip);
      if (address !== undefined)
        nameservers.push(zone === undefined ? address.toString() : `${address.toString()}%${zone}`);
    } else if (keyword === 'search') search = words;
    else if (keyword === 'domain') search = words.slice(0, 1);
    else if (keyword === 'options') options.push(...words);
  }
  return { nameservers: nameservers.slice(0, MAX_NAMESERVERS), search: search.filter(isDomain), options };
}

// Only plain words may be copied into other files; a "." alone means the root, which a container does not need.
const isDomain = (word: string): boolean => /^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,252}$/.test(word);
