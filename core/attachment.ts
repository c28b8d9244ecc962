// Attachment: a container interface on a host's bridge or NIC, by pipework.
//
// It is in no network: no other host knows of it, its address comes from the caller, and it needs neither etcd nor a controller,
// as pipework needed nothing but its host. It compiles to the same kernel objects as containers of networks, in the same loop.
import { createHash } from 'node:crypto';

import { parseInterface } from './address.js';
import { differencesOf } from './differences.js';
import { failedPrecondition, type WeftError } from './errors.js';
import { lanBridgeName, macOf } from './link-names.js';
import { ipv6Enabled, type KernelObject } from './objects/index.js';
import type { PipeworkAttach } from './pipework.js';
import type { Sandbox } from './records.js';

/** The host interface of an attachment. */
export type HostInterface = HostBridge | HostNic;

/** A bridge, by the name that the caller gave. */
export interface HostBridge {
  kind: 'bridge';
  name: string;
  mtu: number;
  /** VLAN filtering is on. */
  vlans: boolean;
  /** weft created it, because no link of that name existed. */
  made: boolean;
}

/** A NIC, which becomes a port of a bridge of weft's; its addresses move there. */
export interface HostNic {
  kind: 'nic';
  name: string;
  mac: string;
  mtu: number;
  /** The VLAN of untagged frames where the bridge filters VLANs. */
  native?: number;
}

export interface Attachment {
  id: string;
  hostInterface: HostInterface;
  /** The container's name. */
  name: string;
  target: string;
  sandbox: Sandbox;
  ifname: string;
  hostIfname: string;
  mac: string;
  /** With prefix length; absent: the interface is up, without an address. */
  address?: string;
  /** Gateway of the container's default route. */
  gateway?: string;
  vlan?: number;
}

/** Linux's default VLAN of untagged frames on a bridge that filters VLANs. */
const UNTAGGED = 1;

export const bridgeOf = (hostInterface: HostInterface): string =>
  hostInterface.kind === 'nic' ? lanBridgeName(hostInterface.name) : hostInterface.name;

/** What the host interface itself needs, as long as it has an attachment; nothing for an unowned bridge. */
export function compileHostInterface(hostInterface: HostInterface): KernelObject[] {
  const { mtu } = hostInterface;
  if (hostInterface.kind === 'bridge') {
    if (!hostInterface.made) return [];
    return [
      {
        kind: 'link',
        type: 'bridge',
        name: hostInterface.name,
        alias: `weft pipework ${hostInterface.name}`,
        mac: macOfName(hostInterface.name),
        mtu,
        ...(hostInterface.vlans ? { vlans: true } : {}),
      },
    ];
  }
  const { name, mac, native } = hostInterface;
  const bridge = bridgeOf(hostInterface);
  const aware = native === undefined ? {} : { vlans: true };
  return [
    { kind: 'link', type: 'bridge', name: bridge, alias: `weft parent ${name}`, mac, mtu, ...aware },
    { kind: 'port', link: name, master: bridge },
    ...(native === undefined
      ? []
      : [bridge, name].map(
          (link) => ({ kind: 'vlan', link, bridge, vlan: native, untagged: true }) as const,
        )),
  ];
}

