// Routes of the host: of every table that its rules lead to, and to its own addresses.
//
// A VPN has its routes in a table of its own, before the main one (`ip rule`). An address on the loopback, or one without
// neighbours on a dummy link, is in no other table than local. Tables of VRFs have no such rule: their addresses are apart.
import { IpNetwork, parseInterface } from '../../core/address.js';
import type { HostRoute } from '../../core/host-routes.js';
import type { LinuxNamespace } from './namespace.js';
import { decodeAttrs, RTM, type Request } from './netlink-message.js';
import type { NetlinkSocket } from './netlink-socket.js';
import { AF_INET, AF_INET6 } from './libc.js';
import { readAddresses } from './observe.js';
import { decodeAnyRoute, dumpRoutes, isOwnRoute, MAIN_TABLE, type LinkLookup } from './objects/index.js';

/** include/uapi/linux/fib_rules.h */
const FRA_TABLE = 15;
const FR_ACT_TO_TBL = 1;

const dumpRules: Request = { type: RTM.GETRULE, flags: 0, body: Buffer.alloc(12) };

/** Tables whose number says more by its name (include/uapi/linux/rtnetlink.h). */
const NAMES: Readonly<Record<number, string>> = { 253: 'default', 255: 'local' };

/** In the namespace of the node. See Kernel.routes. */
export function readHostRoutes(node: LinuxNamespace): HostRoute[] {
  const { socket } = node;
  const links = node.links();
  const lookup: LinkLookup = { byIndex: (index) => links.get(index), marksAddresses: true, role: 'node' };
  const tables = ruledTables(socket);
  const prefixes = new Set(
    readAddresses(socket, lookup).map(({ link, text }) => {
      return `${parseInterface(text).network.toString()} ${link.name}`;
    }),
  );
  const found = socket.dump(dumpRoutes).flatMap(({ body }) => {
    const route = decodeAnyRoute(body, lookup);
    if (route === undefined || route.isDefault || route.actual.object.kind !== 'route') return [];
    if (!tables.has(route.table)) return [];
    const { to, via } = route.actual.object;
    const isConnected = route.connected || prefixes.has(`${to} ${route.link?.name}`);
    return [
      {
        to: IpNetwork.parse(to),
        ...(route.link && { link: route.link.name }),
        ...(via !== undefined && { via }),
        ...(route.table !== MAIN_TABLE && { table: NAMES[route.table] ?? `${route.table}` }),
        isLan: route.link !== undefined && via === undefined && isConnected,
        isOwn: isOwnRoute(route),
      },
    ];
  });
  return withoutRepeated(found);
}

function ruledTables(socket: NetlinkSocket): Set<number> {
  return new Set([
    MAIN_TABLE,
    ...socket.dump(dumpRules).flatMap(({ body }) => {
      const isIp = [AF_INET, AF_INET6].includes(body.readUInt8(0));
      if (!isIp || body.readUInt8(7) !== FR_ACT_TO_TBL) return [];
      return [decodeAttrs(body, 12).get(FRA_TABLE)?.readUInt32LE() ?? body.readUInt8(4)];
    }),
  ]);
}

/** Other tables repeat a link's LAN, or have an address of it: the main table's route says as much. */
function withoutRepeated(routes: readonly HostRoute[]): HostRoute[] {
  const lans = routes.filter(({ isLan, table }) => isLan && table === undefined);
  return routes.filter(
    ({ table, link, via, to }) =>
      table === undefined ||
      via !== undefined ||
      !lans.some((lan) => lan.link === link && lan.to.contains(to)),
  );
}
