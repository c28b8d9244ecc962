// Random worlds for the laws of plan, and random damage.
//
// A world is what records compile to on node n1; damage is what may have happened to its kernel since.
import fc from 'fast-check';

import { IpAddress, IpNetwork } from '../../core/address.js';
import type { LeaseData } from '../../core/backends/types.js';
import {
  compileClaim,
  compileEndpoint,
  compileNetwork,
  compilePeer,
  HOST_TARGET,
  type CompiledEndpoint,
} from '../../core/compile.js';
import { linkKey, objectKey, type KernelObject } from '../../core/objects/index.js';
import type { KernelNamespace } from '../../agent/kernel/kernel.js';
import type { FakeKernel } from '../fakes/kernel.js';
import {
  bridged,
  claimOf,
  endpointOf,
  hostGw,
  ipip,
  keyOf,
  leaseOf,
  membershipOf,
  overlay,
  udp,
  wireguard,
} from './records.js';

export interface World {
  /** Desired in the node's namespace. */
  objects: KernelObject[];
  /** Desired in containers, by the name of their link on the node. */
  containers: Map<string, { path: string; objects: CompiledEndpoint['container'] }>;
}

/** Host links that are parent links of networks. */
export const NIC = 'eth8';
export const BRIDGE = 'br8';

const COUNT = { min: 2, max: 7 };

const networkShape = fc.record({
  dual: fc.boolean(),
  direct: fc.constantFrom(false, false, true),
  vni: fc.constantFrom(4097, 5097),
  port: fc.constantFrom(8472, 8472, 4789),
  mtu: fc.constantFrom(1500, 9000),
  /** Which tunnel address this node has: a new one after its state directory was lost. */
  vtep: fc.constantFrom(1, 1, 0x11),
  peers: fc.uniqueArray(fc.record({ n: fc.integer(COUNT), moved: fc.boolean(), remade: fc.boolean() }), {
    selector: ({ n }) => n,
    maxLength: 5,
  }),
  claims: fc.uniqueArray(
    fc.record({
      subnet: fc.constantFrom(1, 3, 9),
      by: fc.integer(COUNT),
      last: fc.integer({ min: 100, max: 103 }),
    }),
    {
      selector: ({ subnet, last }) => subnet * 256 + last,
      maxLength: 4,
    },
  ),
  /** The last byte of the host's own address there. */
  exposed: fc.option(fc.constantFrom(20, 21)),
  endpoints: fc.uniqueArray(fc.record({ n: fc.integer({ min: 2, max: 9 }), away: fc.boolean() }), {
    selector: ({ n }) => n,
    maxLength: 4,
  }),
});

const bridgedShape = fc.record({
  driver: fc.constantFrom('bridge', 'vlan'),
  parent: fc.constantFrom(undefined, NIC, NIC, BRIDGE),
  vlan: fc.constantFrom(100, 200),
  own: fc.boolean(),
  mtu: fc.constantFrom(1500, 9000),
  endpoints: fc.uniqueArray(fc.record({ n: fc.integer({ min: 2, max: 9 }), elsewhere: fc.boolean() }), {
    selector: ({ n }) => n,
    maxLength: 3,
  }),
});

/** An overlay without tunnels, whose peers are partly on-link, or with those of the backends udp and ipip. */
const plainShape = fc.record({
  backend: fc.constantFrom('host-gw', 'udp', 'ipip'),
  dual: fc.boolean(),
  exposed: fc.boolean(),
  peers: fc.uniqueArray(fc.record({ n: fc.integer(COUNT), address: fc.constantFrom('on', 'moved', 'off') }), {
    selector: ({ n }) => n,
    maxLength: 4,
  }),
  claims: fc.uniqueArray(
    fc.record({
      subnet: fc.constantFrom(1, 3),
      by: fc.integer(COUNT),
      last: fc.integer({ min: 100, max: 102 }),
    }),
    { selector: ({ subnet, last }) => subnet * 256 + last, maxLength: 3 },
  ),
  endpoints: fc.uniqueArray(fc.integer({ min: 2, max: 9 }), { maxLength: 3 }),
});