export function compileAttachment(attachment: Attachment): {
  host: KernelObject[];
  container: KernelObject[];
} {
  const { hostInterface, mac, ifname: link, address, gateway } = attachment;
  const { mtu } = hostInterface;
  const bridge = bridgeOf(hostInterface);
  const vlan = portVlan(attachment);
  const host: KernelObject[] = [
    {
      kind: 'link',
      type: 'veth',
      name: attachment.hostIfname,
      alias: attachmentAlias(attachment),
      mtu,
      master: bridge,
      ...(vlan === undefined ? {} : { vlan }),
      peer: { name: link, mac },
    },
  ];
  if (hostInterface.kind === 'nic' && attachment.vlan !== undefined)
    host.push({ kind: 'vlan', link: hostInterface.name, bridge, vlan: attachment.vlan });
  const container: KernelObject[] = [
    { kind: 'link', type: 'loopback', name: 'lo' },
    { kind: 'link', type: 'peer', name: link, mac, mtu },
  ];
  if (address?.includes(':') === true) container.push(ipv6Enabled(link));
  if (address !== undefined) container.push({ kind: 'address', link, address });
  if (address !== undefined && gateway !== undefined) {
    const to = gateway.includes(':') ? '::/0' : '0.0.0.0/0';
    // A gateway outside the subnet counts as on-link, as in pipework.
    const onlink = isBeyond(address, gateway) ? { onlink: true } : {};
    container.push({ kind: 'route', to, link, via: gateway, ...onlink });
  }
  return { host, container };
}

export const attachmentAlias = ({ name, hostInterface }: Attachment): string =>
  `weft pipework ${name} on ${hostInterface.name}`;

/** The VLAN that the port is in; undefined where the bridge has none, or assigns it. */
/** The VLAN of its frames on the bridge; undefined: as the bridge has it. */
export function portVlan({ hostInterface, vlan }: Attachment): number | undefined {
  if (vlan !== undefined) return vlan;
  if (hostInterface.kind === 'nic') return hostInterface.native;
  return hostInterface.vlans && hostInterface.made ? UNTAGGED : undefined;
}

function isBeyond(address: string, gateway: string): boolean {
  const { address: ip, length } = parseInterface(address);
  const via = parseInterface(`${gateway}/${length}`).address;
  const host = BigInt((ip.family === 4 ? 32 : 128) - length);
  return ip.value >> host !== via.value >> host;
}

/** The container's MAC address where none is given: derived from its address, so that neighbour caches stay valid. */
export function attachmentMac(call: Pick<PipeworkAttach, 'mac' | 'address'>, id: string): string {
  if (call.mac !== undefined) return call.mac;
  return call.address === undefined ? macOfName(id) : macOf(parseInterface(call.address).address);
}

function macOfName(name: string): string {
  const digest = createHash('sha256').update(`weft ${name}`).digest('hex');
  return ['02', ...(digest.slice(0, 10).match(/../g) ?? [])].join(':');
}

/** How the call differs from the existing attachment; empty where it asks for the same. */
export function differences(call: PipeworkAttach, hostInterface: string, attachment: Attachment): string[] {
  return differencesOf([
    ['its host interface', hostInterface, attachment.hostInterface.name],
    ['its -l', call.hostIfname ?? attachment.hostIfname, attachment.hostIfname],
    ['its address', call.address, attachment.address],
    ['its gateway', call.gateway, attachment.gateway],
    ['its mac', call.mac ?? attachment.mac, attachment.mac],
    ['its vlan', call.vlan, attachment.vlan],
  ]);
}

/** @throws WeftError FAILED_PRECONDITION where the bridge does not filter VLANs and one is requested */
export function checkVlan(hostInterface: HostInterface, vlan: number | undefined): void {
  if (vlan === undefined) return;
  if (hostInterface.kind === 'nic' ? hostInterface.native !== undefined : hostInterface.vlans) {
    if (hostInterface.kind === 'nic' && hostInterface.native === vlan) throw taken(hostInterface.name, vlan);
    return;
  }
  throw failedPrecondition(
    `pipework: ${hostInterface.name} does not tell VLANs apart, and weft does not change existing bridges`,
    `Switch it on yourself (ip link set ${bridgeOf(hostInterface)} type bridge vlan_filtering 1), or give the name of a new bridge, such as ovs0.`,
  );
}

const taken = (name: string, vlan: number): WeftError =>
  failedPrecondition(
    `pipework: on this host VLAN ${vlan} of ${name} stands for its frames without a tag`,
    'Choose another VLAN.',
  );
