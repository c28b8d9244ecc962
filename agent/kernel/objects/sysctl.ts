// Kernel settings, in /proc/sys and in netconf notifications (include/uapi/linux/netconf.h).
import { readFileSync, writeFileSync } from 'node:fs';

import { messageOf } from '../../../core/errors.js';
import type { SysctlObject } from '../../../core/objects/index.js';
import { AF_INET6 } from '../libc.js';
import { decodeAttrs, RTM } from '../netlink-message.js';
import type { ItemCodec } from './codec.js';
import type { LinkLookup } from './readings.js';

const NETCONFA = { IFINDEX: 1, FORWARDING: 2, PROXY_NEIGH: 5 } as const;
const NETCONFA_IFINDEX_ALL = -1;

export const sysctl: ItemCodec<SysctlObject> = {
  carryOut({ path, value }, _how, { inside }) {
    try {
      inside(() => writeFileSync(`/proc/sys/${path}`, value));
      return undefined;
    } catch (error) {
      return { errno: (error as NodeJS.ErrnoException).code ?? 'EIO', message: messageOf(error) };
    }
  },
  observe: ({ sysctls, inside }) =>
    inside(() => [...sysctls].map((path) => ({ object: read(path), owned: false }))),
  messageTypes: [RTM.NEWNETCONF],
  events: (_type, body, lookup) =>
    decodeNetconf(body, lookup).map((object) => ({ actual: { object, owned: false }, there: true })),
};

function read(path: string): SysctlObject {
  try {
    return { kind: 'sysctl', path, value: readFileSync(`/proc/sys/${path}`, 'utf8').trim() };
  } catch {
    return { kind: 'sysctl', path, value: '' };
  }
}

/** The settings of a link, or of all links, in a netconf notification. */
function decodeNetconf(body: Buffer, links: LinkLookup): SysctlObject[] {
  const attrs = decodeAttrs(body, 4);
  const index = attrs.get(NETCONFA.IFINDEX)?.readInt32LE();
  const family = body.readUInt8(0) === AF_INET6 ? 6 : 4;
  const name =
    index === undefined ? undefined : index === NETCONFA_IFINDEX_ALL ? 'all' : links.byIndex(index)?.name;
  if (name === undefined) return [];
  const conf = `net/ipv${family}/conf/${name}`;
  const setting = (path: string, attr: number): SysctlObject[] => {
    const value = attrs.get(attr)?.readInt32LE();
    return value === undefined ? [] : [{ kind: 'sysctl', path, value: `${value}` }];
  };
  const all = name === 'all' && family === 4 ? 'net/ipv4/ip_forward' : `${conf}/forwarding`;
  return [
    ...setting(all, NETCONFA.FORWARDING),
    ...setting(`${conf}/${family === 6 ? 'proxy_ndp' : 'proxy_arp'}`, NETCONFA.PROXY_NEIGH),
  ];
}