/** An encrypted overlay, whose peers change their keys. */
const encryptedShape = fc.record({
  dual: fc.boolean(),
  mode: fc.constantFrom(undefined, undefined, 'auto', 'ipv6'),
  psk: fc.boolean(),
  key: fc.constantFrom('A', 'Z'),
  peers: fc.uniqueArray(
    fc.record({
      n: fc.integer(COUNT),
      key: fc.constantFrom('before', 'about to change', 'after'),
      moved: fc.boolean(),
    }),
    { selector: ({ n }) => n, maxLength: 4 },
  ),
  claims: fc.uniqueArray(fc.record({ by: fc.integer(COUNT), last: fc.integer({ min: 100, max: 102 }) }), {
    selector: ({ last }) => last,
    maxLength: 3,
  }),
});

type EncryptedShape = typeof encryptedShape extends fc.Arbitrary<infer Shape> ? Shape : never;

type PlainShape = typeof plainShape extends fc.Arbitrary<infer Shape> ? Shape : never;

type BridgedShape = typeof bridgedShape extends fc.Arbitrary<infer Shape> ? Shape : never;

type NetworkShape = typeof networkShape extends fc.Arbitrary<infer Shape> ? Shape : never;

function build(
  shapes: readonly (NetworkShape | null)[],
  lan: BridgedShape | null = null,
  plain: PlainShape | null = null,
  encrypted: EncryptedShape | null = null,
): World {
  const world: World = { objects: [], containers: new Map() };
  shapes.forEach((shape, index) => {
    if (shape !== null) addNetwork(world, shape, index);
  });
  if (lan !== null) addBridged(world, lan);
  if (plain !== null) addPlain(world, plain);
  if (encrypted !== null) addEncrypted(world, encrypted);
  return world;
}

function addEncrypted(world: World, { dual, mode, psk, key, peers, claims }: EncryptedShape): void {
  const network = wireguard({
    ...(dual ? { subnet6: 'fd42:120::/48' } : {}),
    ...(mode === undefined || (mode === 'ipv6' && !dual) ? {} : { mode }),
    ...(psk ? { psk: keyOf('P') } : {}),
  });
  const ends = (publicKey: string, next?: string): { data: LeaseData } => {
    const end = { publicKey, port: 51820, ...(next === undefined ? {} : { nextPublicKey: next }) };
    return { data: { type: 'wireguard', 4: end, ...(dual ? { 6: end } : {}) } };
  };
  const membership = membershipOf(network, {}, leaseOf(network, 1, ends(keyOf(key))));
  world.objects.push(...compileNetwork(membership));
  const leases = new Map(
    peers.map((peer) => {
      const [one, two] = ['B', 'K'].map((first) =>
        keyOf(String.fromCharCode(first.charCodeAt(0) + peer.n)),
      ) as [string, string];
      const data = peer.key === 'before' ? ends(one) : peer.key === 'after' ? ends(two) : ends(one, two);
      const at = peer.moved ? { publicIp: IpAddress.parse(`198.51.100.${peer.n}`) } : {};
      return [peer.n, leaseOf(network, peer.n, { ...data, ...at })];
    }),
  );
  for (const lease of leases.values()) world.objects.push(...compilePeer(membership, lease));
  for (const { by, last } of claims)
    world.objects.push(
      ...compileClaim(membership, claimOf(network, `10.120.1.${last}`, `n${by}`), leases.get(by)),
    );
}

