// Contents of /etc/hosts, /etc/hostname and /etc/resolv.conf for `weft run`.
import { addressesOf, type Endpoint } from '../../core/records.js';

/** HOST_NAME_MAX of Linux is 64 (include/uapi/linux/utsname.h); a label of DNS has 63 characters at most. */
export const hostnameOf = (name: string): string => name.slice(0, 63).replace(/[.-]+$/, '');

/** @param resolvConf absent: the host's, because the container is on no network with names */
export function containerFiles(
  name: string,
  endpoint: Endpoint | undefined,
  resolvConf: string | undefined,
): Map<string, string> {
  const hostname = hostnameOf(name);
  const files = new Map([
    ['hostname', `${hostname}\n`],
    ['hosts', hostsText(hostname, endpoint)],
  ]);
  if (resolvConf !== undefined) files.set('resolv.conf', resolvConf);
  return files;
}

function hostsText(hostname: string, endpoint: Endpoint | undefined): string {
  const own = endpoint === undefined ? [] : addressesOf(endpoint);
  const lines = [
    '127.0.0.1 localhost',
    '::1 localhost ip6-localhost ip6-loopback',
    'ff02::1 ip6-allnodes',
    'ff02::2 ip6-allrouters',
    // hosts(5): without a network the hostname still resolves, to 127.0.1.1 as on Debian.
    ...(own.length > 0 ? own : ['127.0.1.1']).map((ip) => `${ip} ${hostname}`),
  ];
  return `${lines.join('\n')}\n`;
}
