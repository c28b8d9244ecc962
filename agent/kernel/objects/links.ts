// The list of link codecs, and encoding and decoding of any link.
import {
  LINK_PREFIX,
  WEFT_MARK,
  type LinkObject,
  type LinkOf,
  type LinkType,
} from '../../../core/objects/index.js';
import type { NamespaceRole } from '../kernel.js';
import {
  attrSet,
  decodeAttrs,
  NLM_F,
  readMac,
  readText,
  RTM,
  textAttr,
  u32Attr,
  type Request,
} from '../netlink-message.js';
import { bridge } from './bridge.js';
import { StepRefused, type LinkCodec, type LinkContext } from './codec.js';
import { BRPORT_MODE, IFLA, ifinfo, INFO } from './link-messages.js';
import { loopback } from './loopback.js';
import { ipip } from './ipip.js';
import { peer } from './peer.js';
import type { BridgeVlanEntry, KernelLink } from './readings.js';
import { tun } from './tun.js';
import { veth } from './veth.js';
import { vlan } from './vlan.js';
import { vxlan } from './vxlan.js';
import { wireguard } from './wireguard.js';

const CODECS: { readonly [T in LinkType]: LinkCodec<LinkOf<T>> } = {
  vxlan,
  wireguard,
  tun,
  ipip,
  bridge,
  vlan,
  veth,
  peer,
  loopback,
};

const codecOf = (link: LinkObject): LinkCodec<LinkObject> => CODECS[link.type];

const EMPTY = Buffer.alloc(0);

/** By namespace role and IFLA_INFO_KIND. */
const DECODERS: Record<NamespaceRole, Map<string, LinkCodec<LinkObject>>> = {
  node: decodersIn('node'),
  container: decodersIn('container'),
};

function decodersIn(role: NamespaceRole): Map<string, LinkCodec<LinkObject>> {
  const codecs: LinkCodec<LinkObject>[] = Object.values(CODECS);
  return new Map(codecs.filter(({ roles }) => roles.includes(role)).map((codec) => [codec.infoKind, codec]));
}

/** Makes a link that rtnetlink does not make. @returns whether it is one. @throws SystemError */
export function makeLink(link: LinkObject): boolean {
  const codec = codecOf(link);
  codec.make?.(link);
  return codec.make !== undefined;
}

/** @throws StepRefused where it cannot be created, or something that it needs does not exist */
export function createLink(link: LinkObject, context: LinkContext): Request {
  const attrs = codecOf(link).create?.(link, context);
  if (attrs === undefined)
    throw new StepRefused('ENODEV', `${link.name} does not exist and cannot be created from inside`);
  const body = Buffer.concat([
    ifinfo(),
    textAttr(IFLA.IFNAME, link.name),
    u32Attr(IFLA.GROUP, WEFT_MARK),
    ...attrs,
  ]);
  return { type: RTM.NEWLINK, flags: NLM_F.CREATE | NLM_F.EXCL, body };
}

/** Requests for everything of a link that differs and can be changed in place, followed by up. @throws StepRefused */
export const changeLink = (
  link: LinkObject,
  current: KernelLink,
  context: LinkContext & { created: boolean },
): Request[] => codecOf(link).change(link, current, context);

/** A link with the VLAN that its port is in. */
export const withVlans = (link: LinkObject, entries: readonly BridgeVlanEntry[] | undefined): LinkObject =>
  entries === undefined ? link : (codecOf(link).withVlans?.(link, entries) ?? link);

const NAME = attrSet([IFLA.IFNAME]);
const DECODED = attrSet([
  IFLA.ADDRESS,
  IFLA.IFNAME,
  IFLA.MTU,
  IFLA.LINK,
  IFLA.MASTER,
  IFLA.LINKINFO,
  IFLA.IFALIAS,
  IFLA.GROUP,
]);
const IFF_UP = 1;
const IFF_RUNNING = 0x40;
const IFF_LOOPBACK = 8;
const ARPHRD_ETHER = 1;

/** First pass over a list of links, each of which may refer to others. */
export const decodeLinkName = (body: Buffer): { index: number; name: string } => ({
  index: body.readInt32LE(4),
  name: readText(decodeAttrs(body, 16, NAME).get(IFLA.IFNAME) ?? EMPTY),
});

/** @param nameOf the name of a bridge by its index */
export function decodeLink(body: Buffer, role: NamespaceRole, nameOf: (index: number) => string): KernelLink {
  const attrs = decodeAttrs(body, 16, DECODED);
  const flags = body.readUInt32LE(8);
  const text = (type: number): string => readText(attrs.get(type) ?? EMPTY);
  const number = (type: number): number => attrs.get(type)?.readUInt32LE() ?? 0;
  const info = decodeAttrs(attrs.get(IFLA.LINKINFO) ?? EMPTY);
  const name = text(IFLA.IFNAME);
  const alias = text(IFLA.IFALIAS);
  const marked = number(IFLA.GROUP) === WEFT_MARK;
  const link = {
    index: body.readInt32LE(4),
    name,
    up: (flags & IFF_UP) !== 0,
    running: (flags & IFF_RUNNING) !== 0,
    loopback: (flags & IFF_LOOPBACK) !== 0,
    ethernet: body.readUInt16LE(2) === ARPHRD_ETHER,
    mtu: number(IFLA.MTU),
    mac: readMac(attrs.get(IFLA.ADDRESS) ?? EMPTY),
    masterIndex: number(IFLA.MASTER),
    baseIndex: number(IFLA.LINK),
    hairpin: decodeAttrs(info.get(INFO.SLAVE_DATA) ?? EMPTY).get(BRPORT_MODE)?.[0] === 1,
    kind: readText(info.get(INFO.KIND) ?? EMPTY),
    marked,
    // A container's end has any name that its user chose; on the node weft's names share a prefix, and a link under another name
    // (a pipework attachment's) carries both marks.
    owned:
      role === 'container'
        ? marked
        : name.startsWith(LINK_PREFIX)
          ? marked || alias.startsWith('weft ')
          : marked && alias.startsWith('weft '),
  };
  const data = decodeAttrs(info.get(INFO.DATA) ?? EMPTY);
  return { ...link, object: DECODERS[role].get(link.kind)?.decode(link, alias, data, nameOf) };
}