function addPlain(world: World, { backend, dual, exposed, peers, claims, endpoints }: PlainShape): void {
  const network =
    backend === 'udp'
      ? udp()
      : backend === 'ipip'
        ? ipip()
        : hostGw(dual ? { subnet6: 'fd42:110::/48' } : {});
  const membership = membershipOf(network);
  if (exposed) {
    const ip = '10.110.1.20';
    membership.exposed = { ip };
    const host = endpointOf(network, `${ip}/24`, { target: HOST_TARGET });
    world.objects.push(...compileEndpoint(membership, host).host);
  }
  world.objects.push(...compileNetwork(membership));
  const addresses = { on: '192.0.2.', moved: '192.0.2.10', off: '198.51.100.' };
  const leases = new Map(
    peers.map(({ n, address }) => [
      n,
      leaseOf(network, n, { publicIp: IpAddress.parse(`${addresses[address]}${n}`) }),
    ]),
  );
  for (const lease of leases.values()) world.objects.push(...compilePeer(membership, lease));
  for (const { subnet, by, last } of claims) {
    const claim = claimOf(network, `10.110.${subnet}.${last}`, `n${by}`);
    world.objects.push(...compileClaim(membership, claim, leases.get(by)));
  }
  for (const n of endpoints) {
    const endpoint = endpointOf(network, `10.110.1.${n}/24`, { id: `f${n}`.padEnd(16, 'c') });
    const { host, container } = compileEndpoint(membership, endpoint);
    world.objects.push(...host);
    world.containers.set(endpoint.hostIfname, {
      path: `/run/netns/${endpoint.hostIfname}`,
      objects: container,
    });
  }
}

/** A network without tunnels; and where it has VLANs a second one, in another VLAN of the same bridge. */
function addBridged(world: World, shape: BridgedShape): void {
  const vlans = shape.driver === 'vlan' ? [shape.vlan, shape.vlan + 1] : [undefined];
  for (const vlan of vlans) {
    const network = bridged(shape.driver, {
      name: `lan${vlan ?? ''}`,
      ...(vlan === undefined ? {} : { vlan, allowVlan: [{ first: 300, last: 300 }] }),
      ...(shape.parent === undefined ? {} : { parent: shape.parent }),
      ...(shape.own ? { gateway: '198.51.100.1' } : {}),
      ...(shape.own && vlan !== undefined && shape.parent !== undefined ? { gatewayNode: 'n1' } : {}),
    });
    const parent =
      shape.parent === undefined
        ? {}
        : {
            parent: {
              name: shape.parent,
              isBridge: shape.parent === BRIDGE,
              mac: '06:00:00:00:08:08',
              mtu: shape.mtu,
              ...(vlan === undefined || shape.parent === BRIDGE ? {} : { native: 4094 }),
            },
          };
    const membership = { ...membershipOf(network, { mtu: shape.mtu }), ...parent };
    world.objects.push(...compileNetwork(membership));
    for (const { n, elsewhere } of shape.endpoints) {
      const endpoint = endpointOf(network, `198.51.100.${n}/24`, {
        id: `${vlan ?? 9}${n}`.padEnd(16, 'b'),
        ...(vlan === undefined ? {} : { vlan: elsewhere ? 300 : vlan }),
      });
      const { host, container } = compileEndpoint(membership, endpoint);
      world.objects.push(...host);
      world.containers.set(endpoint.hostIfname, {
        path: `/run/netns/${endpoint.hostIfname}`,
        objects: container,
      });
    }
  }
}

