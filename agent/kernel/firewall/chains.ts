// The chains of weft's nftables table of the IP families: the rules, and which of them a node needs.
//
// The rules refer to sets (ruleset.ts), so that another network adds only elements.
import { RESOLVER_IP } from '../../../core/link-names.js';
import { VNI_BYTES } from './elements.js';
import { POLICY_CHAINS } from './policy-rules.js';
import {
  dropRule,
  QUERIES,
  rule,
  TOO_MANY_QUERIES,
  type ChainSpec,
  type Feature,
  type Rule,
  type Ruleset,
} from './rules.js';
import { FOU_DEVICE_RULE, FOU_RULES } from './fou.js';
import { inIpRule, SHARED_RULE, SHARED_SOURCE_RULE, STRANGERS_RULES } from './shared-tunnels.js';

/** Translation of published ports: by address and port of the host first, then by the port alone. */
const PORT_RULES = ([4, 6] as const).flatMap((family) => {
  const ip = family === 4 ? 'ip' : 'ip6';
  const destination = 'meta l4proto . th dport map';
  return [
    rule(
      `fib daddr type local dnat ${ip} to ${ip} daddr . ${destination} @addr${family}`,
      'ports of one address of the host',
    ),
    rule(
      `fib daddr type local dnat ${ip} to ${destination} @port${family}`,
      'ports of every address of the host',
    ),
  ];
});

/** Masquerading of traffic to published ports whose replies must come back this way. */
const CLIENT_RULES = [
  rule('oifname @links ct status dnat ip saddr 127.0.0.0/8 masquerade fully-random', 'from 127.0.0.1'),
  ...([4, 6] as const).flatMap((family) => {
    const ip = family === 4 ? 'ip' : 'ip6';
    return [
      rule(
        `ct status dnat ${ip} saddr . ${ip} daddr @hairpin${family} masquerade fully-random`,
        'to itself or a neighbour, by a published port',
      ),
      rule(
        `ct status dnat ${ip} saddr . ${ip} daddr @itself${family} masquerade fully-random`,
        'to itself, from an address of another subnet',
      ),
      ...(family === 4 ? [SHARED_SOURCE_RULE] : []),
      rule(
        `ct status dnat ${ip} daddr @gateway${family} masquerade fully-random`,
        'to a container without a default route here',
      ),
      rule(
        `oifname @tunnels ct status dnat oifname . ${ip} saddr != @own${family} masquerade fully-random`,
        'to a container of another node, by a published port',
      ),
    ];
  }),
];

export const IP = { 4: 'ip', 6: 'ip6' } as const;

/** Where containers come from: weft's links, or, without a tunnel or by another program's bridge, others. */
const BACKEND_RULES = ([4, 6] as const).flatMap((family) =>
  [
    { to: 'by a link of weft', from: 'iifname @links' },
    { to: 'by another link', from: `${IP[family]} saddr @overlay${family}` },
  ].map((way) => ({ family, ip: IP[family], ...way })),
);

