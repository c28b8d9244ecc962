// Firewall rules of other programs, reduced to what decides about weft's traffic.
//
// Those of iptables-save here, those of nft's listings in nft-packet-rules.ts. What is not understood makes a rule vague: it may
// be for a packet.
import type { SavedTable } from './xtables.js';

/** A condition on one field: any of the values, or none of them. */
export interface Condition {
  not: boolean;
  values: readonly string[];
}

export interface PacketRule {
  /** Names of links; `+` or `*` at the end stands for the rest. */
  in?: Condition;
  out?: Condition;
  /** `4` or `6`. */
  family?: Condition;
  protocol?: Condition;
  /** Destination ports: 53 or 8000:9000. */
  port?: Condition;
  /** ICMP types: 8, 3/4, any, or nft's names. */
  type?: Condition;
  /** Of connection tracking: NEW, ESTABLISHED, RELATED, INVALID, UNTRACKED, DNAT. */
  state?: Condition;
  source?: Condition;
  /** It has further conditions. */
  vague: boolean;
  /** ACCEPT, DROP, REJECT, RETURN, another target, or the name of a chain. */
  target: string;
  /** The chain does not return here. */
  goto: boolean;
  /** As its program shows it; an nft rule's is found by its handle. */
  text: string;
  handle?: number;
}

export interface PacketChain {
  /** Of base chains. */
  policy?: string;
  rules: readonly PacketRule[];
}

export type PacketTable = ReadonlyMap<string, PacketChain>;

const PLAIN_MODULES = new Set(['tcp', 'udp', 'icmp', 'icmp6', 'comment', 'conntrack', 'state', 'multiport']);

/** weft's own chains drop what is not for its networks; that is no finding. Its accept counts. */
const isOwn = (chain: string): boolean => chain.startsWith('WEFT-') && chain !== 'WEFT-ACCEPT';

/** A table in iptables-save's form, weft's own chains without their rules. */
export const packetTable = (saved: SavedTable): PacketTable =>
  new Map(
    [...saved].map(([chain, { policy, rules }]) => [
      chain,
      {
        ...(policy !== undefined && { policy }),
        rules: isOwn(chain) ? [] : rules.map((rule) => savedRule(chain, rule)),
      },
    ]),
  );

function savedRule(chain: string, text: string): PacketRule {
  const rule: PacketRule = { vague: false, target: '', goto: false, text: `-A ${chain} ${text}` };
  const words = asWords(text);
  let not = false;
  for (let i = 0; i < words.length; i++) {
    const word = words[i] ?? '';
    const values = (words[i + 1] ?? '').split(',');
    const condition = { not, values };
    if (word === '!') {
      not = true;
      continue;
    }
    not = false;
    if (word === '-j' || word === '-g') {
      rule.target = words[i + 1] ?? '';
      rule.goto = word === '-g';
      // The rest are the target's options.
      break;
    } else if (word === '-i') rule.in = condition;
    else if (word === '-o') rule.out = condition;
    else if (word === '-p') rule.protocol = condition;
    else if (word === '-s') rule.source = condition;
    else if (word === '--ctstate' || word === '--state') rule.state = condition;
    else if (word === '--dport' || word === '--dports') rule.port = condition;
    else if (word === '--icmp-type' || word === '--icmpv6-type') rule.type = condition;
    else if (word === '-m') rule.vague ||= !PLAIN_MODULES.has(values.join());
    else if (word !== '--comment') {
      rule.vague = true;
      continue;
    }
    i++;
  }
  return rule;
}

/** Quoted words are one. */
const asWords = (rule: string): string[] =>
  [...rule.matchAll(/"((?:[^"\\]|\\.)*)"|(\S+)/g)].map(([, quoted, plain = '']) => quoted ?? plain);
