// Finds where the host's firewall drops weft's traffic, and says what to run.
//
// weft's own accept is behind the operator's rules, and weft opens nothing for arriving packets: what drops all of a kind of
// its traffic becomes a problem. Only where no rule could let it through: what the rules alone do not show is left to the
// measured round-trip times.
import type { Family } from '../../../core/address.js';
import type { Firewall } from '../../../core/firewall.js';
import { LAN_PREFIX } from '../../../core/objects/index.js';
import { closedBy, ICMP_TYPES, type Closing, type Packet } from './packet-match.js';
import type { PacketTable } from './packet-rules.js';
import type { Problem } from './types.js';

type Hook = 'input' | 'forward' | 'output';

/** By which links; `wfbr+` is all whose names begin so. */
interface Way {
  in?: string;
  out?: string;
}

/** What of a link's packets is meant. */
type Ask = Pick<Packet, 'protocol' | 'port' | 'type'>;

/** A kind of traffic that a node of weft's needs. */
interface Traffic {
  hook: Hook;
  words: string;
  /** UDP port of a tunnel. */
  port?: number;
  /** One that is dropped drops the whole. */
  packets: readonly Packet[];
  /** What must be accepted; a tunnel's port is the same on any link. */
  ways: readonly Way[];
  /** All of it, where there is none. */
  asks: readonly Ask[];
  /** Between ports of a LAN's bridge, which is not only weft's. */
  isLan?: true;
}

/** The traffic of this node that rules of one family see. */
export function trafficOf(desired: Firewall, family: Family): Traffic[] {
  const { networks, tunnelPorts = [], names = false, underlay, bridged = [] } = desired;
  const sources = networks.flatMap(({ prefixes }) => prefixes).filter((prefix) => prefix.family === family);
  const tunnels = networks.flatMap((network) => network.tunnels ?? []);
  const links = networks.flatMap((network) => network.links);
  const bridges = links.filter((link) => !tunnels.includes(link));
  const fresh = { family, states: ['NEW'] } as const;
  const found: Traffic[] = [];
  // Another program's bridge has names that weft does not know.
  if (sources.length > 0 && bridges.length > 0)
    found.push({
      hook: 'forward',
      words: "what weft's networks forward",
      packets: (['tcp', 'udp'] as const).flatMap((protocol) => [
        ...(tunnels.length === 0
          ? [[bridges, bridges]]
          : [
              [bridges, tunnels],
              [tunnels, bridges],
            ]
        ).map(([from, to]): Packet => ({ ...fresh, protocol, in: from, out: to, sources })),
        { ...fresh, protocol, in: bridges, out: 'any', sources },
        { ...fresh, protocol, out: bridges, states: ['NEW', 'DNAT'] },
      ]),
      ways: patternsOf(links).flatMap((link) => [{ in: link }, { out: link }]),
      asks: [],
    });
  if (bridged.includes(family))
    found.push({
      hook: 'forward',
      words: "what weft's bridges of LANs forward",
      packets: (['tcp', 'udp'] as const).map((protocol) => ({
        ...fresh,
        protocol,
        in: [LAN_PREFIX],
        out: [LAN_PREFIX],
      })),
      ways: [{ in: `${LAN_PREFIX}+`, out: `${LAN_PREFIX}+` }],
      asks: [],
      isLan: true,
    });
  /** Between this node and one of these links. */
  const local = (
    hook: 'input' | 'output',
    words: string,
    at: readonly string[],
    asks: readonly Ask[],
    more: Partial<Packet> = {},
  ): void => {
    const side = hook === 'input' ? 'in' : 'out';
    if (sources.length === 0 || at.length === 0) return;
    found.push({
      hook,
      words,
      packets: asks.map((ask) => ({
        ...fresh,
        ...ask,
        ...(side === 'out' && { in: [] }),
        [side]: at,
        ...more,
      })),
      ways: patternsOf(at).map((link) => ({ [side]: link })),
      asks,
    });
  };
  if (names) {
    const asks = [
      { protocol: 'udp', port: 53 },
      { protocol: 'tcp', port: 53 },
    ] as const;
    local('input', "the containers' questions for names (port 53)", bridges, asks, { sources });
  }
  if (family === 6) {
    const asks = [135, 136].map((type) => ({ protocol: 'icmpv6', type }) as const);
    const more = { states: ['UNTRACKED'] };
    local('input', 'the neighbour discovery of containers (ICMPv6)', bridges, asks, more);
    local('output', 'the neighbour discovery of this node (ICMPv6)', bridges, asks, more);
  }
  const echo: Ask[] = [family === 4 ? { protocol: 'icmp', type: 8 } : { protocol: 'icmpv6', type: 128 }];
  local('input', "the other nodes' probes (ICMP echo)", tunnels, echo, { sources });
  local('output', 'the probes of this node (ICMP echo)', tunnels, echo);
  const inIp = family === 4 && networks.some(({ shared }) => shared !== undefined);
  const tunnelled: { words: string; ask: Ask; port?: number }[] = [
    ...tunnelPorts.map((port) => ({
      words: `UDP port ${port}`,
      ask: { protocol: 'udp', port } as const,
      port,
    })),
    ...(inIp ? [{ words: 'IP in IP (protocol 4)', ask: { protocol: 'ipip' } as const }] : []),
  ];
  for (const { words: name, ask, port } of tunnelled) {
    const asks = [ask];
    const links = underlay === undefined ? undefined : [underlay];
    for (const [hook, words, way] of [
      ['input', 'at which tunnels arrive', { in: links }],
      ['output', 'to which tunnels send', { in: [], out: links ?? 'any' }],
    ] as const)
      found.push({
        hook,
        words: `${name}, ${words}`,
        ...(port !== undefined && { port }),
        packets: asks.map((ask) => ({ ...fresh, ...ask, ...way })),
        ways: [{}],
        asks,
      });
  }
  return found;
}

