// Port security: weft's table in the bridge family, compiled from the desired state.
//
// It sees every frame of a container before the bridge learns from it, answers or forwards it. The rules are the same for all
// containers; a container is elements of the sets.
import { IpAddress } from '../../../core/address.js';
import type { Firewall } from '../../../core/firewall.js';
import { bytes, elementsOf } from './elements.js';
import { POLICY_BRIDGE_CHAINS, policyBridgeSets } from './policy-rules.js';
import {
  askers,
  BRIDGE_REASONS,
  counterName,
  dynamicSet,
  lossSet,
  QUERIES,
  rule,
  TOO_MANY_QUERIES,
  type BridgeReason,
  type Rule,
  type Ruleset,
  type SetSpec,
} from './rules.js';

/** MAC and IP address of a sender, as raw bytes: what an answer of DHCP has can be looked up by no other type. */
const SENDER = { ip: '@ll,48,48 . @nh,96,32', arp: '@ll,48,48 . @nh,112,32' };
/** RFC 2131 §2, behind the 8 bytes of UDP: the client's MAC address at 28, its new IP address at 16. */
const LEASE = { mac: '@th,288,48', ip: '@th,192,32' };

const drop = (match: string, reason: BridgeReason, why: string): Rule =>
  rule(`${match} counter name ${counterName(reason)} update @${lossSet(reason)} { iifname } drop`, why);

const RULES: readonly Rule[] = [
  // First, so that nearly all packets are judged by one lookup: what is neither a query nor an offer of DHCP. A protocol
  // without ports has other bytes there, and at worst goes on to the rules below.
  rule(
    'ether type ip iifname . ether saddr . ip saddr @source4 th dport != { 53, 68 } accept',
    'its own address',
  ),
  rule(
    'ether type ip6 iifname . ether saddr . ip6 saddr @source6 meta l4proto { tcp, udp } th dport != { 53, 546 } accept',
    'its own address',
  ),
  rule(
    `iifname != @containers udp sport 67 udp dport 68 ${LEASE.ip} != 0 update @leased { ${LEASE.mac} . ${LEASE.ip} }`,
    'an address that a LAN gives by DHCP',
  ),
  rule('iifname != @containers accept', 'not from a container'),
  ...(['ip daddr @own4', 'ip6 daddr @own6'] as const).flatMap((to) =>
    QUERIES.map((query) =>
      drop(
        `${to} ${query} update @queries { iifname ${TOO_MANY_QUERIES} }`,
        'dns',
        'more DNS queries than a container may send',
      ),
    ),
  ),
  rule('iifname != @bound accept', 'no port security'),
  drop('iifname . ether saddr != @macs', 'mac', 'a MAC address that is not its own'),
  // A priority tag (802.1Q, VLAN 0) is no VLAN: hosts read what is behind it as if it were not there.
  drop('ether type { 8021q, 8021ad } @ll,116,12 0', 'frame', 'behind a priority tag'),
  rule('ether type { 8021q, 8021ad } iifname @lan accept', 'VLANs of a LAN'),
  drop('ether type { 8021q, 8021ad }', 'frame', 'a tagged frame'),

  drop('ip saddr @own4', 'address', "the node's own address"),
  drop('udp sport . udp dport { 67 . 68, 547 . 546 }', 'dhcp', 'DHCP offers'),
  rule('iifname . ether saddr . ip saddr @source4 accept', 'its own address'),
  rule('ip saddr 0.0.0.0 udp sport 68 udp dport 67 accept', 'asks for an address by DHCP'),
  // After this table was written anew, too, which forgets what was given.
  rule('iifname @lan udp sport 68 udp dport 67 accept', 'asks a LAN to go on with its address'),
  rule(`ether type ip iifname @lan ${SENDER.ip} @leased accept`, 'an address that a LAN gave'),
  // RFC 3927 §2.7: not forwarded.
  rule(
    'ip saddr 169.254.0.0/16 ip daddr { 169.254.0.0/16, 224.0.0.0/4, 255.255.255.255 } accept',
    'link-local',
  ),
  rule('iifname . ip saddr @allowed4 accept', 'an allowed address'),
  drop('ether type ip', 'address', 'a source address that is not its own'),

  drop('ether type arp iifname . arp saddr ether != @macs', 'arp', 'a MAC address that is not its own'),
  drop('ether type arp arp saddr ip @own4', 'arp', "the node's own address"),
  rule('ether type arp iifname . arp saddr ether . arp saddr ip @source4 accept', 'its own address'),
  // RFC 5227 §2.1: a probe.
  rule('ether type arp arp saddr ip { 0.0.0.0, 169.254.0.0/16 } accept', 'a probe, or link-local'),
  rule(`ether type arp iifname @lan ${SENDER.arp} @leased accept`, 'an address that a LAN gave'),
  rule('ether type arp iifname . arp saddr ip @allowed4 accept', 'an allowed address'),
  drop('ether type arp', 'arp', 'an address that is not its own'),

  drop('icmpv6 type { nd-router-advert, nd-redirect }', 'router', 'as a router'),
  // The target of an advertisement is in the 16 bytes after the first 8 (RFC 4861 §4.4).
  drop('icmpv6 type nd-neighbor-advert @th,64,128 @own_targets', 'neighbour', "the node's own address"),
  drop(
    'icmpv6 type nd-neighbor-advert iifname != @any6 @th,64,10 != 0x3fa iifname . @th,64,128 != @targets iifname . @th,64,128 != @allowed_targets',
    'neighbour',
    'an address that is not its own',
  ),
  drop('ip6 saddr @own6', 'address', "the node's own address"),
  rule('iifname . ether saddr . ip6 saddr @source6 accept', 'its own address'),
  rule('ip6 saddr fe80::/10 accept', 'link-local'),
  // Duplicate address detection, router solicitation, and the reports of multicast listeners (RFC 4861, RFC 3810 §5.2.13).
  rule('ip6 saddr :: icmpv6 type { 131, 132, 133, 135, 143 } accept', 'before it has an address'),
  rule('ether type ip6 iifname @any6 accept', 'an address that a router of the LAN gives'),
  rule('iifname . ip6 saddr @allowed6 accept', 'an allowed address'),
  drop('ether type ip6', 'address', 'a source address that is not its own'),

  rule('iifname @lan accept', 'other protocols of a LAN'),
  drop('iifname @bound', 'frame', 'another protocol'),
];

