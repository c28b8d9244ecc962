// The backend types by name, with their network fields and lease data.
//
// A new backend begins with an entry here; the names and the registry (index.ts) do not compile until they have it, too. In a
// file of its own because networks and leases are made of these types, and backends of networks and leases; and because the
// commands need the names alone, and start faster without the codecs.
import type { Family } from '../address.js';

/** `config`: fields of the network. `data`: what peers must know of a node, for each family; never: nothing. */
export interface BackendTypes {
  vxlan: { config: VxlanConfig; data: Vtep };
  'host-gw': { config: object; data: never };
  wireguard: { config: WireguardConfig; data: WireguardEnd };
  'aws-vpc': { config: AwsVpcConfig; data: never };
  gce: { config: object; data: never };
  udp: { config: UdpConfig; data: never };
  ipip: { config: IpipConfig; data: never };
}

export type BackendType = keyof BackendTypes;

const TYPES: Record<BackendType, true> = {
  vxlan: true,
  'host-gw': true,
  wireguard: true,
  'aws-vpc': true,
  gce: true,
  udp: true,
  ipip: true,
};

export const BACKEND_TYPES = Object.keys(TYPES) as BackendType[];

/** For networks that name none. flannel's own default is udp in its code and vxlan in its documents. */
export const DEFAULT_BACKEND: BackendType = 'vxlan';

/** The backend that --encrypted means: no packet between containers leaves a node in clear, whatever fails. */
export const ENCRYPTED_BACKEND: BackendType = 'wireguard';

/** Backends that take packets of a peer's own subnet alone, so that their networks are routed with no other: why, after the name. */
export const UNROUTED: Readonly<Partial<Record<BackendType, string>>> = {
  [ENCRYPTED_BACKEND]: 'is encrypted: answers to another network would leave in clear',
  udp: "has the backend udp: a node's packets must have sources of its own subnet in the network",
};

/** flannel's backends that weft does not serve (pkg/backend): known by name, reported and otherwise ignored. */
export const UNSERVED_BACKENDS: readonly string[] = ['ipsec', 'extension', 'alloc', 'ali-vpc', 'tencent-vpc'];

export const isBackend = (text: string): text is BackendType => Object.hasOwn(TYPES, text);

/** The data that a lease publishes of its node, in its backend's form. */
export type LeaseData<T extends BackendType = BackendType> = {
  [K in T]: { type: K } & { [F in Family]?: BackendTypes[K]['data'] };
}[T];

/** All options of backends; each backend declares which of them it accepts. */
export interface BackendSpec {
  /** Absent: the default. */
  backend?: BackendType;
  vni?: number;
  port?: number;
  directRouting?: boolean;
  /** flannel's words for what has no option of its own, with their values as text. */
  backendOptions?: Readonly<Record<string, string>>;
}

/** RFC 7348 §5: a VNI is 24 bits; networks never get 0. */
export const MAX_VNI = 16_777_215;

interface VxlanConfig {
  vni: number;
  /** UDP port of the tunnel. */
  port: number;
  /** Peers on the link are reached without the tunnel. */
  directRouting?: true;
}

/** Which device and underlay carry each family (flannel's Mode); absent: separate, a device for each. */
export type WireguardMode = 'auto' | 'ipv4' | 'ipv6';

interface WireguardConfig {
  /** UDP port that every node listens on; 0: a free one is to be chosen. */
  port: number;
  /** The same of the second device, for IPv6. */
  port6: number;
  mode?: WireguardMode;
  /** Base64, the same for all peers. A secret. */
  psk?: string;
  /** Seconds between packets that keep a NAT open; absent: none are sent. */
  keepalive?: number;
}

interface WireguardEnd {
  /** Base64. */
  publicKey: string;
  /** Absent: the network's. */
  port?: number;
  /** The key that the node is about to take, so that peers take its handshakes at once. */
  nextPublicKey?: string;
}

/** The clouds whose route tables weft writes. */
export type CloudName = 'aws' | 'gce';

interface AwsVpcConfig {
  /** Ids of the route tables; absent: the one of each node's subnet. */
  routeTables?: string[];
}

interface UdpConfig {
  /** UDP port of every node; 0: a free one is to be chosen. */
  port: number;
}

interface IpipConfig {
  /** Peers on the link are reached without the tunnel. */
  directRouting?: true;
}

interface Vtep {
  vni: number;
  mac: string;
}
