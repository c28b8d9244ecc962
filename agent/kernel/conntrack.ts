// Deletes connection tracking entries of UDP flows that changed ports affect.
//
// The NAT rules see only the first packet of a flow, and a UDP flow ends only by silence: a client that keeps sending would reach
// the earlier target for ever, or nothing if it began before the port was open.
import { networkInterfaces } from 'node:os';

import { IpAddress } from '../../core/address.js';
import type { FirewallPort } from '../../core/firewall.js';
import { AF_INET, AF_INET6, SystemError } from './libc.js';
import { NetlinkSocket } from './netlink-socket.js';
import {
  be16Attr,
  decodeAttrs,
  fixed,
  nested,
  readIp,
  u32Attr,
  u8Attr,
  type Attrs,
  type Request,
} from './netlink-message.js';

const IPPROTO_UDP = 17;

// include/uapi/linux/netfilter/nfnetlink.h, nfnetlink_conntrack.h
const CTNETLINK = 1 << 8;
const GET = CTNETLINK | 1;
const DELETE = CTNETLINK | 2;
const NFGENMSG_BYTES = 4;
const CTA = { TUPLE_ORIG: 1, TUPLE_REPLY: 2, FILTER: 25 } as const;
const CTA_FILTER_ORIG_FLAGS = 1;
const CTA_TUPLE = { IP: 1, PROTO: 2 } as const;
const CTA_IP = { V4_SRC: 1, V4_DST: 2, V6_SRC: 3, V6_DST: 4 } as const;
const CTA_PROTO = { NUM: 1, SRC_PORT: 2, DST_PORT: 3 } as const;
/** Which parts of a tuple a filter compares (net/netfilter/nf_internals.h). */
const BY = { PROTO_NUM: 1 << 3, PROTO_DST_PORT: 1 << 5 } as const;

/** With more ports than these, all UDP flows are read once instead. */
const SINGLY = 8;

interface End {
  ip: string;
  port: number;
}

interface Flow {
  family: number;
  /** Destination that the client sends to. */
  to: End;
  /** Source of the replies. */
  by: End;
  /** The tuple as the kernel wrote it, which identifies the flow. */
  tuple: Buffer;
}

/**
 * Deletes the UDP flows that lead elsewhere than their ports do now: to a container that lost the port, or past the one that has
 * it. See Kernel.flushConntrack.
 */
export function flushConntrack(added: readonly FirewallPort[], removed: readonly FirewallPort[]): void {
  const opened = added.filter(({ protocol }) => protocol === 'udp');
  const closed = removed.filter(({ protocol }) => protocol === 'udp');
  if (opened.length + closed.length === 0) return;
  try {
    const socket = new NetlinkSocket('netfilter');
    try {
      const own = new Set(
        Object.values(networkInterfaces()).flatMap((all) =>
          (all ?? []).map(({ address }) => IpAddress.parse(address).toString()),
        ),
      );
      const stale = [...flowsTo(socket, [...opened, ...closed])].filter(
        (flow) =>
          closed.some((port) => isTranslated(flow) && isAt(flow, port) && leadsTo(flow, port)) ||
          opened.some(
            (port) =>
              isAt(flow, port) && (port.hostIp !== undefined || own.has(flow.to.ip)) && !leadsTo(flow, port),
          ),
      );
      // A flow may have ended meanwhile.
      socket.batch(stale.map(({ family, tuple }) => request(DELETE, family, nested(CTA.TUPLE_ORIG, tuple))));
    } finally {
      socket.close();
    }
  } catch (error) {
    // A kernel that does not list its flows: the ports are right all the same.
    if (!(error instanceof SystemError)) throw error;
  }
}

const isAt = ({ to }: Flow, { hostIp, hostPort }: FirewallPort): boolean =>
  to.port === hostPort && (hostIp === undefined || hostIp === to.ip);
const leadsTo = ({ by }: Flow, { ip, port }: FirewallPort): boolean => by.ip === ip && by.port === port;
/** Excludes flows to the container's own address. */
const isTranslated = ({ to, by }: Flow): boolean => to.ip !== by.ip || to.port !== by.port;

function* flowsTo(socket: NetlinkSocket, ports: readonly FirewallPort[]): Iterable<Flow> {
  for (const family of [AF_INET, AF_INET6]) {
    const here = ports.filter(({ ip }) => (ip.includes(':') ? AF_INET6 : AF_INET) === family);
    const numbers = [...new Set(here.map(({ hostPort }) => hostPort))];
    for (const number of numbers.length > SINGLY ? [undefined] : numbers)
      for (const { body } of socket.dump(flowsOfUdp(family, number))) {
        const flow = flowOf(family, body);
        if (flow !== undefined) yield flow;
      }
  }
}

/** The tuple is sent back unchanged. */
const request = (type: number, family: number, ...attrs: Buffer[]): Request => ({
  type,
  flags: 0,
  body: Buffer.concat([fixed([1, family], [1, 0], [2, 0]), ...attrs]),
});

/** To this port of any host. */
function flowsOfUdp(family: number, port: number | undefined): Request {
  const what = BY.PROTO_NUM | (port === undefined ? 0 : BY.PROTO_DST_PORT);
  return request(
    GET,
    family,
    nested(
      CTA.TUPLE_ORIG,
      nested(
        CTA_TUPLE.PROTO,
        u8Attr(CTA_PROTO.NUM, IPPROTO_UDP),
        ...(port === undefined ? [] : [be16Attr(CTA_PROTO.DST_PORT, port)]),
      ),
    ),
    nested(CTA.FILTER, u32Attr(CTA_FILTER_ORIG_FLAGS, what)),
  );
}

function flowOf(family: number, body: Buffer): Flow | undefined {
  const attrs = decodeAttrs(body, NFGENMSG_BYTES);
  const tuple = attrs.get(CTA.TUPLE_ORIG);
  const reply = attrs.get(CTA.TUPLE_REPLY);
  if (tuple === undefined || reply === undefined) return undefined;
  const to = endOf(decodeAttrs(tuple), CTA_IP.V4_DST, CTA_IP.V6_DST, CTA_PROTO.DST_PORT);
  const by = endOf(decodeAttrs(reply), CTA_IP.V4_SRC, CTA_IP.V6_SRC, CTA_PROTO.SRC_PORT);
  return to === undefined || by === undefined ? undefined : { family, to, by, tuple };
}

function endOf(tuple: Attrs, v4: number, v6: number, portType: number): End | undefined {
  const ips = decodeAttrs(tuple.get(CTA_TUPLE.IP) ?? Buffer.alloc(0));
  const proto = decodeAttrs(tuple.get(CTA_TUPLE.PROTO) ?? Buffer.alloc(0));
  const ip = ips.get(v4) ?? ips.get(v6);
  const port = proto.get(portType);
  if (ip === undefined || port === undefined || proto.get(CTA_PROTO.NUM)?.[0] !== IPPROTO_UDP)
    return undefined;
  return { ip: readIp(ip), port: port.readUInt16BE(0) };
}
