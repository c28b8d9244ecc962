// Host NICs that are ports of weft's bridges.
import { lanBridgeName } from '../../../core/link-names.js';
import type { ActualObject, PortObject } from '../../../core/objects/index.js';
import type { KernelError } from '../netlink-socket.js';
import type { DirectContext, ItemCodec } from './codec.js';
import type { KernelLink } from './readings.js';

/**
 * Whether weft made an unowned link a port of this bridge: the bridge is named after it. All other ports there (a virtual
 * machine's, for example) are not weft's.
 */
export const isPortOfWefts = (link: string, bridge: KernelLink | undefined): boolean =>
  bridge?.owned === true && bridge.name === lanBridgeName(link);

/** The master of an unowned link. */
export function portObject(
  link: KernelLink,
  byIndex: (index: number) => KernelLink | undefined,
): (ActualObject & { object: PortObject }) | undefined {
  if (link.owned || link.masterIndex === 0) return undefined;
  const master = byIndex(link.masterIndex);
  return {
    object: { kind: 'port', link: link.name, master: master?.name ?? '' },
    owned: isPortOfWefts(link.name, master),
  };
}

export const port: ItemCodec<PortObject> = {
  carryOut({ link: name, master }, how, context) {
    const failure = how === 'delete' ? release(name, context) : take(name, master, context);
    context.forget(name);
    return failure;
  },
  observe({ role, links, lookup, lent }) {
    if (role !== 'node') return [];
    const ports = new Map<string, ActualObject>();
    for (const link of links.values()) {
      const port = portObject(link, (index) => lookup.byIndex(index));
      if (port !== undefined) ports.set(link.name, port);
    }
    // An unfinished move counts as neither port nor released.
    for (const { link, done } of lent) {
      const is = ports.get(link);
      // Released completely, or by now a port of an unowned bridge.
      if (is !== undefined && (done || !is.owned)) continue;
      ports.set(link, { object: { kind: 'port', link, master: '' }, owned: true });
    }
    return ports.values();
  },
};

const ONLY_ON_NODE = { errno: 'EPERM', message: 'EPERM, host interfaces become ports on the node only' };

function take(name: string, master: string, { ports, link }: DirectContext): KernelError | undefined {
  const nic = link(name);
  const bridge = link(master);
  if (ports === undefined) return ONLY_ON_NODE;
  if (nic !== undefined && bridge !== undefined) return ports.take(nic, bridge);
  return { errno: 'ENODEV', message: `ENODEV, link ${nic === undefined ? name : master} does not exist` };
}

function release(name: string, { ports, link }: DirectContext): KernelError | undefined {
  if (ports === undefined) return ONLY_ON_NODE;
  const from = link(ports.bridgeOf(name));
  return ports.release(link(name), from?.owned === true ? from : undefined, name);
}