const CHAINS: Ruleset['chains'] = new Map([
  // Before dstnat of the bridge family, and so before what other programs do with frames.
  ['ports', { base: { type: 'filter', hook: 'prerouting', prio: -310 }, rules: RULES }],
]);

const CHAINS_OF_POLICY: Ruleset['chains'] = new Map([...CHAINS, ...POLICY_BRIDGE_CHAINS]);

const port = (...more: string[]): Pick<SetSpec, 'type'> => ({ type: ['ifname', ...more] });

/** Undefined where no container can be there: then no table is wanted either. */
export function compileBridgeRuleset({
  networks,
  bridged = [],
  containers,
  own = [],
  policy,
  policyItems = new Map(),
}: Firewall): Ruleset | undefined {
  if (containers === undefined || (networks.length === 0 && bridged.length === 0 && containers.size === 0))
    return undefined;
  const plain = (spec: Omit<SetSpec, 'elements' | 'interval'>): SetSpec => ({
    ...spec,
    interval: false,
    elements: new Set(),
  });
  const intervals = (spec: Omit<SetSpec, 'elements' | 'interval'>): SetSpec => ({
    ...plain(spec),
    interval: true,
  });
  const targets = { ...port('integer'), typeOf: 'iifname . @th,64,128' };
  const sets = new Map<string, SetSpec>([
    ...['containers', 'bound', 'lan', 'any6'].map((name) => [name, plain(port())] as const),
    ['macs', plain(port('ether_addr'))],
    ['source4', plain(port('ether_addr', 'ipv4_addr'))],
    ['source6', plain(port('ether_addr', 'ipv6_addr'))],
    ['allowed4', intervals(port('ipv4_addr'))],
    ['allowed6', intervals(port('ipv6_addr'))],
    ['targets', plain(targets)],
    ['allowed_targets', intervals(targets)],
    ['own4', plain({ type: ['ipv4_addr'] })],
    ['own6', plain({ type: ['ipv6_addr'] })],
    ['own_targets', plain({ type: ['integer'], typeOf: '@th,64,128' })],
    ['queries', askers('ifname')],
    // A lease is renewed at half of its time (RFC 2131 §4.4.5): this is for those of up to two months.
    [
      'leased',
      {
        ...dynamicSet(['integer', 'integer'], ['flags dynamic,timeout', 'timeout 30d']),
        typeOf: SENDER.ip,
      },
    ],
    ...BRIDGE_REASONS.map(
      (reason) => [lossSet(reason), dynamicSet(['ifname'], ['flags dynamic', 'counter'])] as const,
    ),
  ]);
  for (const text of own) {
    const ip = IpAddress.parse(text);
    sets.get(`own${ip.family}`)?.elements.add(text);
    if (ip.family === 6) sets.get('own_targets')?.elements.add(bytes(ip));
  }
  for (const [name, set] of policy === undefined ? [] : policyBridgeSets()) sets.set(name, set);
  for (const one of [...containers.values(), ...policyItems.values()])
    for (const { table, set, element } of elementsOf(one))
      if (table === 'bridge weft') sets.get(set)?.elements.add(element);
  return {
    sets,
    chains: policy === undefined ? CHAINS : CHAINS_OF_POLICY,
    counters: [...BRIDGE_REASONS, ...(policy === undefined ? [] : (['policy'] as const))].map(counterName),
  };
}
