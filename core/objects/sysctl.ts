// Kernel setting below /proc/sys.
import { asKey, PHASE, type ItemKind, type ObjectKey } from './kind.js';

/** Nobody owns a setting. It stays as it is when no record wants it any more. */
export interface SysctlObject {
  kind: 'sysctl';
  /** Below /proc/sys, for instance net/ipv4/ip_forward. */
  path: string;
  value: string;
}

export const sysctlKey = (path: string): ObjectKey => asKey(`sysctl ${path}`);

/** As sysctl(8) writes it, which has dots where the path has slashes, and a slash for the dot of a link's name. */
export const sysctlName = (path: string): string =>
  path.replaceAll(/[./]/g, (separator) => (separator === '/' ? '.' : '/'));

/** The link whose own setting it is: net/ipv4/conf/LINK/… */
export function sysctlLink(path: string): string | undefined {
  const [, , conf, link] = path.split('/');
  // Of these two, one is for all links, and one for links to come.
  return conf !== 'conf' || link === 'all' || link === 'default' ? undefined : link;
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
