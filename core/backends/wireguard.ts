// wireguard: packets encrypted between the nodes (WireGuard), as flannel's backend.
//
// A network has a device, and a second one for IPv6 unless its mode says otherwise. Every node publishes its public key; a peer
// is its key, its underlay address, and the prefixes that are taken from it and from no other. Everything else of the network
// is unreachable, so that no packet leaves in clear.
import * as z from 'zod';

import { addressBits, type Family } from '../address.js';
import { subnetIn } from '../families.js';
import { networkAlias, ownBridgeName, ownTunnelName } from '../link-names.js';
import { parseInteger, prefixesOf, type OverlayNetwork } from '../network.js';
import type { KernelObject } from '../objects/index.js';
import { check, goObject, integer, publicKey, secretKey } from '../parse.js';
import type { Lease } from '../records.js';
import { hostSource, overheadOf, routeMtu, tunnelMtu, type Backend, type Remote } from './backend.js';
import { nowhere } from './direct.js';
import { checkPorts, choosePort } from './ports.js';
import type { LeaseData, WireguardMode } from './types.js';

type WireguardNetwork = OverlayNetwork<'wireguard'>;
type End = NonNullable<LeaseData<'wireguard'>[Family]>;

/** flannel's ListenPort; its ListenPortV6 is the next one. */
export const WIREGUARD_PORT = 51_820;

const MODES = ['separate', 'auto', 'ipv4', 'ipv6'] as const;
const PORT = integer(1, 65_535);
const MAX_KEEPALIVE = 65_535;

const CONFIG = goObject({
  // 0 and absent are flannel's defaults.
  ListenPort: integer(0, 65_535).default(0),
  ListenPortV6: integer(0, 65_535).default(0),
  PSK: secretKey.optional(),
  PersistentKeepaliveInterval: integer(0, MAX_KEEPALIVE).default(0),
  Mode: z
    .literal('')
    .transform(() => 'separate' as const)
    .or(z.enum(MODES))
    .default('separate'),
});

const END = goObject({
  PublicKey: publicKey,
  Port: PORT.optional(),
  NextPublicKey: publicKey.optional(),
});

const SAVED_END = z.object({
  publicKey,
  port: PORT.optional(),
  nextPublicKey: publicKey.optional(),
});

/** The family of the device that carries a family: each its own, or one for both. */
const deviceOf = ({ mode }: WireguardNetwork, family: Family): Family => (mode === undefined ? family : 4);

/** The link of the network's device. */
export const wireguardName = (network: string, device: Family): string =>
  ownTunnelName(device === 4 ? 'wfwg-' : 'wfwg6-', network);

const linkOf = (network: WireguardNetwork, family: Family): string =>
  wireguardName(network.name, deviceOf(network, family));

const portOf = (network: WireguardNetwork, family: Family): number =>
  deviceOf(network, family) === 4 ? network.port : network.port6;

function endOf({ data }: Lease, family: Family): End | undefined {
  return data?.type === 'wireguard' ? data[family] : undefined;
}

function makeEnd(key: string, port: number | undefined, next: string | undefined): End {
  return {
    publicKey: key,
    ...(port !== undefined && { port }),
    ...(next !== undefined && { nextPublicKey: next }),
  };
}

