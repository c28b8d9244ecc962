// Pumps, and the prefixes of their peers.
import { WEFT_MARK, type PumpObject, type PumpPrefixObject } from '../../../core/objects/index.js';
import { RTM } from '../netlink-message.js';
import { reservePort } from '../port-reservation.js';
import type { ItemCodec, ItemEvent } from './codec.js';
import { decodeAnyRoute, routeIn } from './route.js';
import type { AnyRoute } from './readings.js';

/** The routing table of the peers' prefixes: no rule leads to it, and it is theirs alone. */
const PREFIX_TABLE = WEFT_MARK;

export const pump: ItemCodec<PumpObject> = {
  carryOut(object, how, { pumps, link, inside }) {
    const { local, port } = object;
    if (how === 'delete') {
      pumps.stop(object.link);
      return undefined;
    }
    const found = link(object.link);
    if (found === undefined)
      return { errno: 'ENODEV', message: `ENODEV, link ${object.link} does not exist` };
    // Its own log would say so, a little later.
    if (!pumps.isRunning(object.link)) {
      const held = inside(() => reservePort(local, port, 'udp'));
      if (held === 'taken') return { errno: 'EADDRINUSE', message: `EADDRINUSE, UDP port ${port} is in use` };
      if (held !== 'away') held.release();
    }
    const ended = pumps.start(object, found.index);
    return ended === undefined ? undefined : { errno: 'ECHILD', message: `it ended by itself: ${ended}` };
  },
  *observe({ pumps, links }) {
    for (const { object, index } of pumps) {
      const found = links.get(index);
      // Of a link that is there no more, or that is another one by now, the pump is about to end.
      if (found === undefined || found.name === object.link) yield { object, owned: true };
    }
  },
  messageTypes: [RTM.NEWLINK],
  /** The device of a process that has ended has no carrier. */
  *events(_type, body, lookup): Iterable<ItemEvent> {
    const found = lookup.byIndex(body.readInt32LE(4));
    if (found?.object?.type !== 'tun' || !found.owned || !found.up || found.running) return;
    const object: PumpObject = { kind: 'pump', link: found.name, local: '', port: 0 };
    yield { actual: { object, owned: true }, there: false };
  },
};

export const pumpPrefix: ItemCodec<PumpPrefixObject> = {
  request: ({ to, link, via }, index, how) =>
    routeIn(PREFIX_TABLE, { kind: 'route', to, link, via, onlink: true }, index, how),
  *observe({ otherRoutes }) {
    for (const route of otherRoutes) yield* prefixIn(route);
  },
  messageTypes: [RTM.NEWROUTE, RTM.DELROUTE],
  *events(type, body, lookup): Iterable<ItemEvent> {
    const route = decodeAnyRoute(body, lookup);
    if (route === undefined) return;
    for (const actual of prefixIn(route)) yield { actual, there: type === RTM.NEWROUTE };
  },
};

function* prefixIn({ table, actual }: AnyRoute): Iterable<{ object: PumpPrefixObject; owned: boolean }> {
  const { object, owned } = actual;
  if (table !== PREFIX_TABLE || object.kind !== 'route') return;
  const { to, link, via = '' } = object;
  yield { object: { kind: 'pump-prefix', link, to, via }, owned };
}
