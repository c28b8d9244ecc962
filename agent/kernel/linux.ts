// Linux implementation of the interface in kernel.ts.
import { readFileSync } from 'node:fs';

import type { Family } from '../../core/address.js';
import { WeftError } from '../../core/errors.js';
import { isLanBridge } from '../../core/objects/index.js';
import { probeCapabilities, probeFou } from './capabilities.js';
import type { Capability, FirewallDriver, Kernel, ParentLink, UnderlayLink } from './kernel.js';
import type { InterfaceLoans } from './bridge-ports.js';
import { flushConntrack } from './conntrack.js';
import { readHostRoutes } from './host-routes.js';
import { readLinkCounters } from './link-counters.js';
import { openCapture } from './packet-capture.js';
import { reservePort } from './port-reservation.js';
import { closeFd } from './libc.js';
import { LinuxNamespace } from './namespace.js';
import { bootId, openNetns } from './namespaces.js';
import { neighbourTables, nextHop, whoHas } from './neighbour-inquiry.js';
import { refreshNeighbours } from './neighbour-refresh.js';
import { solicitNeighbour } from './neighbour-solicitation.js';
import { NetlinkSocket } from './netlink-socket.js';
import { watchKernel } from './notifications.js';
import {
  decodeAddress,
  decodeLookUp,
  decodeRoute,
  dumpAddresses,
  dumpRoutes,
  isPortOfWefts,
  lookUpRoute,
  readWireguard,
  type DecodedAddress,
  type LinkLookup,
  type PrivateKeys,
} from './objects/index.js';
import { Pinger } from './ping.js';
import { openTestNamespace } from './test-namespace.js';
import { NO_PUMPS, type Pumps } from './pump/processes.js';
import { linksIgnoringRa } from './router-advertisements.js';

/** The kernel of this machine, seen from the network namespace that the process runs in. */
export function openKernel({
  firewall,
  loans,
  privateKey,
  pumps = NO_PUMPS,
}: {
  firewall: FirewallDriver;
  /** Storage of what links had before they became ports. */
  loans?: InterfaceLoans;
  /** The keys of the node's WireGuard devices. Absent: it has none. */
  privateKey?: PrivateKeys;
  /** Absent: the node starts none. */
  pumps?: Pumps;
}): Promise<Kernel> {
  const node = new LinuxNamespace('node', new NetlinkSocket(), undefined, loans, privateKey, pumps);
  const nodeCookie = node.socket.cookie();
  const pinger = new Pinger();
  const watches = new Set<() => void>();
  let capabilities: Capability[] | undefined;
  let hasFou: boolean | undefined;
  const kernel: Kernel = {
    node,
    firewall,
    reservePort,
    flushConntrack,
    // oxlint-disable-next-line typescript/require-await -- opening is synchronous; its failure rejects the promise.
    openNamespace: async (path) => {
      const { fd, socket } = openNetns(path);
      const cookie = socket.cookie();
      return {
        namespace: new LinuxNamespace('container', socket, fd),
        sandbox: { path, cookie, bootId },
        isNode: cookie === nodeCookie,
      };
    },
    identify: (path) => {
      try {
        const { fd, socket } = openNetns(path);
        const cookie = socket.cookie();
        socket.close();
        closeFd(fd);
        return { path, cookie, bootId };
      } catch (error) {
        if (error instanceof WeftError && error.code === 'NOT_FOUND') return undefined;
        throw error;
      }
    },
    underlayLinks: () => Promise.resolve(underlayLinks(node)),
    sendsFrom: (family) => sendsFrom(node, family),
    linksIgnoringRa: () => Promise.resolve(linksIgnoringRa(node)),
    routes: () => Promise.resolve(readHostRoutes(node)),
    filteredBridges,
    parentLink: (name) => Promise.resolve(parentLink(node, name)),
    handshakes: () => handshakes(node),
    pumpCounters: () => pumps.counters(),
    capture: (names) => {
      const links = [...node.links().values()].filter(({ name }) => names.includes(name));
      return {
        capture: openCapture(links),
        frames: new Map(links.map(({ name, ethernet, loopback }) => [name, ethernet || loopback])),
      };
    },
    openTestNamespace,
    linkCounters: () => readLinkCounters(node.socket),
    carriesUdp: () => firewall.kind === 'nftables' && !hasOtherTunnel(node) && (hasFou ??= probeFou()),
    capabilities: () => (capabilities ??= probeCapabilities()),
    watch: (listener) => {
      const stop = watchKernel(node, listener);
      watches.add(stop);
      return () => {
        if (watches.delete(stop)) stop();
      };
    },
    solicitNeighbour: (link, ip) => solicitNeighbour(node, link, ip),
    refreshNeighbours: (link) => refreshNeighbours(node, link),
    ping: (echoes, timeoutMs) => pinger.ping(echoes, timeoutMs),
    heardTags: () => pinger.heardTags(),
    nextHop: (ip) => nextHop(node, ip),
    whoHas: (link, ip) => whoHas(node, link, ip),
    neighbourTables: () => neighbourTables(node),
    close: () => {
      for (const stop of watches) stop();
      watches.clear();
      pinger.close();
      firewall.close();
      node.close();
    },
  };
  return Promise.resolve(kernel);
}