/** Of all links of these kinds: networks come and go. */
const patternsOf = (links: readonly string[]): string[] => [
  ...new Set(links.map((link) => `${/^wf[a-z]*/.exec(link)?.[0] ?? link}+`)),
];

/** A table whose chains drop traffic, and how rules are added to it. */
export interface Owner {
  /** As displayed: `iptables (nft)`, `nftables table inet strict`. */
  name: string;
  /** The base chains; absent where the owner's name says it all. */
  showsChains: boolean;
  commands: (traffic: Traffic, base: string, closing: Closing) => string[];
  /** Makes one command line of them. */
  run: (commands: readonly string[]) => string;
}

type OwnerOf = (closing: Closing, traffic: Traffic) => Owner;

/** A kind of traffic that is dropped. */
export interface Finding {
  owner: Owner;
  base: string;
  words: string;
  why: string;
  commands: string[];
  /** The port of a tunnel. */
  closes?: { family: Family; port: number };
}

/**
 * @param bases names of the table's base chains
 * @param textOf the closing rule, as its program shows it
 */
export function findClosed(
  table: PacketTable,
  bases: Partial<Record<Hook, string>>,
  traffic: readonly Traffic[],
  ownerOf: OwnerOf,
  textOf: (closing: Closing) => string | undefined = ({ rule }) => rule?.text,
): Finding[] {
  return traffic.flatMap((kind) => {
    const base = bases[kind.hook];
    if (base === undefined) return [];
    for (const packet of kind.packets) {
      const closing = closedBy(table, base, packet);
      if (closing === undefined) continue;
      const owner = ownerOf(closing, kind);
      const text = closing.rule === undefined ? undefined : textOf(closing);
      const why =
        closing.rule === undefined
          ? 'it drops packets that no rule accepts, and no rule there accepts'
          : `its rule \`${text ?? `${closing.rule.target} in ${closing.chain}`}\` is before any that accepts`;
      const { words, port } = kind;
      return [
        {
          ...{ owner, base, words, why, commands: owner.commands(kind, base, closing) },
          ...(port !== undefined && { closes: { family: packet.family, port } }),
        },
      ];
    }
    return [];
  });
}

