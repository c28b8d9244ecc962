// vxlan: Ethernet frames in UDP (RFC 7348), as flannel's backend.
//
// Each network has a device for each family. Nothing is learned from traffic: every peer costs an FDB entry, a permanent
// neighbour and a route. A VTEP's MAC address is derived, so that it survives the device and the state directory's files.
import { createHash } from 'node:crypto';

import * as z from 'zod';

import { addressBits, type Family } from '../address.js';
import { alreadyExists, failedPrecondition, resourceExhausted } from '../errors.js';
import { subnetIn } from '../families.js';
import { networkAlias } from '../link-names.js';
import { parseInteger, type OverlayNetwork } from '../network.js';
import type { VxlanLink } from '../objects/index.js';
import { check, flag, goObject, ifReadable, integer, mac } from '../parse.js';
import type { Lease } from '../records.js';
import type { OverlayMembership } from '../membership.js';
import { hostSource, routeMtu, tunnelMtu, type Backend, type OtherNetwork, type Remote } from './backend.js';
import { directRoute, linkTo, ON_THE_HOSTS_LINK } from './direct.js';
import { MAX_VNI, type LeaseData } from './types.js';

type VxlanNetwork = OverlayNetwork<'vxlan'>;
type Vtep = NonNullable<LeaseData<'vxlan'>[Family]>;

/** Default of Linux and flannel, older than IANA's 4789; a flanneld without "Port" uses it. */
export const DEFAULT_VXLAN_PORT = 8472;

/** Range of automatic VNIs: above those that people choose by hand, within what flanneld can use. */
export const VNI_RANGE = { first: 4096, last: 65535 } as const;

/**
 * The largest VNI with which a flanneld can create its device of a dual-stack network: `flannel-v6.` and four digits are
 * the 15 characters of a link's name.
 */
const SHORT_VNI = 9999;

/** VNI of a flannel network whose config names none (pkg/backend/vxlan, defaultVNI). */
const FLANNEL_VNI = 1;

export const vxlanName = (vni: number, family: Family): string =>
  family === 4 ? `wfvx${vni}` : `wfvx6-${vni}`;
export const bridgeName = (vni: number): string => `wfbr${vni}`;

/** The MAC address of a node's VTEP: it survives restarts and recreated devices, so peers need no update. */
export function vtepMac(instance: string, network: string, family: Family): string {
  const bytes = createHash('sha256').update(`${instance} ${network} ${family}`).digest();
  return ['02', ...[...bytes.subarray(0, 5)].map((byte) => byte.toString(16).padStart(2, '0'))].join(':');
}

const vtepOf = ({ data }: Lease, family: Family): Vtep | undefined =>
  data?.type === 'vxlan' ? data[family] : undefined;

/** Learning is accepted: it adds FDB entries, and weft's own are permanent. GBP is refused: it changes the VXLAN header. */
const CONFIG = goObject({
  VNI: integer(1, MAX_VNI).default(FLANNEL_VNI),
  Port: integer(0, 65535).default(0),
  DirectRouting: flag.default(false),
  GBP: flag.default(false).refine((value) => !value, {
    error: 'weft does not speak group based policies, leave it out',
  }),
});

/** BackendData, and the VNI in the config of a network that weft does not serve. */
const VTEP = goObject({ VNI: integer(0, MAX_VNI), VtepMAC: mac });
const TAKEN = goObject({ VNI: integer(1, MAX_VNI) });

