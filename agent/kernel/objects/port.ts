// NICs of the host that are ports of bridges.
import { lanBridgeName } from '../../../core/link-names.js';
import type { ActualObject, PortObject } from '../../../core/objects/index.js';
import type { Refusal } from '../netlink-socket.js';
import type { DirectContext, ItemCodec } from './codec.js';
import type { KernelLink } from './readings.js';

/**
 * Whether a link that weft did not make is a port of this bridge by weft's doing: the bridge is called after it. Everything
 * else there (a virtual machine's, say) somebody else has plugged in.
 */
export const isPortOfWefts = (link: string, bridge: KernelLink | undefined): boolean =>
  bridge?.owned === true && bridge.name === lanBridgeName(link);

/** What a link that weft did not make is a port of. */
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
    const refusal = how === 'delete' ? release(name, context) : take(name, master, context);
    context.forget(name);
    return refusal;
  },
  observe({ role, links, lookup, lent }) {
    if (role !== 'node') return [];
    const ports = new Map<string, ActualObject>();
    for (const link of links.values()) {
      const port = portObject(link, (index) => lookup.byIndex(index));
      if (port !== undefined) ports.set(link.name, port);
    }
    // What was begun and not finished is neither a port nor given back.
    for (const { link, done } of lent) {
      const is = ports.get(link);
      // Whole, or somebody else's by now.
      if (is !== undefined && (done || !is.owned)) continue;
      ports.set(link, { object: { kind: 'port', link, master: '' }, owned: true });
    }
    return ports.values();
  },
};

const ONLY_ON_NODE = { errno: 'EPERM', message: 'EPERM, ports are made on the node alone' };

function take(name: string, master: string, { ports, link }: DirectContext): Refusal | undefined {
  const nic = link(name);
  const bridge = link(master);
  if (ports === undefined) return ONLY_ON_NODE;
  if (nic !== undefined && bridge !== undefined) return ports.take(nic, bridge);
  return { errno: 'ENODEV', message: `ENODEV, there is no link ${nic === undefined ? name : master}` };
}

function release(name: string, { ports, link }: DirectContext): Refusal | undefined {
  if (ports === undefined) return ONLY_ON_NODE;
  const from = link(ports.bridgeOf(name));
  return ports.release(link(name), from?.owned === true ? from : undefined, name);
}
