// weft ping: the paths to a node, or to an address of a network, measured packet by packet.
import { setTimeout as delay } from 'node:timers/promises';

import { containerMtu } from '../../core/compile.js';
import { IpAddress } from '../../core/address.js';
import { driverOf } from '../../core/drivers/index.js';
import { invalidArgument, notFound } from '../../core/errors.js';
import { unknownName } from '../../daemon/unknown.js';
import type { PingPath, PingQuery } from '../../proto/gen/weft/v1/inspection.js';
import type { InspectOptions } from './options.js';

const USUAL_COUNT = 10;
const MOST_COUNT = 1000;
/** Between two packets on one path; all paths are asked at once. */
const EVERY_MS = 100;
const TIMEOUT_MS = 1000;

interface Asked {
  network: string;
  family: number;
  ip: string;
  /** Bytes of the largest packet that should pass. */
  size: number;
}

/** @throws WeftError NOT_FOUND where no network leads there */
export async function* ping(
  { peer, ip, network, count }: PingQuery,
  options: InspectOptions,
  signal: AbortSignal,
): AsyncGenerator<PingPath> {
  const asked = ip === '' ? pathsTo(peer, options) : [addressOf(ip, network, options)];
  const times = Math.min(count === 0 ? USUAL_COUNT : count, MOST_COUNT);
  const measured = await Promise.all(asked.map((one) => measure(one, times, options, signal)));
  const { peers } = await options.status();
  for (const [i, { network, family, ip, size }] of asked.entries()) {
    const rtts = measured[i]?.toSorted((a, b) => a - b) ?? [];
    const known = peers
      .find(({ node }) => node === peer)
      ?.paths.find((path) => path.network === network && path.family === family);
    const isThere = rtts.length > 0;
    yield {
      ...{ network, family, ip, sent: times, lost: times - rtts.length },
      state: isThere ? 'ok' : known === undefined || known.state === 'ok' ? 'blocked' : known.state,
      mtu: isThere ? size : known?.mtu,
      p50: percentile(rtts, 0.5),
      p99: percentile(rtts, 0.99),
    };
  }
}

function pathsTo(peer: string, { memberships, store, node }: InspectOptions): Asked[] {
  if (peer === node) throw invalidArgument(`node ${peer}: this is the node that asks`, 'Name another one.');
  if (!store.view.nodes.has(peer)) throw unknownName('node', peer, store.view.nodes.keys());
  const probes = memberships.list().flatMap((membership) => {
    const { name } = membership.network;
    const leases = [...(store.view.leases.get(name)?.values() ?? [])].filter((one) => one.node === peer);
    return leases.flatMap((lease) =>
      driverOf(membership.network)
        .probes(membership, lease)
        .flatMap((probe): Asked[] =>
          'address' in probe
            ? [{ network: name, family: probe.family, ip: probe.address.toString(), size: probe.size }]
            : [],
        ),
    );
  });
  if (probes.length > 0) return probes;
  throw notFound(
    `node ${peer}: it shares no network with node ${node} that leads there`,
    'Attach a container of one network on both, or ask from another node.',
  );
}

function addressOf(ip: string, network: string, { memberships, node }: InspectOptions): Asked {
  const { family } = IpAddress.parse(ip, 'ip');
  const membership = memberships.get(network);
  if (membership === undefined)
    throw notFound(
      `network ${network}: node ${node} is not on it, and so has no way to ${ip}`,
      'Run weft ping on a node that is, or attach a container here first.',
    );
  return { network, family, ip, size: containerMtu(membership) };
}

async function measure(
  { ip, size }: Asked,
  times: number,
  { kernel }: InspectOptions,
  signal: AbortSignal,
): Promise<number[]> {
  const answers: Promise<(number | undefined)[]>[] = [];
  for (let i = 0; i < times && !signal.aborted; i++) {
    if (i > 0) await delay(EVERY_MS, undefined, { signal }).catch(() => undefined);
    answers.push(kernel.ping([{ ip, size }], TIMEOUT_MS));
  }
  return (await Promise.all(answers)).flat().filter((rtt) => rtt !== undefined);
}

/** Milliseconds. @param sorted the smallest first */
const percentile = (sorted: readonly number[], share: number): number | undefined =>
  sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];
