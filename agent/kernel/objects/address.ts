// IP addresses as rtnetlink has them (include/uapi/linux/if_addr.h).
import { IpNetwork, parseInterface } from '../../../core/address.js';
import { BRIDGE_LINK_LOCAL, RESOLVER_IP } from '../../../core/link-names.js';
import {
  isLanBridge,
  WEFT_MARK,
  type ActualObject,
  type AddressObject,
} from '../../../core/objects/index.js';
import type { AddressFlaw } from '../kernel.js';
import { AF_INET, AF_INET6 } from '../libc.js';
import { decodeAttrs, fixed, ipAttr, NLM_F, readIp, RTM, u8Attr, type Request } from '../netlink-message.js';
import type { ItemCodec } from './codec.js';
import type { DecodedAddress, LinkLookup } from './readings.js';

const IFA = { ADDRESS: 1, LOCAL: 2, PROTO: 11 } as const;
const IFA_F_TEMPORARY = 0x01;
const IFA_F_NODAD = 0x02;
const IFA_F_OPTIMISTIC = 0x04;
const IFA_F_DADFAILED = 0x08;
const IFA_F_DEPRECATED = 0x20;
const IFA_F_TENTATIVE = 0x40;
const IFA_F_PERMANENT = 0x80;
const RT_SCOPE_LINK = 253;
/** RFC 3927. Never the source of what leaves the link. */
const LINK_LOCAL_4 = IpNetwork.parse('169.254.0.0/16');

export const dumpAddresses: Request = {
  type: RTM.GETADDR,
  flags: 0,
  body: fixed([1, 0], [1, 0], [1, 0], [1, 0], [4, 0]),
};

export const address: ItemCodec<AddressObject> = {
  request(object, index, how) {
    const { address, length } = parseInterface(object.address);
    const ip = address.toString();
    const v6 = address.family === 6;
    const put = how !== 'delete';
    const body = Buffer.concat([
      fixed(
        ...([
          [1, v6 ? AF_INET6 : AF_INET],
          [1, length],
          [1, v6 && put ? IFA_F_NODAD : 0],
          // The kernel finds the scope of an IPv6 address by itself.
          [1, LINK_LOCAL_4.contains(address) ? RT_SCOPE_LINK : 0],
          [4, index],
        ] as const),
      ),
      ipAttr(IFA.LOCAL, ip),
      ipAttr(IFA.ADDRESS, ip),
      // Kernels before 5.18 ignore this attribute.
      ...(put ? [u8Attr(IFA.PROTO, WEFT_MARK)] : []),
    ]);
    return put
      ? { type: RTM.NEWADDR, flags: NLM_F.CREATE | NLM_F.REPLACE, body }
      : { type: RTM.DELADDR, flags: 0, body };
  },
  observe: ({ addresses, lookup }) => addresses.flatMap((address) => addressObject(address, lookup) ?? []),
};

export function decodeAddress(body: Buffer, links: LinkLookup): DecodedAddress | undefined {
  const link = links.byIndex(body.readUInt32LE(4));
  const attrs = decodeAttrs(body, 8);
  const ip = attrs.get(IFA.LOCAL) ?? attrs.get(IFA.ADDRESS);
  if (link === undefined || ip === undefined) return undefined;
  const protocol = attrs.get(IFA.PROTO)?.[0];
  const flags = body.readUInt8(2);
  return {
    link,
    text: `${readIp(ip)}/${body.readUInt8(1)}`,
    global: body.readUInt8(3) < RT_SCOPE_LINK,
    marked: protocol === WEFT_MARK,
    hasProtocol: protocol !== undefined,
    permanent: (flags & IFA_F_PERMANENT) !== 0,
    // Of an IPv4 address the first flag says that it is a secondary one of its prefix.
    flaw: body.readUInt8(0) === AF_INET6 ? flawOf(flags) : undefined,
  };
}

function flawOf(flags: number): AddressFlaw | undefined {
  if ((flags & IFA_F_DADFAILED) !== 0) return 'duplicate';
  // An optimistic one may be used meanwhile (RFC 4429).
  if ((flags & IFA_F_TENTATIVE) !== 0 && (flags & IFA_F_OPTIMISTIC) === 0) return 'tentative';
  if ((flags & IFA_F_DEPRECATED) !== 0) return 'deprecated';
  return (flags & IFA_F_TEMPORARY) === 0 ? undefined : 'temporary';
}

const LINK_LOCAL = [`${BRIDGE_LINK_LOCAL}/64`, `${RESOLVER_IP}/32`];

/** Only addresses on weft's links count. */
export function addressObject(address: DecodedAddress, links: LinkLookup): ActualObject | undefined {
  // The kernel creates link-local addresses by itself, except weft's own.
  const relevant =
    address.global || address.marked || (!links.marksAddresses && LINK_LOCAL.includes(address.text));
  if (!address.link.owned || !relevant) return undefined;
  return {
    object: { kind: 'address', link: address.link.name, address: address.text },
    // On the bridge of a LAN they are the host's.
    owned: address.marked || (!links.marksAddresses && !isLanBridge(address.link.name)),
  };
}