function addNetwork(world: World, shape: NetworkShape, index: number): void {
  const network = overlay({
    name: `net${index}`,
    subnet: `10.${100 + index}.0.0/16`,
    ...(shape.dual ? { subnet6: `fd42:${100 + index}::/48` } : {}),
    vni: shape.vni + index,
    port: shape.port,
    ...(shape.direct ? { directRouting: true } : {}),
  });
  const dataOf = (n: number): { data: LeaseData } => {
    const vtep = (family: number): { vni: number; mac: string } => ({
      vni: network.vni,
      mac: `02:00:00:0${index}:0${family}:${n.toString(16).padStart(2, '0')}`,
    });
    return { data: { type: 'vxlan', 4: vtep(4), ...(shape.dual ? { 6: vtep(6) } : {}) } };
  };
  const membership = membershipOf(network, { mtu: shape.mtu }, leaseOf(network, 1, dataOf(shape.vtep)));
  const leases = new Map(
    shape.peers.map(({ n, moved, remade }) => {
      const change = dataOf(remade ? n + 0x40 : n);
      return [
        n,
        leaseOf(
          network,
          n,
          moved ? { ...change, mtu: 1300, publicIp: IpAddress.parse(`198.51.100.${n}`) } : change,
        ),
      ];
    }),
  );
  if (shape.exposed !== null) {
    const ip = `10.${100 + index}.1.${shape.exposed}`;
    const ip6 = `fd42:${100 + index}:0:1::${shape.exposed}`;
    membership.exposed = shape.dual ? { ip, ip6 } : { ip };
    const host = endpointOf(network, `${ip}/24`, {
      target: HOST_TARGET,
      ...(shape.dual ? { ip6: `${ip6}/64` } : {}),
    });
    world.objects.push(...compileEndpoint(membership, host).host);
  }
  world.objects.push(...compileNetwork(membership));
  for (const lease of leases.values()) world.objects.push(...compilePeer(membership, lease));
  for (const { subnet, by, last } of shape.claims) {
    const claim = claimOf(network, `10.${100 + index}.${subnet}.${last}`, `n${by}`);
    world.objects.push(...compileClaim(membership, claim, leases.get(by)));
  }
  for (const { n, away } of shape.endpoints) {
    const endpoint = endpointOf(
      network,
      away ? `10.${100 + index}.200.${n}/32` : `10.${100 + index}.1.${n}/24`,
      {
        id: `${index}${n}`.padEnd(16, '0'),
        ...(shape.dual
          ? {
              ip6:
                IpNetwork.parse(`fd42:${100 + index}:0:1::/64`)
                  .at(n)
                  .toString() + '/64',
            }
          : {}),
      },
    );
    const { host, container } = compileEndpoint(membership, endpoint);
    world.objects.push(...host);
    world.containers.set(endpoint.hostIfname, {
      path: `/run/netns/${endpoint.hostIfname}`,
      objects: container,
    });
  }
}

/** Up to four networks, with everything on them. */
export const world = (): fc.Arbitrary<World> =>
  fc
    .tuple(
      fc.option(networkShape, { freq: 5 }),
      fc.option(networkShape, { freq: 2 }),
      fc.option(bridgedShape, { freq: 2 }),
      fc.option(plainShape, { freq: 2 }),
      fc.option(encryptedShape, { freq: 2 }),
    )
    .map(([first, second, lan, plain, encrypted]) => build([first, second], lan, plain, encrypted));

/** The same set of worlds each time, for properties that at least one of them must have. */
export const sampleWorlds = (): World[] => fc.sample(world(), { numRuns: 200, seed: 1 });

/** Like `world`, where this node's tunnels and their MAC addresses never change. */
export const steadyWorld = (): fc.Arbitrary<World> =>
  networkShape.map((shape) => build([{ ...shape, vni: 4097, port: 8472, vtep: 1, dual: true }]));

/** Opened sandboxes for every endpoint of these worlds, which the kernel needs to create veth pairs. */
export async function openContainers(
  kernel: FakeKernel,
  ...worlds: World[]
): Promise<Map<string, KernelNamespace>> {
  const open = new Map<string, KernelNamespace>();
  for (const { containers } of worlds) {
    for (const [link, { path }] of containers) {
      if (open.has(link)) continue;
      kernel.addContainer(path);
      open.set(link, (await kernel.openNamespace(path)).namespace);
    }
  }
  return open;
}

export const sysctlsOf = (objects: Iterable<KernelObject>): string[] =>
  [...objects].flatMap((object) => (object.kind === 'sysctl' ? [object.path] : []));

const DEEDS = [
  'delete',
  'delete',
  'down',
  'mtu',
  'mac',
  'sysctl',
  'leave route',
  'leave link',
  'leave fdb',
  'vanish',
] as const;

/** What may happen to a node: damage by hand, and leftovers of an earlier agent. */
export const deeds = (): fc.Arbitrary<{ deed: (typeof DEEDS)[number]; pick: number }[]> =>
  fc.array(fc.record({ deed: fc.constantFrom(...DEEDS), pick: fc.nat(1000) }), { maxLength: 8 });