/** A peer of several devices has the youngest. */
function handshakes(node: LinuxNamespace): Map<string, number> {
  const times = new Map<string, number>();
  for (const { peers } of readWireguard(node.links(), (work) => work()).values())
    for (const { publicKey, handshakeAt } of peers)
      if (handshakeAt !== undefined) times.set(publicKey, Math.max(times.get(publicKey) ?? 0, handshakeAt));
  return times;
}

/** Documentation/networking/ip-sysctl.rst, /proc/sys/net/bridge; the folder exists while the module is loaded. */
function filteredBridges(): Family[] {
  return ([4, 6] as const).filter((family) => {
    try {
      const name = family === 4 ? 'bridge-nf-call-iptables' : 'bridge-nf-call-ip6tables';
      return readFileSync(`/proc/sys/net/bridge/${name}`, 'utf8').trim() === '1';
    } catch {
      return false;
    }
  });
}

function parentLink(node: LinuxNamespace, name: string): ParentLink | undefined {
  const links = [...node.links().values()];
  const link = links.find((candidate) => candidate.name === name);
  if (link === undefined) return undefined;
  const master = links.find((candidate) => candidate.index === link.masterIndex);
  const vlans = links.flatMap(({ name, baseIndex, object }) =>
    baseIndex === link.index && object?.kind === 'link' && object.type === 'vlan'
      ? [{ name, vlan: object.vlan }]
      : [],
  );
  const { object, kind, up, mac, mtu, ethernet } = link;
  return {
    name,
    isBridge: kind === 'bridge',
    filtersVlans: object?.type === 'bridge' && object.vlans === true,
    isEthernet: ethernet,
    up,
    mac,
    mtu,
    ...(master === undefined ? {} : { master: master.name }),
    vlans,
  };
}

/** A tunnel for IP in IP with any peer that weft did not make: the kernel allows one for an address (core/objects/ipip.ts). */
const hasOtherTunnel = (node: LinuxNamespace): boolean =>
  [...node.links().values()].some(
    ({ owned, object }) =>
      !owned && object?.type === 'ipip' && object.remote === undefined && object.local !== '0.0.0.0',
  );

function underlayLinks(node: LinuxNamespace): UnderlayLink[] {
  const links = node.links();
  const lookup: LinkLookup = { byIndex: (index) => links.get(index), marksAddresses: true, role: 'node' };
  const found = new Map<string, UnderlayLink>();
  const dumped = node.socket.dump(dumpAddresses).flatMap(({ body }) => decodeAddress(body, lookup) ?? []);
  // The kernel lists the oldest IPv4 address of a link first (net/ipv4/devinet.c), and the newest IPv6 address
  // (ipv6_link_dev_addr in net/ipv6/addrconf.c).
  const isOf6 = ({ text }: DecodedAddress): boolean => text.includes(':');
  const oldestFirst = [...dumped.filter((it) => !isOf6(it)), ...dumped.filter(isOf6).toReversed()];
  for (const address of oldestFirst) {
    if (!address.global) continue;
    const { name, mtu, up, running, loopback } = address.link;
    if (address.link.owned && !isLanBridge(name)) continue;
    const port = [...links.values()].find(
      (other) => other.masterIndex === address.link.index && isPortOfWefts(other.name, address.link),
    );
    const link = found.get(name) ?? {
      name,
      mtu,
      running,
      addresses: [],
      ...(loopback ? { loopback } : {}),
      ...(port === undefined ? {} : { port: port.name }),
    };
    link.addresses.push(address.text);
    // A link that is set down keeps its IPv4 addresses, and with keep_addr_on_down its IPv6 addresses.
    const flaw = up ? address.flaw : 'down';
    if (flaw !== undefined) link.flaws = { ...link.flaws, [address.text]: flaw };
    found.set(name, link);
  }
  // The addresses of a host may all be on its loopback, as with BGP; what carries them has none then.
  for (const family of [4, 6] as const) {
    const link = links.get(lookUpPublic(node, family)?.index ?? 0);
    if (link !== undefined && !found.has(link.name))
      found.set(link.name, { name: link.name, mtu: link.mtu, running: link.running, addresses: [] });
  }
  for (const { body } of node.socket.dump(dumpRoutes)) {
    const route = decodeRoute(body, lookup);
    const link = found.get(route?.link?.name ?? '');
    if (route === undefined || link === undefined) continue;
    const { object, owned } = route.actual;
    if (!owned && object.kind === 'route' && object.via !== undefined)
      (link.routers ??= []).push({ to: object.to, via: object.via });
  }
  return [...found.values()];
}

/** Addresses of a.root-servers.net, which nobody routes for a purpose of their own. */
const PUBLIC = { 4: '198.41.0.4', 6: '2001:503:ba3e::2:30' } as const;

/** The route by which the kernel would send there; undefined: there is none. */
function lookUpPublic(node: LinuxNamespace, family: Family): ReturnType<typeof decodeLookUp> {
  const answer = node.socket.get(lookUpRoute(PUBLIC[family], family));
  return answer && decodeLookUp(answer.body);
}

function sendsFrom(node: LinuxNamespace, family: Family): { ip: string; link: string } | undefined {
  const route = lookUpPublic(node, family);
  const link = route && node.links().get(route.index);
  return link && { ip: route.ip, link: link.name };
}
