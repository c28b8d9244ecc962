// Pumps, and the prefixes of their peers.
import { WEFT_MARK, type PumpObject, type PumpPrefixObject } from '../../../core/objects/index.js';
import { completeChecksums, FouSocket } from '../fou.js';
import { RTM } from '../netlink-message.js';
import type { KernelError } from '../netlink-socket.js';
import { reservePort } from '../port-reservation.js';
import type { ItemCodec, ItemEvent } from './codec.js';
import { decodeAnyRoute, routeIn } from './route.js';
import type { AnyRoute } from './readings.js';

/** The routing table of the peers' prefixes: no rule leads to it, and it is theirs alone. */
const PREFIX_TABLE = WEFT_MARK;

export const pump: ItemCodec<PumpObject> = {
  carryOut(object, how, { pumps, link, inside }) {
    const { local, port } = object;
    // A process ends also where the kernel is to be the pump, and FOU where a process is.
    if (how === 'delete' || object.fou === true) pumps.stop(object.link);
    if (how === 'put' && object.fou === true) return inside(() => addFou(object));
    if (how === 'put' || object.fou === true) inside(() => withFou((fou) => fou.delete(object)));
    if (how === 'delete') return undefined;
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
  *observe({ pumps, links, inside }) {
    const devices = [...links.values()].flatMap(({ object, owned }) =>
      owned && object?.type === 'ipip' && object.fou !== undefined ? [{ ...object, fou: object.fou }] : [],
    );
    const ports = devices.length === 0 ? [] : inside(() => withFou((fou) => fou.list()));
    for (const { name, fou, local } of devices)
      if (ports.some((one) => one.port === fou && one.local === local))
        yield { object: { kind: 'pump', link: name, local, port: fou, fou: true }, owned: true };

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

/** How long a pump may take to leave its port to the kernel, in milliseconds. */
const LEAVE_MS = 500;

/** @throws SystemError */
function addFou(port: PumpObject): KernelError | undefined {
  completeChecksums(port.link);
  return withFou((fou) => {
    const until = performance.now() + LEAVE_MS;
    for (;;) {
      const failure = fou.add(port);
      if (failure?.errno !== 'EADDRINUSE' || performance.now() > until) return failure;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1);
    }
  });
}

function withFou<T>(work: (fou: FouSocket) => T): T {
  const fou = new FouSocket();
  try {
    return work(fou);
  } finally {
    fou.close();
  }
}

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
