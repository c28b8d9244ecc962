// weft capture: the packets of containers at each point of this node that they pass.
import { setTimeout as delay } from 'node:timers/promises';

import { IpAddress } from '../../core/address.js';
import type { Membership } from '../../core/compile.js';
import { driverOf } from '../../core/drivers/index.js';
import { invalidArgument, notFound } from '../../core/errors.js';
import { addressesIn, type TunnelPorts } from '../../core/packet.js';
import type { Endpoint } from '../../core/records.js';
import type { CapturedPackets, CapturePoint, CaptureQuery } from '../../proto/gen/weft/v1/inspection.js';
import type { InspectOptions } from './options.js';

// https://www.ietf.org/archive/id/draft-ietf-opsawg-pcaplinktype-02.html
const LINKTYPE = { ethernet: 1, raw: 101 } as const;
const EVERY_MS = 20;

interface Point {
  link: string;
  description: string;
}

type Found = { $case: 'point'; value: CapturePoint } | { $case: 'packets'; value: CapturedPackets };

/** Until the signal aborts. @throws WeftError NOT_FOUND where no container of this node has one of the addresses */
export async function* capture(
  { of, with: other, snapLength }: CaptureQuery,
  options: InspectOptions,
  signal: AbortSignal,
): AsyncGenerator<Found> {
  const isOf = matcher(of, 'of');
  const isWith = matcher(other, 'with');
  const local = options.endpoints
    .list()
    .filter((endpoint) => addressesOf(endpoint).some((ip) => isOf(ip) || isWith(ip)));
  if (local.length === 0)
    throw notFound(
      `node ${options.node}: no container here has one of these addresses`,
      'See weft endpoint ls.',
    );
  const memberships = options.memberships
    .list()
    .filter(({ network }) => local.some((one) => one.network === network.name));
  const points = pointsOf(local, memberships);
  const { capture: opened, frames } = options.kernel.capture(points.map(({ link }) => link));
  try {
    const indexes = new Map<string, number>();
    for (const { link, description } of points) {
      const isFrame = frames.get(link);
      if (isFrame === undefined) continue;
      const index = indexes.size;
      indexes.set(link, index);
      const linkType = isFrame ? LINKTYPE.ethernet : LINKTYPE.raw;
      yield { $case: 'point', value: { index, name: `${options.node}:${link}`, description, linkType } };
    }
    const ports = portsOf(memberships);
    while (!signal.aborted) {
      await delay(EVERY_MS, undefined, { signal }).catch(() => undefined);
      const { frames: read, missed } = opened.read();
      const packets = read.flatMap(({ link, microseconds, bytes }) => {
        const found = addressesIn(bytes, frames.get(link) === true, ports);
        if (!found.some(isOf) || (other.length > 0 && !found.some(isWith))) return [];
        const kept = snapLength === 0 ? bytes : bytes.subarray(0, snapLength);
        return [{ point: indexes.get(link) ?? 0, time: microseconds, length: bytes.length, bytes: kept }];
      });
      if (packets.length > 0 || missed > 0) yield { $case: 'packets', value: { packets, missed } };
    }
  } finally {
    opened.close();
  }
}

function matcher(texts: readonly string[], field: string): (ip: IpAddress) => boolean {
  if (field === 'of' && texts.length === 0)
    throw invalidArgument('of: no address', 'Give the addresses of a container.');
  const wanted = texts.map((text) => IpAddress.parse(text, field));
  return (ip) => wanted.some((one) => one.equals(ip));
}

const addressesOf = ({ ip, ip6 }: Endpoint): IpAddress[] =>
  [ip, ip6 ?? ''].flatMap((text) => (text === '' ? [] : [IpAddress.parse(text.replace(/\/\d+$/, ''))]));

/** From the container outwards. */
function pointsOf(local: readonly Endpoint[], memberships: readonly Membership[]): Point[] {
  const all = [
    ...local.map(({ hostIfname, name, network }) => ({
      link: hostIfname,
      description: `the node's end of ${name}.${network}`,
    })),
    ...memberships.flatMap((membership) => {
      const { network, underlay } = membership;
      const driver = driverOf(network);
      const tunnels = driver.tunnels(membership);
      return [
        ...driver
          .links(membership)
          .filter((link) => !tunnels.includes(link))
          .map((link) => ({ link, description: `bridge of ${network.name}` })),
        ...tunnels.map((link) => ({ link, description: `tunnel of ${network.name}` })),
        { link: underlay.link, description: 'underlay' },
      ];
    }),
  ];
  return all.filter(({ link }, i) => all.findIndex((one) => one.link === link) === i);
}

function portsOf(memberships: readonly Membership[]): TunnelPorts {
  const vxlan = new Set<number>();
  const plain = new Set<number>();
  for (const { network } of memberships) {
    const driver = driverOf(network);
    const set = driver.vnis(network).length > 0 ? vxlan : plain;
    for (const port of driver.udpPorts(network)) set.add(port);
  }
  return { vxlan, plain };
}