const CHAINS: ReadonlyMap<string, ChainSpec> = new Map<string, ChainSpec>([
  [
    'prerouting',
    {
      // Priority dstnat.
      base: { type: 'nat', hook: 'prerouting', prio: -100 },
      // A host on the same link could otherwise address a port of 127.0.0.1 to this host.
      rules: [
        rule('ip daddr 127.0.0.0/8 accept', 'the loopback is reached from the host alone'),
        ...PORT_RULES,
      ],
    },
  ],
  [
    'output',
    {
      base: { type: 'nat', hook: 'output', prio: -100 },
      // The kernel forwards nothing from or to ::1: a client there gets an error at once instead of waiting.
      rules: [rule('ip6 daddr ::1 accept', 'no way from ::1'), ...PORT_RULES],
    },
  ],
  [
    'forward',
    {
      base: { type: 'filter', hook: 'forward', prio: 0 },
      rules: [
        ...([4, 6] as const).map((family) =>
          dropRule(
            `${IP[family]} daddr . tcp dport @control${family} iifname @links`,
            'control',
            'containers do not reach controllers and etcd',
          ),
        ),
        SHARED_RULE,
        FOU_DEVICE_RULE,
        // Nearly all packets are judged here, by two lookups: none of the rules below is for them.
        ...([4, 6] as const).map((family) =>
          rule(
            `${IP[family]} daddr != @nodes${family} iifname . oifname @inside accept`,
            'inside one network',
            'tunnels',
          ),
        ),
        ...BACKEND_RULES.flatMap(({ family, to, from, ip }) => [
          dropRule(
            // What is read first is what decides for most packets.
            `meta l4proto udp ${ip} daddr @nodes${family} udp dport @backends ${from}`,
            'tunnel',
            `${to}: containers do not speak to the nodes' tunnels`,
            'udp',
          ),
          ...(family === 4 ? [inIpRule(from, ` ${ip} daddr @nodes4`)] : []),
        ]),
        rule('iifname . oifname @inside accept', 'inside one network, to an address of a node', 'tunnels'),
        // Both directions of translated flows to a container: a published port, or a port that another program forwards.
        rule(
          // The cheapest match first: most packets are of no such flow.
          'ct status dnat iifname != @internal oifname != @internal accept',
          'published ports are reached from other networks',
        ),
        ...([4, 6] as const).map((family) =>
          rule(
            `iifname @links ${IP[family]} daddr @apart${family} iifname . ${IP[family]} daddr != @own${family} drop`,
            'networks do not reach each other',
            'apart',
          ),
        ),
        // By link and not by address: with br_netfilter, multicast and neighbour discovery between the containers of
        // one bridge pass this chain as well, and must be accepted.
        rule(
          'iifname @internal iifname . oifname != @inside drop',
          'internal networks reach nothing outside',
          'internal',
        ),
        rule(
          'oifname @internal iifname . oifname != @inside drop',
          'nothing outside reaches internal networks',
          'internal',
        ),
        // What the network's own links, and members without a tunnel, did not bring.
        ...([4, 6] as const).map((family) => {
          const [from, to] = [`${IP[family]} saddr`, `${IP[family]} daddr`];
          return dropRule(
            `ct state new iifname != @links ${to} @closed${family} ct status & dnat == 0 ${from} . ${to} != @plain${family}`,
            'direct',
            'what is not published is not reached from outside',
          );
        }),
      ],
    },
  ],
  [
    'input',
    {
      base: { type: 'filter', hook: 'input', prio: 0 },
      rules: [
        // Nearly all packets of VXLAN, by one lookup.
        ...([4, 6] as const).map((family) =>
          rule(
            `${VNI_BYTES} . ${IP[family]} saddr @vteps${family} iifname != @links accept`,
            'tunnels of members',
            'tunnels',
          ),
        ),
        dropRule(
          'udp dport @backends iifname @links',
          'tunnel',
          "containers do not speak to the nodes' tunnels",
          'udp',
        ),
        inIpRule('iifname @links', ''),
        inIpRule('ip saddr @overlay4', ''),
        ...STRANGERS_RULES,
        SHARED_RULE,
        ...FOU_RULES,
        FOU_DEVICE_RULE,
        ...([4, 6] as const).flatMap((family) => [
          dropRule(
            `udp dport @backends ${IP[family]} saddr @overlay${family}`,
            'tunnel',
            "containers do not speak to the nodes' tunnels",
            'udp',
          ),
          // Of other programs' VNIs on the port weft knows nothing.
          dropRule(
            `${VNI_BYTES} @vnis ${VNI_BYTES} . ${IP[family]} saddr != @vteps${family}`,
            'tunnel',
            'only members send packets of their networks',
          ),
        ]),
        // Of containers of other nodes: the bridge counts those of this one.
        ...([4, 6] as const).flatMap((family) =>
          QUERIES.map((query) =>
            dropRule(
              `iifname != "lo" ${IP[family]} saddr @overlay${family} ${query} update @queries${family} { ${IP[family]} saddr ${TOO_MANY_QUERIES} }`,
              'dns',
              'more DNS queries than a container may send',
            ),
          ),
        ),
        rule('iifname != @links accept', 'not from a container'),
        // Replies to what the host itself began, whatever address of its own it used.
        rule('ct state established,related accept', 'answers to the host'),
        dropRule('tcp dport @control_here', 'control', 'containers do not reach controllers and etcd'),
        // route_localnet, which 127.0.0.1:PORT needs, would expose the host's loopback to the containers.
        rule('ip daddr 127.0.0.0/8 drop', "containers do not reach the host's loopback"),
        rule(
          'ip daddr @overlay4 iifname . ip daddr != @own4 drop',
          "networks do not reach each other's gateways",
        ),
        rule(
          'ip6 daddr @overlay6 iifname . ip6 daddr != @own6 drop',
          "networks do not reach each other's gateways",
        ),
        rule(
          `iifname @internal ip daddr != { 224.0.0.0/4, ${RESOLVER_IP} } iifname . ip daddr != @own4 drop`,
          'internal networks reach the host at their gateway only',
          'internal',
        ),
        // RFC 4861: neighbour discovery uses link-local and multicast addresses.
        rule(
          'iifname @internal ip6 daddr != { fe80::/10, ff00::/8 } iifname . ip6 daddr != @own6 drop',
          'internal networks reach the host at their gateway only',
          'internal',
        ),
      ],
    },
  ],
  [
    'redirects',
    {
      base: { type: 'filter', hook: 'output', prio: 0 },
      // Of two containers of a bridge one can have an address of another node's subnet, and the kernel tells the other to look
      // for it on the link. It would do so for five minutes, wherever
      // the address has gone meanwhile. The setting send_redirects is of no use: that of `all` counts, too.
      rules: [
        // Every packet of a tunnel passes here: the type is cheaper to read than the link.
        rule('icmp type redirect oifname @links drop', 'addresses may move: packets keep to the gateway'),
        rule(
          'icmpv6 type nd-redirect oifname @links drop',
          'addresses may move: packets keep to the gateway',
        ),
      ],
    },
  ],
  [
    'leaving',
    {
      base: { type: 'filter', hook: 'postrouting', prio: 0 },
      // Whatever route a packet took, the host's own included: an encrypted network is never left in clear.
      rules: ([4, 6] as const).map((family) => {
        const to = family === 4 ? 'ip daddr' : 'ip6 daddr';
        return rule(
          `${to} @sealed${family} oifname != "lo" oifname . ${to} != @own${family} drop`,
          'encrypted networks leave by their tunnels alone',
          'sealed',
        );
      }),
    },
  ],
  [
    'postrouting',
    {
      // Priority srcnat.
      base: { type: 'nat', hook: 'postrouting', prio: 100 },
      rules: [
        ...CLIENT_RULES,
        rule('oifname @links accept', 'inside the overlays'),
        // On lo, masquerading would take 127.0.0.1 for the host's own address.
        rule('oifname "lo" accept', 'to the host itself'),
        rule(
          'ip saddr @masq4 ip daddr != @overlay4 ip daddr != 224.0.0.0/4 masquerade fully-random',
          'leaves the overlay',
        ),
        rule(
          'ip6 saddr @masq6 ip6 daddr != @overlay6 ip6 daddr != ff00::/8 masquerade fully-random',
          'leaves the overlay',
        ),
      ],
    },
  ],
  ...POLICY_CHAINS,
]);