export const vxlan: Backend<'vxlan'> = {
  type: 'vxlan',
  summary: 'puts packets into UDP (RFC 7348)',
  options: ['vni', 'port', 'directRouting'],
  words: [],
  /** Outer Ethernet, IP, UDP and VXLAN headers (RFC 7348 §4). */
  overhead: { 4: 50, 6: 70 },
  devices: 'network',
  needs: [],

  config: {
    // 0 is the kernel's default, which is flannel's too.
    schema: CONFIG.transform(({ VNI, Port, DirectRouting }) => ({
      vni: VNI,
      port: Port || DEFAULT_VXLAN_PORT,
      ...(DirectRouting && { directRouting: true as const }),
    })),
    encode: ({ vni, port, directRouting }) => ({ VNI: vni, Port: port, DirectRouting: directRouting }),
    saved: { vni: integer(1, MAX_VNI), port: integer(1, 65_535), directRouting: z.literal(true).optional() },
  },
  data: {
    schema: VTEP.transform(({ VNI, VtepMAC }) => ({ vni: VNI, mac: VtepMAC })),
    encode: ({ vni, mac }) => ({ VNI: vni, VtepMAC: mac }),
    make: ({ instance }, network, family) =>
      network.backend === 'vxlan'
        ? { vni: network.vni, mac: vtepMac(instance, network.name, family) }
        : undefined,
    saved: z.object({ vni: integer(0, MAX_VNI), mac }),
    savedAs: { 4: 'vtep', 6: 'vtep6' },
  },

  /** The VNI stays 0 if a free one is to be chosen. */
  parse: ({ vni, port, directRouting }) => ({
    vni: vni === undefined ? 0 : parseInteger(vni, 'vni', 1, MAX_VNI),
    port: port === undefined ? DEFAULT_VXLAN_PORT : parseInteger(port, 'port', 1, 65535),
    ...(directRouting === true && { directRouting }),
  }),
  refuses: ({ internal, directRouting }) =>
    internal && directRouting === true ? `with direct routing, ${ON_THE_HOSTS_LINK}` : undefined,
  allocate: (network, others, random) => ({ ...network, vni: chooseVni(network, others, random) }),
  settle: (network, { vni }) => (network.vni === 0 ? { ...network, vni } : network),
  checkBeside(network, other): void {
    if (other.backend !== 'vxlan' || other.vni !== network.vni) return;
    throw alreadyExists(
      `network ${network.name} has VNI ${network.vni}, and so has network ${other.name}, which this node is on`,
      'Give one of them another VNI.',
    );
  },

  carriers: (_network, family) => [family],
  bridge: ({ vni }) => bridgeName(vni),
  tunnels: ({ network }, families) => families.map((family) => vxlanName(network.vni, family)),
  isPlain: ({ directRouting }) => directRouting === true,
  vnis: ({ port, vni }) => [{ port, vni }],
  udpPorts: ({ port }) => [port],

  compileNetwork(membership, { family, subnet, local }) {
    const { network, lease } = membership;
    const vtep = vtepOf(lease, family);
    if (vtep === undefined) return [];
    const name = vxlanName(network.vni, family);
    const link: VxlanLink = {
      kind: 'link',
      type: 'vxlan',
      name,
      alias: networkAlias(network.name),
      mac: vtep.mac,
      mtu: tunnelMtu(membership, vxlan.overhead[family]),
      vni: network.vni,
      local: local.toString(),
      port: network.port,
    };
    return [
      link,
      { kind: 'address', link: name, address: `${subnet.base.toString()}/${addressBits(family)}` },
    ];
  },

  compilePeer(membership, remote) {
    const { family, subnet, publicIp, lease } = remote;
    const vtep = vtepOf(lease, family);
    if (vtep === undefined) return [];
    const routes = vxlan.routesTo(membership, remote, subnet);
    if (directLink(membership, remote) !== undefined) return routes;
    const link = vxlanName(membership.network.vni, family);
    const { mac } = vtep;
    return [
      { kind: 'fdb', link, mac, dst: publicIp.toString() },
      { kind: 'neighbour', link, ip: subnet.base.toString(), mac },
      ...routes,
    ];
  },
  routesTo(membership, remote, to) {
    const { family, subnet } = remote;
    const direct = directLink(membership, remote);
    if (direct !== undefined) return [directRoute(membership, remote, to, direct)];
    return [
      {
        kind: 'route',
        to: to.toString(),
        link: vxlanName(membership.network.vni, family),
        via: subnet.base.toString(),
        onlink: true,
        ...hostSource(membership, family),
        ...routeMtu(membership, remote, vxlan.overhead[family]),
      },
    ];
  },
  unreachable({ network }, { family, lease }) {
    const vni = vtepOf(lease, family)?.vni;
    return vni === network.vni ? undefined : `its VNI is ${vni}, and the network's ${network.vni}`;
  },
  /** The base address of a node's subnet is its VTEP's own. */
  probeAddress: ({ subnet }) => subnet.base,
  advice: ({ port }, family) =>
    `Check that UDP port ${port} is open between the two hosts over IPv${family}, in both directions.`,

  describe: ({ vni, port, directRouting = false }) => ({ vni, port, directRouting }),
  describeLease(lease) {
    const vtep = vtepOf(lease, 4) ?? vtepOf(lease, 6);
    return vtep === undefined ? {} : { vtepMac: vtep.mac };
  },
};

/** With DirectRouting, the link on which the peer is a neighbour; otherwise packets to it are tunnelled. */
const directLink = (membership: OverlayMembership<'vxlan'>, remote: Remote): string | undefined =>
  membership.network.directRouting === true ? linkTo(membership, remote) : undefined;

/** A free VNI, or the requested one if no network has it. */
function chooseVni(
  network: VxlanNetwork,
  others: Iterable<OtherNetwork>,
  random: (below: number) => number,
): number {
  const taken = new Map<number, string>();
  for (const { name, network: other, config } of others) {
    const vni =
      other === undefined
        ? ifReadable(() => check(TAKEN, config).VNI)
        : other.backend === 'vxlan'
          ? other.vni
          : undefined;
    if (vni !== undefined) taken.set(vni, name);
  }
  if (network.vni !== 0) {
    const holder = taken.get(network.vni);
    if (holder === undefined || holder === network.name) return network.vni;
    throw failedPrecondition(
      `network ${network.name}: VNI ${network.vni} belongs to network ${holder}`,
      'Choose another one, or leave it out and a free one is taken.',
    );
  }
  const { first, last } = VNI_RANGE;
  const short = subnetIn(network, 6) === undefined ? undefined : freeVni(first, SHORT_VNI, taken, random);
  const vni = short ?? freeVni(first, last, taken, random);
  if (vni !== undefined) return vni;
  throw resourceExhausted(
    `network ${network.name}: every VNI from ${first} to ${last} is taken`,
    'Remove a network, or give a VNI above that range (--vni), which flanneld does not know.',
  );
}

function freeVni(
  first: number,
  last: number,
  taken: ReadonlyMap<number, string>,
  random: (below: number) => number,
): number | undefined {
  const count = last - first + 1;
  // Random: a released VNI rests, and late packets of the old network meet no new one.
  const start = random(count);
  for (let i = 0; i < count; i++) {
    const vni = first + ((start + i) % count);
    if (!taken.has(vni)) return vni;
  }
  return undefined;
}
