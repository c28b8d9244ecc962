// Rules and sets of the network whose packets the kernel itself takes from UDP (FOU): it takes them from anybody.
//
// A datagram must come from a peer, with a source of the peer's own in the packet. The same device takes IP in IP from anybody,
// too: of the network's prefixes none is accepted, and by the device nothing else.
import type { Firewall } from '../../../core/firewall.js';
import { range } from './elements.js';
import { dropRule, type SetSpec } from './rules.js';
import { INNER_SOURCE, IN_IP } from './shared-tunnels.js';

/** The source of the packet in a datagram: behind an IP header without options and the UDP header, 12 bytes into its own. */
const SENDER = '@nh,320,32 . ip saddr';

const WHY = 'only peers send packets in UDP, with sources of their own';

/** Of datagrams, and of packets that arrived by the device. */
export const FOU_RULES = [
  ...[`${SENDER} != @fou_peers`, 'ip hdrlength != 5'].map((packets) =>
    dropRule(`udp dport @fou_ports ${packets}`, 'tunnel', WHY, 'fou'),
  ),
  dropRule(`${IN_IP} ${INNER_SOURCE} @fou_inner`, 'tunnel', WHY, 'fou'),
];

/** In every chain that packets of the device come by. */
export const FOU_DEVICE_RULE = dropRule(
  'iifname @fou_links ip saddr != @fou_prefixes',
  'tunnel',
  'the device of FOU brings nothing but packets of its network',
  'fou',
);

/** They are there only on a node that has it. */
export function fouSets({ fou }: Firewall): [string, SetSpec][] {
  if (fou === undefined) return [];
  const { link, port, prefixes } = fou;
  const plain = (type: string, element: string): SetSpec => ({
    ...{ type: [type], interval: false, elements: new Set([element]) },
  });
  const inner = { type: ['integer'], typeOf: INNER_SOURCE, interval: true };
  return [
    ['fou_links', plain('ifname', `"${link}"`)],
    ['fou_ports', plain('inet_service', `${port}`)],
    ['fou_prefixes', { type: ['ipv4_addr'], interval: true, elements: new Set(prefixes.map(String)) }],
    ['fou_inner', { ...inner, elements: new Set(prefixes.map(range)) }],
    [
      'fou_peers',
      { type: ['integer', 'ipv4_addr'], typeOf: SENDER, interval: true, elements: new Set<string>() },
    ],
  ];
}
