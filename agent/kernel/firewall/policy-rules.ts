// Policies in weft's tables: what closed containers and hosts admit.
//
// Containers and what is allowed are elements; the rules are the same for any number of them. A packet to a closed container is
// judged last of all, when it leaves for the container's bridge: its destination is the container's, whatever port of the host
// it came by, and conntrack knows who began, and from which address. What goes to no bridge costs one comparison, an answer one
// more, and what is for no closed container one lookup.
//
// A closed host is judged where the container is that sends to it: when its packets arrive at this host itself, or leave for
// another one, before their source is translated.
//
// Two containers of one bridge speak past the node's own stack. Where one of them is closed their frames are led through it.
//
// nft 1.0.6 has no lookup of a lookup's result, so that the two classes stand in the packet's mark and priority meanwhile.
import { addressBits, IpAddress, IpNetwork } from '../../../core/address.js';
import { RESOLVER_IP } from '../../../core/link-names.js';
import type { PolicyItem, PolicyRules } from '../../../core/policy/index.js';
import { dropRule, dynamicSet, rule, type ChainSpec, type Rule, type SetSpec } from './rules.js';

const FAMILIES = [
  { family: 4, ip: 'ip', address: 'ipv4_addr' },
  { family: 6, ip: 'ip6', address: 'ipv6_addr' },
] as const;

const each = (of: (about: (typeof FAMILIES)[number]) => Rule): Rule[] => FAMILIES.map(of);

const NEIGHBOURS = 'icmpv6 type { 130, 131, 132, 133, 134, 135, 136, 143 }';

const only = (text: string, why: string): Rule => rule(text, why, 'policy');
const ofHosts = (text: string, why: string): Rule => rule(text, why, 'closedHosts');

const FROM_BRIDGE = 'meta iifkind "bridge" iifname @bridges';
const ANSWERS = 'ct direction reply accept';

/** An interval map is searched part by part: what is no range has maps of its own, which are hashed. */
const VERDICTS = [
  only('meta mark . meta priority vmap @verdicts', 'a policy allows everything'),
  only('meta mark . meta priority . meta l4proto . th dport vmap @verdicts_port', 'a policy allows the port'),
  only(
    'meta mark . meta priority . meta l4proto . th dport vmap @verdicts_range',
    'a policy allows a range of ports',
  ),
];

/** The chains of the IP families. */
export const POLICY_CHAINS: readonly (readonly [string, ChainSpec])[] = [
  [
    // After all others of the hook: the packet has its last destination, and translates its source.
    'admission',
    {
      base: { type: 'filter', hook: 'postrouting', prio: 290 },
      // The kind is cheaper to read than the name. Those of tunnels are two packets, one in the other, and both leave by another
      // link.
      rules: [
        ofHosts(`${FROM_BRIDGE} jump outward`, 'from a container, perhaps to another host'),
        only('meta oifkind "bridge" goto homeward', 'perhaps to a container'),
      ],
    },
  ],
  [
    'homeward',
    {
      // What most packets are comes first.
      rules: [
        only(ANSWERS, 'answers'),
        // Two neighbours whose connection is older than the policy: who sends from a port that systems give to no client is the
        // server.
        only(
          'meta l4proto tcp ct state new tcp flags & syn == 0 tcp sport < 32768 jump older',
          'a connection that conntrack has not seen begin',
        ),
        ...each(({ family, ip }) =>
          only(`meta priority set ${ip} daddr map @targets${family} goto closed`, 'to a closed container'),
        ),
      ],
    },
  ],
  [
    'older',
    {
      rules: each(({ family, ip }) =>
        // Of the map it only matters whether it has the address: a packet that is dropped needs no priority.
        dropRule(
          `iifname != @tunnels oifname != @tunnels iifname . oifname @inside meta priority set ${ip} saddr map @targets${family}`,
          'policy',
          'an older connection of a neighbour',
          'policy',
        ),
      ),
    },
  ],
  [
    'outward',
    {
      rules: [
        ofHosts(ANSWERS, 'answers'),
        ...each(({ family, ip }) =>
          ofHosts(`meta priority set ${ip} daddr map @hosts${family} goto elsewhere`, 'to a closed host'),
        ),
      ],
    },
  ],
  [
    'elsewhere',
    {
      rules: [
        ...each(({ family, ip }) =>
          ofHosts(
            `${ip} daddr . meta l4proto . th dport @published${family} meta priority set none accept`,
            'to a published port',
          ),
        ),
        ofHosts('goto closed', 'to the host itself'),
      ],
    },
  ],
  [
    'entrance',
    {
      base: { type: 'filter', hook: 'input', prio: 290 },
      rules: [ofHosts(`${FROM_BRIDGE} goto inward`, 'from a container to this host')],
    },
  ],
  [
    'inward',
    {
      rules: [
        ofHosts(ANSWERS, 'answers'),
        ofHosts(`ip daddr ${RESOLVER_IP} meta l4proto { tcp, udp } th dport 53 accept`, 'names'),
        ...each(({ family, ip }) =>
          ofHosts(
            `meta l4proto { tcp, udp } th dport 53 iifname . ${ip} daddr @own${family} accept`,
            'names, at the gateway',
          ),
        ),
        ofHosts('meta priority set iifname map @own_class', 'the class of this host'),
        ...each(({ family, ip }) =>
          ofHosts(`meta priority set ${ip} daddr map @hosts${family}`, 'the class of the address'),
        ),
        ofHosts('meta priority != none goto closed', 'this host is closed'),
      ],
    },
  ],
  [
    'closed',
    {
      rules: [
        only('jump judge', 'by the classes of both'),
        // Where the packet goes they would mean something: qdiscs and routes of tunnels go by them.
        only('meta mark set 0 meta priority set none', 'the classes end here'),
      ],
    },
  ],
  [
    // Its target's class is the priority. It returns what is allowed.
    'judge',
    {
      rules: [
        only('meta mark set 0', 'no class'),
        ...each(({ family, ip }) =>
          only(`meta mark set ct original ${ip} saddr map @peers${family}`, 'the class of who began'),
        ),
        ...VERDICTS,
        only(`${NEIGHBOURS} return`, 'neighbour discovery'),
        only('ct state related return', 'errors of a connection'),
        ...each(({ family, ip }) =>
          only(
            `meta mark set ct original ${ip} saddr map @ranges${family}`,
            'the class of the address of who began',
          ),
        ),
        ...VERDICTS,
        ...each(({ family, ip }) =>
          dropRule(`update @denied${family} { ${ip} daddr }`, 'policy', 'no policy allows it', 'policy'),
        ),
      ],
    },
  ],
];