/** What a node has of it. */
export type Features = Readonly<Record<Feature, boolean>>;

/** The same for the same arguments: see compare in listing.ts. */
const known = new Map<string, Ruleset['chains']>();

/**
 * The chains with the rules that are needed. One that only accepts is not.
 * @param connections that a container may have open; undefined: any number
 */
export function chainsWith(features: Features, connections: number | undefined): Ruleset['chains'] {
  const key = JSON.stringify([features, connections]);
  const chains = known.get(key) ?? new Map(neededChains(features, connections));
  known.set(key, chains);
  return chains;
}

function neededChains(features: Features, connections: number | undefined): [string, ChainSpec][] {
  const isNeeded = ({ only }: Rule): boolean => only === undefined || features[only];
  return [...CHAINS]
    .map(([name, spec]): [string, ChainSpec] => {
      const limits = name === 'forward' && connections !== undefined ? connectionLimits(connections) : [];
      return [name, { ...spec, rules: [...limits, ...spec.rules.filter(isNeeded)] }];
    })
    .filter(([, { rules }]) => rules.some(({ text }) => !text.endsWith('accept')));
}

const connectionLimits = (connections: number): Rule[] =>
  ([4, 6] as const).map((family) =>
    dropRule(
      `iifname @links ct state new add @connections${family} { ${IP[family]} saddr ct count over ${connections} }`,
      'connections',
      'more connections than a container may have',
    ),
  );
