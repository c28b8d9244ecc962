// Observes a namespace: one rtnetlink dump, decoded to kernel objects.
import {
  connectedRoute,
  objectKey,
  type Actual,
  type ActualObject,
  type ObjectKey,
} from '../../core/objects/index.js';
import type { NamespaceRole } from './kernel.js';
import type { Message, Request } from './netlink-message.js';
import type { NetlinkSocket } from './netlink-socket.js';
import {
  decodeAddress,
  decodeLink,
  decodeLinkName,
  decodeAnyRoute,
  dumpAddresses,
  dumpLinks,
  dumpRoutes,
  isOfMain,
  MAIN_TABLE,
  itemCodecs,
  readBridgeVlans,
  readWireguard,
  withVlans,
  type DecodedAddress,
  type KernelLink,
  type LinkLookup,
  type View,
} from './objects/index.js';

export function readLinks(socket: NetlinkSocket, role: NamespaceRole): Map<number, KernelLink> {
  const messages = socket.dump(dumpLinks);
  const names = new Map<number, string>();
  const nameOf = (index: number): string => names.get(index) ?? '';
  for (const { index, name } of messages.map(({ body }) => decodeLinkName(body))) names.set(index, name);
  return new Map(messages.map(({ body }) => [body.readInt32LE(4), decodeLink(body, role, nameOf)]));
}

export const readAddresses = (socket: NetlinkSocket, lookup: LinkLookup): DecodedAddress[] =>
  socket.dump(dumpAddresses).flatMap(({ body }) => decodeAddress(body, lookup) ?? []);

/** @param source.marksAddresses true until known otherwise */
export function readView({
  socket,
  marksAddresses,
  ...source
}: Pick<View, 'role' | 'sysctls' | 'lent' | 'pumps' | 'inside'> & {
  socket: NetlinkSocket;
  marksAddresses: boolean;
}): View {
  const { role } = source;
  const links = readLinks(socket, role);
  const lookup: LinkLookup = { byIndex: (index) => links.get(index), marksAddresses, role };
  const addresses = readAddresses(socket, lookup);
  // The kernel marks addresses of its own making (IFAPROT_KERNEL_LO and others), where it keeps marks at all.
  if (addresses.length > 0) lookup.marksAddresses = addresses.some((address) => address.hasProtocol);
  const dumps = new Map<Request, Message[]>();
  // Several kinds read one table.
  const dump: View['dump'] = (request) => {
    const known = dumps.get(request) ?? socket.dump(request);
    dumps.set(request, known);
    return known;
  };
  const routes = dump(dumpRoutes).flatMap(({ body }) => decodeAnyRoute(body, lookup) ?? []);
  return {
    ...source,
    links,
    lookup,
    addresses,
    wireguard: role === 'node' ? readWireguard(links, source.inside) : new Map(),
    vlans: role === 'node' ? readBridgeVlans(links, dump) : new Map(),
    routes: routes.filter(isOfMain),
    otherRoutes: routes.filter(({ table }) => table !== MAIN_TABLE),
    dump,
  };
}

export function actualOf(view: View): Actual {
  const objects = new Map<ObjectKey, ActualObject>();
  const unownedLinks = new Set<string>();
  const up = new Set<string>();
  for (const link of view.links.values()) {
    if (!link.owned && !link.loopback) unownedLinks.add(link.name);
    if (link.up) up.add(link.name);
    if (link.object === undefined) continue;
    const object = withVlans(link.object, view.vlans.get(link.index));
    objects.set(objectKey(object), { object, owned: link.owned });
  }
  for (const codec of itemCodecs) {
    for (const actual of codec.observe(view)) {
      const key = objectKey(actual.object);
      // Of two routes with one destination weft's own counts.
      if (actual.owned || !objects.has(key)) objects.set(key, actual);
    }
  }
  return { objects, unconnected: unconnectedIn(objects, view), unownedLinks, up };
}

/** Addresses whose connected route is missing. */
function unconnectedIn(objects: Actual['objects'], { routes }: View): Set<ObjectKey> {
  const direct = new Set<string>();
  for (const { actual } of routes) {
    const { object } = actual;
    if (object.kind === 'route' && object.via === undefined) direct.add(`${object.to} ${object.link}`);
  }
  const unconnected = new Set<ObjectKey>();
  for (const [key, { object }] of objects) {
    const route = object.kind === 'address' ? connectedRoute(object) : undefined;
    if (route !== undefined && !direct.has(`${route.to} ${route.link}`)) unconnected.add(key);
  }
  return unconnected;
}
