// Linux, behind the door of kernel.ts.
import { WeftError } from '../../core/errors.js';
import { decodeAddress, decodeRoute, type LinkLookup } from './decode.js';
import { dumpAddresses, dumpRoutes } from './encode.js';
import { holdPort } from './held-port.js';
import type { FirewallDriver, Kernel, UnderlayLink } from './kernel.js';
import { closeFd } from './libc.js';
import { LinuxNamespace } from './namespace.js';
import { bootId, openNetns } from './namespaces.js';
import { NetlinkSocket } from './netlink-socket.js';
import { watchKernel } from './notifications.js';
import { Pinger } from './ping.js';

/** The kernel of this machine, seen from the network namespace that the process runs in. */
export function openKernel({ firewall }: { firewall: FirewallDriver }): Promise<Kernel> {
  const node = new LinuxNamespace('node', new NetlinkSocket());
  const nodeCookie = node.socket.cookie();
  const pinger = new Pinger();
  const watches = new Set<() => void>();
  const kernel: Kernel = {
    node,
    firewall,
    holdPort,
    // oxlint-disable-next-line typescript/require-await -- opening is one stretch; its failure is the promise's.
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
        if (error instanceof WeftError) return undefined;
        throw error;
      }
    },
    underlayLinks: () => Promise.resolve(underlayLinks(node)),
    routes: () => Promise.resolve(routes(node)),
    watch: (listener) => {
      const stop = watchKernel(node, listener);
      watches.add(stop);
      return () => {
        if (watches.delete(stop)) stop();
      };
    },
    ping: (ips, timeoutMs) => pinger.ping(ips, timeoutMs),
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

function routes(node: LinuxNamespace): string[] {
  const links = node.links();
  const lookup: LinkLookup = { byIndex: (index) => links.get(index), marksAddresses: true, role: 'node' };
  return node.socket.dump(dumpRoutes).flatMap(({ body }) => {
    const route = decodeRoute(body, lookup);
    return route === undefined || route.isDefault || route.actual.object.kind !== 'route'
      ? []
      : [route.actual.object.to];
  });
}

function underlayLinks(node: LinuxNamespace): UnderlayLink[] {
  const links = node.links();
  const lookup: LinkLookup = { byIndex: (index) => links.get(index), marksAddresses: true, role: 'node' };
  const found = new Map<string, UnderlayLink>();
  for (const { body } of node.socket.dump(dumpAddresses)) {
    const address = decodeAddress(body, lookup);
    if (address === undefined || !address.global || address.link.owned || address.link.loopback) continue;
    const { name, mtu } = address.link;
    const link = found.get(name) ?? { name, mtu, addresses: [] };
    link.addresses.push(address.text);
    found.set(name, link);
  }
  for (const { body } of node.socket.dump(dumpRoutes)) {
    const route = decodeRoute(body, lookup);
    const link = found.get(route?.link?.name ?? '');
    if (route === undefined || !route.isDefault || link === undefined) continue;
    const key = route.family === 4 ? 'defaultMetric4' : 'defaultMetric6';
    link[key] = Math.min(link[key] ?? Infinity, route.metric);
  }
  return [...found.values()];
}
