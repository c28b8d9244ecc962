// Kernel setting below /proc/sys.
import { asKey, PHASE, type ItemKind, type ObjectKey } from './kind.js';

/** Settings are not owned. One keeps its value when no record wants it any more. */
export interface SysctlObject {
  kind: 'sysctl';
  /** Below /proc/sys, for instance net/ipv4/ip_forward. */
  path: string;
  value: string;
}

export const sysctlKey = (path: string): ObjectKey => asKey(`sysctl ${path}`);

/**
 * IPv6 is on for one link. Where it is off for new links (a hardened host, and Docker in each container), the kernel refuses the
 * link's IPv6 addresses (EACCES).
 */
export const ipv6Enabled = (link: string): SysctlObject => ({
  kind: 'sysctl',
  path: `net/ipv6/conf/${link}/disable_ipv6`,
  value: '0',
});

/** In sysctl(8)'s form, with dots for the path's slashes, and a slash for a dot in a link's name. */
export const sysctlName = (path: string): string =>
  path.replaceAll(/[./]/g, (separator) => (separator === '/' ? '.' : '/'));

/** The link that a setting belongs to: net/ipv4/conf/LINK/…, net/ipv4/neigh/LINK/… */
export function sysctlLink(path: string): string | undefined {
  const [, , table, link] = path.split('/');
  // `all` is for all links, `default` for links created later.
  return (table !== 'conf' && table !== 'neigh') || link === 'all' || link === 'default' ? undefined : link;
}

export const sysctl: ItemKind<SysctlObject> = {
  key: ({ path }) => sysctlKey(path),
  describe: ({ path, value }) => `sysctl ${path} = ${value}`,
  order: () => PHASE.sysctl,
  same: (a, b) => a.value === b.value,
  link: ({ path }) => sysctlLink(path),
  guards({ path }) {
    const link = sysctlLink(path);
    return link === undefined ? [] : [link];
  },
  adopts: true,
  onAnyLink: () => true,
};