export const wireguard: Backend<'wireguard'> = {
  type: 'wireguard',
  summary: 'encrypts packets and puts them into UDP (WireGuard)',
  options: ['port'],
  words: ['ListenPort', 'ListenPortV6', 'PSK', 'PersistentKeepaliveInterval', 'Mode'],
  /** Outer IP and UDP headers, and 32 bytes of WireGuard's (whitepaper §5.4.6). */
  overhead: { 4: 60, 6: 80 },
  devices: 'network',
  needs: ['wireguard'],

  config: {
    schema: CONFIG.transform(({ ListenPort, ListenPortV6, PSK, PersistentKeepaliveInterval, Mode }) => ({
      port: ListenPort || WIREGUARD_PORT,
      port6: ListenPortV6 || WIREGUARD_PORT + 1,
      ...(Mode !== 'separate' && { mode: Mode }),
      ...(PSK !== undefined && { psk: PSK }),
      ...(PersistentKeepaliveInterval > 0 && { keepalive: PersistentKeepaliveInterval }),
    })),
    encode: ({ port, port6, mode, psk, keepalive }) => ({
      ListenPort: port,
      ListenPortV6: port6,
      PSK: psk,
      PersistentKeepaliveInterval: keepalive,
      Mode: mode,
    }),
    saved: {
      port: PORT,
      port6: PORT,
      mode: z.enum(['auto', 'ipv4', 'ipv6'] satisfies WireguardMode[]).optional(),
      psk: secretKey.optional(),
      keepalive: integer(1, MAX_KEEPALIVE).optional(),
    },
  },
  data: {
    schema: END.transform(({ PublicKey, Port, NextPublicKey }) => makeEnd(PublicKey, Port, NextPublicKey)),
    encode: ({ publicKey, port, nextPublicKey }) => ({
      PublicKey: publicKey,
      Port: port,
      // flannel ignores it.
      NextPublicKey: nextPublicKey,
    }),
    make: ({ keys }, network, family) =>
      network.backend === 'wireguard'
        ? makeEnd(keys.current(), portOf(network, family), keys.next())
        : undefined,
    saved: SAVED_END.transform(({ publicKey, port, nextPublicKey }) =>
      makeEnd(publicKey, port, nextPublicKey),
    ),
    savedAs: { 4: 'wireguard', 6: 'wireguard6' },
  },

  /** The ports stay 0 if free ones are to be chosen. */
  parse({ port }, words) {
    const config = check(wireguard.config.schema, words);
    const first = port ?? (words['ListenPort'] === undefined ? 0 : config.port);
    if (first !== 0) parseInteger(first, 'port', 1, 65_534);
    const second = words['ListenPortV6'] === undefined ? 0 : config.port6;
    return { ...config, port: first, port6: second || (first && first + 1) };
  },
  refuses: (network) =>
    network.mode === 'ipv6' && subnetIn(network, 6) === undefined
      ? 'the mode ipv6 needs an IPv6 subnet, too'
      : undefined,
  allocate(network, others) {
    if (network.port !== 0) return network;
    const port = choosePort(network.name, others, WIREGUARD_PORT, 2);
    return { ...network, port, port6: network.port6 || port + 1 };
  },
  settle: (network, { port, port6 }) => (network.port === 0 ? { ...network, port, port6 } : network),
  checkBeside(network, other): void {
    if (other.backend !== 'wireguard') return;
    checkPorts(
      { name: network.name, ports: wireguard.udpPorts(network) },
      { name: other.name, ports: wireguard.udpPorts(other) },
    );
  },

  carriers({ mode }, family) {
    if (mode === undefined) return [family];
    return mode === 'auto' ? [4, 6] : [mode === 'ipv4' ? 4 : 6];
  },
  bridge: ({ name }) => ownBridgeName(name),
  tunnels: ({ network }, families) => [...new Set(families.map((family) => linkOf(network, family)))],
  isPlain: () => false,
  vnis: () => [],
  udpPorts: (network) => [...new Set(prefixesOf(network).map(({ family }) => portOf(network, family)))],

  compileNetwork(membership, { family, subnet }) {
    const { network, lease } = membership;
    const end = endOf(lease, family);
    const whole = subnetIn(network, family);
    if (end === undefined || whole === undefined) return [];
    const link = linkOf(network, family);
    return [
      nowhere(whole),
      {
        kind: 'link',
        type: 'wireguard',
        name: link,
        alias: networkAlias(network.name),
        mtu: tunnelMtu(membership, overheadOf(wireguard, network, family)),
      },
      { kind: 'wireguard-key', link, publicKey: end.publicKey, port: portOf(network, family) },
      { kind: 'address', link, address: `${subnet.base.toString()}/${addressBits(family)}` },
    ];
  },
  compilePeer(membership, remote) {
    const { network } = membership;
    const end = endOf(remote.lease, remote.family);
    if (end === undefined) return [];
    const peer = {
      kind: 'wireguard-peer',
      link: linkOf(network, remote.family),
      endpoint: endpointOf(network, remote),
      ...(network.psk !== undefined && { psk: network.psk }),
    } as const;
    return [
      { ...peer, publicKey: end.publicKey, keepalive: network.keepalive ?? 0 },
      // It has no prefix yet, and so gets no packet; but its first handshake is taken.
      ...(end.nextPublicKey === undefined || end.nextPublicKey === end.publicKey
        ? []
        : [{ ...peer, publicKey: end.nextPublicKey, keepalive: 0 }]),
      ...wireguard.routesTo(membership, remote, remote.subnet),
    ];
  },
  routesTo(membership, remote, to): KernelObject[] {
    const end = endOf(remote.lease, remote.family);
    if (end === undefined) return [];
    const link = linkOf(membership.network, remote.family);
    return [
      { kind: 'wireguard-prefix', link, to: to.toString(), publicKey: end.publicKey },
      {
        kind: 'route',
        to: to.toString(),
        link,
        ...hostSource(membership, remote.family),
        ...routeMtu(membership, remote, overheadOf(wireguard, membership.network, remote.family)),
      },
    ];
  },
  unreachable({ lease }, remote) {
    const same = endOf(lease, remote.family)?.publicKey === endOf(remote.lease, remote.family)?.publicKey;
    return same
      ? 'it has the same key as this node, as after a machine was copied; run `weft node rotate-key` on one of them'
      : undefined;
  },
  /** The base address of a node's subnet is its device's own. */
  probeAddress: ({ subnet }) => subnet.base,
  advice: (network, family) =>
    `Check that UDP port ${portOf(network, family)} is open between the two hosts, in both directions, and that both have the same PSK.`,

  describe: (network) => ({ port: portOf(network, network.subnet.family) }),
  describeLease(lease) {
    const end = endOf(lease, 4) ?? endOf(lease, 6);
    return end === undefined ? {} : { publicKey: end.publicKey };
  },
};

/** Where the peer's device receives: in one device for both families the port is that of IPv4. */
function endpointOf(network: WireguardNetwork, { family, publicIp, lease }: Remote): string {
  const device = deviceOf(network, family);
  const port = (endOf(lease, device) ?? endOf(lease, family))?.port ?? portOf(network, family);
  const ip = publicIp.toString();
  return publicIp.family === 6 ? `[${ip}]:${port}` : `${ip}:${port}`;
}