/** One problem for each owner, with all that is to be run. */
export function closedProblems(findings: readonly Finding[]): Problem[] {
  const names = [...new Set(findings.map(({ owner }) => owner.name))];
  return names.flatMap((name) => {
    const own = findings.filter(({ owner }) => owner.name === name);
    const [first] = own;
    if (first === undefined) return [];
    const { owner } = first;
    const bases = [...new Set(own.map(({ base }) => base))];
    const reasons = [...new Set(own.map(({ why }) => why))].map((why) => {
      const words = [...new Set(own.filter((one) => one.why === why).map((one) => one.words))];
      return `${why} ${words.join(', nor ')}`;
    });
    const closes = own.flatMap((one) => one.closes ?? []);
    const chains = `, ${bases.length === 1 ? 'chain' : 'chains'} ${bases.join(' and ')}`;
    return [
      {
        what: `${name}${owner.showsChains ? chains : ''}`,
        why: reasons.join('; '),
        fix: owner.run([...new Set(own.flatMap(({ commands }) => commands))]),
        ...(closes.length > 0 && { closes }),
      },
    ];
  });
}

const lineOf = (commands: readonly string[]): string => `Run: ${commands.join(' && ')}`;

/** Rules of an iptables command. @param command without the path */
export function xtablesOwner(name: string, command: string, table: PacketTable): OwnerOf {
  const own: Owner = {
    name,
    showsChains: true,
    commands({ hook, ways, asks }, base, { chain, rule, position }) {
      const place = hook !== 'forward' || rule === undefined ? base : `${chain} ${position}`;
      const asked = asks.length === 0 ? [''] : asks.map(savedAsk);
      return ways.flatMap((way) => {
        const sides = `${word(' -i ', way.in)}${word(' -o ', way.out)}`;
        return asked.map((ask) => `${command} -I ${place}${sides}${ask} -j ACCEPT`);
      });
    },
    run: (commands) => `${lineOf(commands)}, and add these rules where the host's are stored.`,
  };
  const hasUfw = [...table.keys()].some(isUfw);
  const hasFirewalld = table.has('INPUT_ZONES');
  return ({ chain, rule }, { hook, asks }) => {
    // ufw's commands know no ICMP and no IP in IP, and all that arrives by these links is too much.
    const isWord = !asks.some(isInIp) && (hook !== 'input' || asks.every(({ type }) => type === undefined));
    if (hasUfw && (rule === undefined || isUfw(chain))) return isWord ? UFW : own;
    if (!hasFirewalld) return own;
    return hook === 'output'
      ? (firewalldPolicy(zoneIn(/^OUT_(?:policy_)?/, chain)) ?? own)
      : firewalld(zoneIn(/^(?:IN|FWD[IO]?)_/, chain));
  };
}

const isInIp = ({ protocol }: Ask): boolean => protocol === 'ipip';
/** Protocol 4 in /etc/protocols. */
const IN_IP = 'ipencap';

const savedAsk = ({ protocol, port, type }: Ask): string =>
  port === undefined && type === undefined
    ? ` -p ${IN_IP}`
    : type === undefined
      ? ` -p ${protocol} --dport ${port}`
      : ` -p ${protocol} --${protocol}-type ${ICMP_TYPES[type]?.iptables}`;

/** An option with its value, if there is one. */
const word = (option: string, value: string | undefined): string =>
  value === undefined ? '' : `${option}${value}`;

const isUfw = (chain: string): boolean => /^ufw6?-/.test(chain);

