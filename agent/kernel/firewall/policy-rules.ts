// Policies in weft's tables: what closed containers admit.
//
// Containers and what is allowed are elements; the rules are the same for any number of them. A packet to a closed container is
// judged last of all, when it leaves for the container's bridge: its destination is the container's, whatever port of the host
// it came by, and conntrack knows who began, and from which address. An answer, and what is for no closed container, costs one
// lookup at most.
//
// Two containers of one bridge speak past the node's own stack. Where one of them is closed their frames are led through it.
//
// nft 1.0.6 has no lookup of a lookup's result, so that the two classes stand in the packet's mark and priority meanwhile. Both
// end a moment later: the kernel clears them when a packet enters another namespace.
import { addressBits, IpAddress, IpNetwork } from '../../../core/address.js';
import type { PolicyItem, PolicyRules } from '../../../core/policy/index.js';
import { dropRule, dynamicSet, rule, type ChainSpec, type Rule, type SetSpec } from './rules.js';

const FAMILIES = [
  { family: 4, ip: 'ip', address: 'ipv4_addr' },
  { family: 6, ip: 'ip6', address: 'ipv6_addr' },
] as const;

const each = (of: (about: (typeof FAMILIES)[number]) => Rule): Rule[] => FAMILIES.map(of);

const NEIGHBOURS = 'icmpv6 type { 130, 131, 132, 133, 134, 135, 136, 143 }';

const VERDICT = rule(
  'meta mark . meta priority . meta l4proto . th dport vmap @verdicts',
  'what a policy allows',
  'policy',
);

const only = (text: string, why: string): Rule => rule(text, why, 'policy');

/** The chain of the IP families, after all others of the hook: the packet has its last destination, and translates its source. */
export const POLICY_CHAIN: ChainSpec = {
  type: 'filter',
  hook: 'postrouting',
  prio: 290,
  // What most packets are comes first: nearly all are judged by their direction, or by one lookup more.
  rules: [
    only('ct direction reply accept', 'answers'),
    // Two neighbours whose connection is older than the policy: who sends from a port that systems give to no client is the server.
    ...each(({ family, ip }) =>
      dropRule(
        `meta l4proto tcp ct state new tcp flags & syn == 0 tcp sport < 32768 iifname != @tunnels oifname != @tunnels iifname . oifname @inside ${ip} saddr @guarded${family}`,
        'policy',
        'an older connection of a neighbour',
        'policy',
      ),
    ),
    ...each(({ family, ip }) => only(`${ip} daddr != @guarded${family} accept`, 'to no closed container')),
    only(`${NEIGHBOURS} accept`, 'neighbour discovery'),
    only('ct state related accept', 'errors of a connection'),
    ...each(({ family, ip }) =>
      only(`meta priority set ${ip} daddr map @targets${family}`, 'the class of the target'),
    ),
    only('meta mark set 0', 'no class'),
    ...each(({ family, ip }) =>
      only(`meta mark set ct original ${ip} saddr map @peers${family}`, 'the class of who began'),
    ),
    VERDICT,
    ...each(({ family, ip }) =>
      only(
        `meta mark set ct original ${ip} saddr map @ranges${family}`,
        'the class of the address of who began',
      ),
    ),
    VERDICT,
    ...each(({ family, ip }) =>
      dropRule(
        `${ip} daddr @guarded${family} update @denied${family} { ${ip} daddr }`,
        'policy',
        'no policy allows it',
        'policy',
      ),
    ),
  ],
};

/** Frames of and to closed containers go to the bridge itself. */
const UNICAST = 'ether daddr & 01:00:00:00:00:00 == 00:00:00:00:00:00';
const TO_THE_NODE = 'ether daddr set iifname map @gateways meta pkttype set host accept';

export const POLICY_BRIDGE_CHAINS: readonly (readonly [string, ChainSpec])[] = [
  [
    'detour',
    {
      type: 'filter',
      hook: 'prerouting',
      // After port security.
      prio: -305,
      rules: [
        // The kernel marks what has the bridge's own address: all but what neighbours send each other.
        rule('meta pkttype host accept', 'to the node'),
        rule(`${NEIGHBOURS} accept`, 'neighbour discovery'),
        ...each(({ family, ip }) =>
          rule(`${ip} daddr @guarded${family} ${TO_THE_NODE}`, 'to a closed container'),
        ),
        ...each(({ family, ip }) =>
          rule(
            `${ip} saddr @guarded${family} ${family === 6 ? 'ip6 daddr != fe80::/10 ' : ''}${UNICAST} ${TO_THE_NODE}`,
            'from a closed container: the node knows who began',
          ),
        ),
      ],
    },
  ],
  [
    'shut',
    {
      type: 'filter',
      hook: 'forward',
      prio: 0,
      rules: [
        rule('oifname != @shut accept', 'to an open container'),
        rule(`${NEIGHBOURS} accept`, 'neighbour discovery'),
        // From a neighbour, by a port of the host: with br_netfilter such packets take this way, and pass the other table all
        // the same. All others to this address have gone to the node.
        ...each(({ family, ip }) =>
          rule(
            `iifname @containers ${ip} daddr @guarded${family} accept`,
            'to a port of the host, by br_netfilter',
          ),
        ),
        rule(
          'ether type { ip, ip6 } counter name drop_policy drop',
          'neighbours reach a closed container by the node alone',
        ),
      ],
    },
  ],
];

