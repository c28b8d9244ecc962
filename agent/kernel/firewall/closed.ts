// Finds where the host's firewall drops weft's traffic, and says what to run.
//
// weft's own accept is behind the operator's rules, and weft opens nothing for arriving packets: what drops all of a kind of
// its traffic becomes a problem. Only where no rule could let it through: what the rules alone do not show is left to the
// measured round-trip times.
import type { Family } from '../../../core/address.js';
import type { Firewall } from '../../../core/firewall.js';
import { LAN_PREFIX } from '../../../core/objects/index.js';
import { closedBy, type Closing, type Packet } from './packet-match.js';
import type { PacketTable } from './packet-rules.js';
import type { Problem } from './types.js';

type Hook = 'input' | 'forward';

/** By which links; `wfbr+` is all whose names begin so. */
interface Way {
  in?: string;
  out?: string;
}

/** A kind of traffic that a node of weft's needs. */
interface Traffic {
  hook: Hook;
  words: string;
  /** UDP port of a tunnel. */
  port?: number;
  /** One that is dropped drops the whole. */
  packets: readonly Packet[];
  /** What must be accepted; of a tunnel's port there is none, for it is the same on any link. */
  ways: readonly Way[];
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
  const fresh = { family, protocol: 'tcp', states: ['NEW'] } as const;
  const found: Traffic[] = [];
  if (sources.length > 0)
    found.push({
      hook: 'forward',
      words: "what weft's networks forward",
      packets: [
        { ...fresh, in: links, out: links, sources },
        { ...fresh, in: links, out: 'any', sources },
        { ...fresh, out: links, states: ['NEW', 'DNAT'] },
      ],
      ways: patternsOf(links).flatMap((link) => [{ in: link }, { out: link }]),
    });
  if (bridged.includes(family))
    found.push({
      hook: 'forward',
      words: "what weft's bridges of LANs forward",
      packets: [{ ...fresh, in: [LAN_PREFIX], out: [LAN_PREFIX] }],
      ways: [{ in: `${LAN_PREFIX}+`, out: `${LAN_PREFIX}+` }],
      isLan: true,
    });
  if (names && sources.length > 0 && bridges.length > 0)
    found.push({
      hook: 'input',
      words: "the containers' questions for names (port 53)",
      packets: [{ ...fresh, protocol: 'udp', in: bridges, port: 53, sources }],
      ways: patternsOf(bridges).map((link) => ({ in: link })),
    });
  for (const port of tunnelPorts)
    found.push({
      hook: 'input',
      words: `UDP port ${port}, at which tunnels arrive`,
      port,
      packets: [{ ...fresh, protocol: 'udp', in: underlay === undefined ? undefined : [underlay], port }],
      ways: [],
    });
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

/** A kind of traffic that is dropped. */
export interface Finding {
  owner: Owner;
  base: string;
  words: string;
  why: string;
  commands: string[];
}

/**
 * @param bases names of the table's base chains
 * @param textOf the closing rule, as its program shows it
 */
export function findClosed(
  table: PacketTable,
  bases: Partial<Record<Hook, string>>,
  traffic: readonly Traffic[],
  ownerOf: (closing: Closing) => Owner,
  textOf: (closing: Closing) => string | undefined = ({ rule }) => rule?.text,
): Finding[] {
  return traffic.flatMap((kind) => {
    const base = bases[kind.hook];
    if (base === undefined) return [];
    for (const packet of kind.packets) {
      const closing = closedBy(table, base, packet);
      if (closing === undefined) continue;
      const owner = ownerOf(closing);
      const text = closing.rule === undefined ? undefined : textOf(closing);
      const why =
        closing.rule === undefined
          ? 'it drops packets that no rule accepts, and no rule there accepts'
          : `its rule \`${text ?? `${closing.rule.target} in ${closing.chain}`}\` is before any that accepts`;
      return [{ owner, base, words: kind.words, why, commands: owner.commands(kind, base, closing) }];
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
    const chains = `, ${bases.length === 1 ? 'chain' : 'chains'} ${bases.join(' and ')}`;
    return [
      {
        what: `${name}${owner.showsChains ? chains : ''}`,
        why: reasons.join('; '),
        fix: owner.run([...new Set(own.flatMap(({ commands }) => commands))]),
      },
    ];
  });
}

const lineOf = (commands: readonly string[]): string => `Run: ${commands.join(' && ')}`;

/** Rules of an iptables command. @param command without the path */
export function xtablesOwner(name: string, command: string, table: PacketTable): (closing: Closing) => Owner {
  const own: Owner = {
    name,
    showsChains: true,
    commands({ hook, port, ways }, base, { chain, rule, position }) {
      if (port !== undefined) return [`${command} -I ${base} -p udp --dport ${port} -j ACCEPT`];
      const place = hook === 'input' || rule === undefined ? base : `${chain} ${position}`;
      const asked = hook === 'input' ? ['udp', 'tcp'].map((protocol) => ` -p ${protocol} --dport 53`) : [''];
      return ways.flatMap((way) => {
        const sides = `${word(' -i ', way.in)}${word(' -o ', way.out)}`;
        return asked.map((port53) => `${command} -I ${place}${sides}${port53} -j ACCEPT`);
      });
    },
    run: (commands) => `${lineOf(commands)}, and add these rules where the host's are stored.`,
  };
  const hasUfw = [...table.keys()].some(isUfw);
  const hasFirewalld = table.has('INPUT_ZONES');
  return ({ chain, rule }) => {
    if (hasUfw && (rule === undefined || isUfw(chain))) return UFW;
    return hasFirewalld ? firewalld(zoneIn(/^(?:IN|FWD[IO]?)_/, chain)) : own;
  };
}

/** An option with its value, if there is one. */
const word = (option: string, value: string | undefined): string =>
  value === undefined ? '' : `${option}${value}`;

const isUfw = (chain: string): boolean => /^ufw6?-/.test(chain);

const UFW: Owner = {
  name: 'ufw',
  showsChains: false,
  commands({ hook, port, ways }) {
    if (port !== undefined) return [`ufw allow ${port}/udp`];
    return ways.map((way) => {
      const sides = `${word(' in on ', way.in)}${word(' out on ', way.out)}`;
      return hook === 'forward' ? `ufw route allow${sides}` : `ufw allow${sides} to any port 53`;
    });
  },
  run: lineOf,
};

/** The zone of one of firewalld's chains; it has further chains with these endings. */
const zoneIn = (start: RegExp, chain: string): string | undefined =>
  start.test(chain) ? chain.replace(start, '').replace(/_(?:pre|log|deny|allow|post)$/, '') : undefined;

/** @param zone that tunnels arrive in; undefined: the default one */
const firewalld = (zone: string | undefined): Owner => ({
  name: 'firewalld',
  showsChains: false,
  commands({ port, ways, isLan }) {
    const add = (text: string): string => `firewall-cmd --permanent ${text}`;
    if (port !== undefined)
      return [add(`${zone === undefined ? '' : `--zone=${zone} `}--add-port=${port}/udp`)];
    // A LAN is not to be trusted: its zone forwards within itself.
    const into = isLan ? `--zone=${zone ?? 'public'} --add-forward` : '--zone=trusted';
    const links = new Set(ways.flatMap((way) => way.in ?? []));
    return [...links].map((link) => add(`${into} --add-interface=${link}`));
  },
  run: (commands) => lineOf([...commands, 'firewall-cmd --reload']),
});

/** @param table with its family: `inet strict` */
export function nftOwner(table: string): (closing: Closing) => Owner {
  if (table === 'inet firewalld') return ({ chain }) => firewalld(zoneIn(/^filter_(?:IN|FWD)_/, chain));
  const own: Owner = {
    name: `nftables table ${table}`,
    showsChains: true,
    commands({ hook, port, ways }, base) {
      const insert = `insert rule ${table} ${base}`;
      if (port !== undefined) return [`${insert} udp dport ${port} accept`];
      const asked = hook === 'input' ? ' meta l4proto { tcp, udp } th dport 53' : '';
      const side = (key: string, link: string | undefined): string =>
        link === undefined ? '' : ` ${key} "${link.replace('+', '*')}"`;
      return ways.map(
        (way) => `${insert}${side('iifname', way.in)}${side('oifname', way.out)}${asked} accept`,
      );
    },
    run: (commands) =>
      `Run: nft '${commands.join('; ')}', and add these rules to the file that defines the table.`,
  };
  return () => own;
}