/** Frames of and to closed containers go to the bridge itself. */
const UNICAST = 'ether daddr & 01:00:00:00:00:00 == 00:00:00:00:00:00';
const TO_THE_NODE = 'ether daddr set iifname map @gateways meta pkttype set host accept';

export const POLICY_BRIDGE_CHAINS: readonly (readonly [string, ChainSpec])[] = [
  [
    'detour',
    {
      // After port security.
      base: { type: 'filter', hook: 'prerouting', prio: -305 },
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
      base: { type: 'filter', hook: 'forward', prio: 0 },
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

const PAIR_AND_PORT = ['mark', 'classid', 'inet_proto', 'inet_service'];

export function policySets({ ranges }: PolicyRules): [string, SetSpec][] {
  const elements = (family: 4 | 6): Set<string> =>
    new Set(
      ranges
        .filter((range) => range.family === family)
        .map(({ first, last, peer }) => `${rangeText(first, last)} : ${peer}`),
    );
  return [
    ...FAMILIES.flatMap(({ family, address }): [string, SetSpec][] => [
      [`targets${family}`, plain([address], ['classid'])],
      [`peers${family}`, plain([address], ['mark'])],
      [`ranges${family}`, { ...plain([address], ['mark']), interval: true, elements: elements(family) }],
      [`hosts${family}`, plain([address], ['classid'])],
      [`published${family}`, plain([address, 'inet_proto', 'inet_service'])],
      [`denied${family}`, dynamicSet([address], ['flags dynamic', 'counter'])],
    ]),
    ['bridges', plain(['ifname'])],
    ['own_class', plain(['ifname'], ['classid'])],
    ['verdicts', plain(['mark', 'classid'], ['verdict'])],
    ['verdicts_port', plain(PAIR_AND_PORT, ['verdict'])],
    ['verdicts_range', { ...plain(PAIR_AND_PORT, ['verdict']), interval: true }],
  ];
}

export const policyBridgeSets = (): [string, SetSpec][] => [
  ...FAMILIES.map(({ family, address }): [string, SetSpec] => [`guarded${family}`, plain([address])]),
  ['gateways', plain(['ifname'], ['ether_addr'])],
  ['shut', plain(['ifname'])],
];

/** Sets whose elements come only from items, in both tables. */
export const POLICY_ITEM_SETS = [
  ...[4, 6].flatMap((family) =>
    ['guarded', 'targets', 'peers', 'hosts', 'published'].map((name) => `${name}${family}`),
  ),
  ...['verdicts', 'verdicts_port', 'verdicts_range', 'gateways', 'shut', 'bridges', 'own_class'],
];

interface PolicyElement {
  table: 'inet weft' | 'bridge weft';
  set: string;
  element: string;
}

const familyOf = (ip: string): 4 | 6 => (ip.includes(':') ? 6 : 4);

export function policyElements(item: PolicyItem): PolicyElement[] {
  const table = 'inet weft';
  switch (item.policy) {
    case 'port': {
      const { link, gateway, closed } = item;
      return [
        { table: 'bridge weft', set: 'gateways', element: `"${link}" : ${gateway}` },
        ...(closed ? [{ table: 'bridge weft', set: 'shut', element: `"${link}"` } as const] : []),
      ];
    }
    case 'way': {
      const { link, target } = item;
      return [
        { table, set: 'bridges', element: `"${link}"` },
        ...(target === undefined
          ? []
          : [{ table, set: 'own_class', element: `"${link}" : ${classText(target)}` } as const]),
      ];
    }
    case 'published': {
      const { ip, protocol, port } = item;
      return [{ table, set: `published${familyOf(ip)}`, element: `${ip} . ${protocol} . ${port}` }];
    }
    case 'verdict': {
      const { peer, target, ports } = item;
      const pair = `${peer} . ${classText(target)}`;
      if (ports === undefined) return [{ table, set: 'verdicts', element: `${pair} : return` }];
      const { protocol, first, last } = ports;
      const [set, range] = first === last ? ['verdicts_port', first] : ['verdicts_range', `${first}-${last}`];
      return [{ table, set, element: `${pair} . ${protocol} . ${range} : return` }];
    }
    case 'address': {
      const { ip, peer, target, host } = item;
      const family = familyOf(ip);
      const found: PolicyElement[] = [];
      if (peer !== undefined) found.push({ table, set: `peers${family}`, element: `${ip} : ${peer}` });
      if (target === undefined) return found;
      const set = host === true ? 'hosts' : 'targets';
      found.push({ table, set: `${set}${family}`, element: `${ip} : ${classText(target)}` });
      if (host !== true) found.push({ table: 'bridge weft', set: `guarded${family}`, element: ip });
      return found;
    }
  }
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