/** Applies one of them to any of weft's objects. */
export async function doTo(
  kernel: FakeKernel,
  { deed, pick }: { deed: (typeof DEEDS)[number]; pick: number },
): Promise<void> {
  const hand = kernel.breakByHand;
  const { objects } = await kernel.node.observe([]);
  const own = [...objects.values()].flatMap(({ object, owned }) => (owned ? [object] : []));
  const links = own.filter((object) => object.kind === 'link');
  const link = links.length === 0 ? undefined : links[pick % links.length];
  switch (deed) {
    case 'delete':
      if (own.length > 0) hand.delete(objectKey(own[pick % own.length] as KernelObject));
      return;
    case 'down':
      if (link !== undefined) hand.setDown(link.name);
      return;
    case 'mtu':
      if (link !== undefined) hand.changeLink(link.name, { mtu: 1280 });
      return;
    case 'mac':
      if (link !== undefined && 'mac' in link) hand.changeLink(link.name, { mac: '06:00:00:00:00:01' });
      return;
    case 'sysctl':
      return hand.sysctl('net/ipv4/ip_forward', '0');
    case 'leave route':
      return hand.put({ kind: 'route', to: `10.100.${pick % 10}.0/24`, link: 'eth0' }, true);
    case 'leave link': {
      const name = `wfbr${pick}`;
      if (!objects.has(linkKey(name))) {
        hand.addLink(
          name,
          { kind: 'link', type: 'bridge', name, alias: '', mac: '06:00:00:00:00:02', mtu: 1500 },
          true,
        );
      }
      return;
    }
    case 'leave fdb':
      if (link?.type === 'vxlan') {
        hand.put(
          { kind: 'fdb', link: link.name, mac: '02:00:00:00:04:02', dst: `203.0.113.${pick % 250}` },
          true,
        );
      }
      return;
    case 'vanish': {
      const veths = links.filter(({ type }) => type === 'veth');
      const veth = veths[pick % (veths.length || 1)];
      if (veth !== undefined) hand.delete(objectKey(veth));
    }
  }
}

/** Host links that are parent links of networks, and the host's underlay addresses. */
export function addParents(kernel: FakeKernel): void {
  const hand = kernel.breakByHand;
  // The underlay's link.
  hand.put({ kind: 'address', link: 'eth0', address: '192.0.2.1/24' });
  hand.put({ kind: 'address', link: 'eth0', address: '2001:db8::1/64' });
  hand.addLink(NIC, 'ethernet');
  hand.addLink(BRIDGE, {
    kind: 'link',
    type: 'bridge',
    name: BRIDGE,
    alias: '',
    mac: '06:00:00:00:08:00',
    mtu: 1500,
    vlans: true,
  });
}

/** Unowned objects that are in no conflict. */
export function addUnowned(kernel: FakeKernel): void {
  const hand = kernel.breakByHand;
  hand.addLink('wg0', 'wireguard');
  addParents(kernel);
  hand.addLink('wfi0', 'wlan');
  hand.addLink('docker0', {
    kind: 'link',
    type: 'bridge',
    name: 'docker0',
    alias: '',
    mac: '02:42:00:00:00:01',
    mtu: 1500,
  });
  hand.addLink('flannel.1', {
    kind: 'link',
    type: 'vxlan',
    name: 'flannel.1',
    alias: '',
    mac: '0a:00:00:00:00:01',
    mtu: 1450,
    vni: 1,
    local: '192.0.2.1',
    port: 8472,
  });
  hand.put({ kind: 'address', link: 'docker0', address: '172.17.0.1/16' });
  hand.put({ kind: 'route', to: '0.0.0.0/0', link: 'eth0', via: '192.0.2.254' });
  hand.put({ kind: 'route', to: '10.5.52.0/24', link: 'flannel.1', via: '10.5.52.0', onlink: true });
  hand.put({ kind: 'neighbour', link: 'flannel.1', ip: '10.5.52.0', mac: '0a:00:00:00:00:02' });
  hand.put({ kind: 'fdb', link: 'flannel.1', mac: '0a:00:00:00:00:02', dst: '192.0.2.52' });
  hand.put({ kind: 'proxy', link: 'eth0', ip: '192.0.2.77' });
}