const UFW: Owner = {
  name: 'ufw',
  showsChains: false,
  commands({ hook, port, ways }) {
    if (port !== undefined) return [`ufw allow ${hook === 'output' ? 'out ' : ''}${port}/udp`];
    return ways.map((way) => {
      const sides = `${word(' in on ', way.in)}${word(' out on ', way.out)}`;
      if (hook === 'forward') return `ufw route allow${sides}`;
      return `ufw allow${sides}${hook === 'input' ? ' to any port 53' : ''}`;
    });
  },
  run: lineOf,
};

/** The zone of one of firewalld's chains; it has further chains with these endings. */
const zoneIn = (start: RegExp, chain: string): string | undefined =>
  start.test(chain) ? chain.replace(start, '').replace(/_(?:pre|log|deny|allow|post)$/, '') : undefined;

const permanent = (text: string): string => `firewall-cmd --permanent ${text}`;
const reloaded = (commands: readonly string[]): string => lineOf([...commands, 'firewall-cmd --reload']);

/** @param zone that tunnels arrive in; undefined: the default one */
const firewalld = (zone: string | undefined): Owner => ({
  name: 'firewalld',
  showsChains: false,
  commands({ port, ways, asks, isLan }) {
    const opened =
      port !== undefined ? `port=${port}/udp` : asks.some(isInIp) ? `protocol=${IN_IP}` : undefined;
    if (opened !== undefined)
      return [permanent(`${zone === undefined ? '' : `--zone=${zone} `}--add-${opened}`)];
    // A LAN is not to be trusted: its zone forwards within itself.
    const into = isLan ? `--zone=${zone ?? 'public'} --add-forward` : '--zone=trusted';
    const links = new Set(ways.flatMap((way) => way.in ?? []));
    return [...links].map((link) => permanent(`${into} --add-interface=${link}`));
  },
  run: reloaded,
});

/** Of what the host itself sends; undefined where the rule is none of a policy's. */
const firewalldPolicy = (policy: string | undefined): Owner | undefined =>
  policy === undefined
    ? undefined
    : {
        name: 'firewalld',
        showsChains: false,
        commands: ({ asks }) =>
          asks.map(({ protocol, port }) => {
            const what =
              port === undefined
                ? `protocol=${protocol.replace('icmpv6', 'ipv6-icmp').replace('ipip', IN_IP)}`
                : `port=${port}/udp`;
            return permanent(`--policy=${policy} --add-${what}`);
          }),
        run: reloaded,
      };

/** @param table with its family: `inet strict` */
export function nftOwner(table: string): OwnerOf {
  const own: Owner = {
    name: `nftables table ${table}`,
    showsChains: true,
    commands({ ways, asks }, base) {
      const insert = `insert rule ${table} ${base}`;
      const asked = asks.length === 0 ? [''] : asks.map(nftAsk);
      const side = (key: string, link: string | undefined): string =>
        link === undefined ? '' : ` ${key} "${link.replace('+', '*')}"`;
      return ways.flatMap((way) => {
        const sides = `${side('iifname', way.in)}${side('oifname', way.out)}`;
        return asked.map((ask) => `${insert}${sides}${ask} accept`);
      });
    },
    run: (commands) =>
      `Run: nft '${commands.join('; ')}', and add these rules to the file that defines the table.`,
  };
  return ({ chain }, { hook }) => {
    if (table !== 'inet firewalld') return own;
    return hook === 'output'
      ? (firewalldPolicy(zoneIn(/^filter_OUT_(?:policy_)?/, chain)) ?? own)
      : firewalld(zoneIn(/^filter_(?:IN|FWD)_/, chain));
  };
}

const nftAsk = ({ protocol, port, type }: Ask): string =>
  isInIp({ protocol })
    ? ' meta l4proto 4'
    : type === undefined
      ? ` ${protocol} dport ${port}`
      : ` ${protocol} type ${ICMP_TYPES[type]?.nft}`;