const plain = (type: readonly string[], data?: readonly string[]): SetSpec => ({
  type,
  interval: false,
  elements: new Set(),
  ...(data && { data }),
});

export function policySets({ ranges }: PolicyRules): [string, SetSpec][] {
  const elements = (family: 4 | 6): Set<string> =>
    new Set(
      ranges
        .filter((range) => range.family === family)
        .map(({ first, last, peer }) => `${rangeText(first, last)} : ${peer}`),
    );
  return [
    ...FAMILIES.flatMap(({ family, address }): [string, SetSpec][] => [
      [`guarded${family}`, plain([address])],
      [`targets${family}`, plain([address], ['classid'])],
      [`peers${family}`, plain([address], ['mark'])],
      [`ranges${family}`, { ...plain([address], ['mark']), interval: true, elements: elements(family) }],
      [`denied${family}`, dynamicSet([address], ['flags dynamic', 'counter'])],
    ]),
    [
      'verdicts',
      { ...plain(['mark', 'classid', 'inet_proto', 'inet_service'], ['verdict']), interval: true },
    ],
  ];
}

export const policyBridgeSets = (): [string, SetSpec][] => [
  ...FAMILIES.map(({ family, address }): [string, SetSpec] => [`guarded${family}`, plain([address])]),
  ['gateways', plain(['ifname'], ['ether_addr'])],
  ['shut', plain(['ifname'])],
];

/** Sets whose elements come only from items, in both tables. */
export const POLICY_ITEM_SETS = [
  ...[4, 6].flatMap((family) => ['guarded', 'targets', 'peers'].map((name) => `${name}${family}`)),
  ...['verdicts', 'gateways', 'shut'],
];

export function policyElements(
  item: PolicyItem,
): { table: 'inet weft' | 'bridge weft'; set: string; element: string }[] {
  if (item.policy === 'port') {
    const { link, gateway, closed } = item;
    const table = 'bridge weft';
    return [
      { table, set: 'gateways', element: `"${link}" : ${gateway}` },
      ...(closed ? [{ table, set: 'shut', element: `"${link}"` } as const] : []),
    ];
  }
  const table = 'inet weft';
  if (item.policy === 'verdict') {
    const { peer, target, ports } = item;
    const [protocol, range] =
      ports === undefined
        ? ['0-255', '0-65535']
        : [ports.protocol, ports.first === ports.last ? ports.first : `${ports.first}-${ports.last}`];
    const key = `${peer} . ${classText(target)} . ${protocol} . ${range}`;
    return [{ table, set: 'verdicts', element: `${key} : accept` }];
  }
  const { ip, peer, target } = item;
  const family = ip.includes(':') ? 6 : 4;
  return [
    ...(peer === undefined ? [] : [{ table, set: `peers${family}`, element: `${ip} : ${peer}` } as const]),
    ...(target === undefined
      ? []
      : [
          { table, set: `targets${family}`, element: `${ip} : ${classText(target)}` } as const,
          { table, set: `guarded${family}`, element: ip } as const,
          { table: 'bridge weft', set: `guarded${family}`, element: ip } as const,
        ]),
  ];
}

/** As nft writes a class of traffic control. */
export const classText = (number: number): string =>
  `${(number >>> 16).toString(16)}:${(number & 0xffff).toString(16)}`;

/** As nft writes it: a prefix where it is one. */
function rangeText(first: string, last: string): string {
  const [from, to] = [first, last].map((text) => IpAddress.parse(text)) as [IpAddress, IpAddress];
  const size = to.value - from.value + 1n;
  const length = addressBits(from.family) - (size.toString(2).length - 1);
  const prefix = IpNetwork.of(from, length);
  return prefix.size === size && prefix.base.equals(from) ? prefix.toString() : `${first}-${last}`;
}
