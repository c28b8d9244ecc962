// A node's subnet in one network: flannel's lease attributes to weft's Lease and back. What only weft knows of it (which
// node, which instance, since when) stands under "Weft", which flannel passes over.
import { IpAddress } from '../core/address.js';
import { MAX_VNI } from '../core/network.js';
import type { Lease, Vtep } from '../core/records.js';
import type { ParsedKey } from './keys.js';
import { check, goObject, integer, ip4, ip6, mac, parseJsonObject, text } from '../core/parse.js';
import type { StoredLease } from './store.js';

const ATTRIBUTES = goObject({
  PublicIP: ip4.optional(),
  PublicIPv6: ip6.optional(),
  BackendType: text.default(''),
  Weft: goObject({ Node: text.optional(), Instance: text.optional(), Since: text.optional() }).optional(),
});

const VTEP = goObject({ VNI: integer(0, MAX_VNI), VtepMAC: mac });
const VXLAN_DATA = goObject({ BackendData: VTEP.optional(), BackendV6Data: VTEP.optional() });

/** What flannel reads where no address is given, as in a reservation by hand. */
const NO_ADDRESS = IpAddress.parse('0.0.0.0');

/**
 * @param etcdLease '0' where the key hangs on none, which makes it a reservation
 * @throws UnreadableError
 */
export function decodeLease(
  key: ParsedKey & { kind: 'lease' },
  value: string,
  etcdLease: string,
): StoredLease {
  const json = parseJsonObject(value);
  const attributes = check(ATTRIBUTES, json);
  // Other backends put other things there (a WireGuard key), which are none of weft's business.
  const data = attributes.BackendType === 'vxlan' ? check(VXLAN_DATA, json) : {};
  return {
    network: key.network,
    subnet: key.subnet,
    ...(key.subnet6 && { subnet6: key.subnet6 }),
    publicIp: attributes.PublicIP ?? NO_ADDRESS,
    ...(attributes.PublicIPv6 && attributes.PublicIPv6.value !== 0n && { publicIp6: attributes.PublicIPv6 }),
    backendType: attributes.BackendType,
    ...(data.BackendData && { vtep: vtepOf(data.BackendData) }),
    ...(data.BackendV6Data && { vtep6: vtepOf(data.BackendV6Data) }),
    ...(attributes.Weft?.Node !== undefined && { node: attributes.Weft.Node }),
    ...(attributes.Weft?.Instance !== undefined && { instance: attributes.Weft.Instance }),
    ...(attributes.Weft?.Since !== undefined && { since: attributes.Weft.Since }),
    reservation: etcdLease === '0',
    etcdLease,
  };
}

const vtepOf = (data: { VNI: number; VtepMAC: string }): Vtep => ({ vni: data.VNI, mac: data.VtepMAC });

/** As flanneld writes its own, with fields in the same order. */
export function encodeLease(lease: Lease): string {
  const data = (vtep: Vtep | undefined) => vtep && { VNI: vtep.vni, VtepMAC: vtep.mac };
  return JSON.stringify({
    PublicIP: lease.publicIp.toString(),
    PublicIPv6: lease.publicIp6?.toString() ?? null,
    BackendType: lease.backendType,
    BackendData: data(lease.vtep),
    BackendV6Data: data(lease.vtep6),
    ...((lease.node !== undefined || lease.instance !== undefined) && {
      Weft: { Node: lease.node, Instance: lease.instance, Since: lease.since },
    }),
  });
}
