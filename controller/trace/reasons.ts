// Why a packet stops: the rule that drops it, what an ICMP error says, what the kernel refuses.
import type { ProbeDrop, ProbeSighting } from '../../proto/gen/weft/v1/trace.js';

/** Cause and next step. */
export interface Reason {
  reason: string;
  why: string;
  fix: string;
}

/** What the ends' networks say of each other. */
export interface RecordFacts {
  /** Two networks that do not reach each other. */
  apart?: readonly [string, string];
  /** An internal network, one of whose ends is outside. */
  internal?: string;
  /** Why the policies deny the packet. */
  denied?: string;
}

/** The comments of the rules that enforce policies. */
const BY_POLICY = /no policy allows it|reach a closed container|an older connection of a neighbour/;

/** By the comments of weft's rules. */
const OWN_RULES: readonly { comment: RegExp; fix: (facts: RecordFacts) => string }[] = [
  {
    comment: BY_POLICY,
    fix: () =>
      'Allow it: weft policy allow --from SELECTOR --to SELECTOR; weft policy test A B says what closes it.',
  },
  {
    comment: /do not reach each other/,
    fix: ({ apart }) =>
      apart === undefined
        ? 'Let them: weft network route A B; or attach the container to both.'
        : `Let them: weft network route ${apart.join(' ')}; or attach the container to both.`,
  },
  {
    comment: /\binternal\b/,
    fix: () =>
      'An internal network is made so: attach the container to another network as well, or make the network without --internal.',
  },
  {
    comment: /what is not published/,
    fix: () =>
      'Publish the port (weft port publish), or open the network: weft network update NAME --direct-access on.',
  },
  {
    comment: /a MAC address that is not|the address of another|not its own|of another|node's own address/,
    fix: () =>
      'Port security: let the container send from its own address, or allow the other (weft endpoint update ID --allowed-address CIDR).',
  },
];

const isOwn = ({ table, chain }: ProbeDrop): boolean => table.endsWith(' weft') || chain.startsWith('WEFT-');

/** @param where the place of the rule, in words */
export function dropReason(drop: ProbeDrop, where: string, facts: RecordFacts): Reason {
  const { table, chain, rule } = drop;
  const comment = /comment "([^"]*)"/.exec(rule)?.[1]?.replace(/ \([0-9a-f]{8}\)$/, '');
  if (isOwn(drop) || (table === '' && /-A WEFT-/.test(rule))) {
    const isPolicy = comment !== undefined && BY_POLICY.test(comment);
    const security =
      table === 'bridge weft' && comment !== undefined ? `port security drops it: ${comment}` : undefined;
    const words = isPolicy ? (facts.denied ?? comment) : (security ?? factWords(facts) ?? comment);
    const known = OWN_RULES.find(({ comment: of }) => of.test(comment ?? factWords(facts) ?? ''));
    return {
      reason: words ?? `a rule of weft drops it on ${where}`,
      why: `weft drops it on ${where}: ${table === '' ? rule : `${table}, chain ${chain}`}${comment === undefined || comment === words ? '' : ` (${comment})`}`,
      fix: known?.fix(facts) ?? 'weft made this rule; docs/security.md says what containers may do.',
    };
  }
  if (table === '')
    return {
      reason: `a rule of iptables-legacy drops it on ${where}: ${rule}`,
      why: 'its counter rose while the packet was under way',
      fix: 'See iptables-legacy -S there; change that rule, or put one that accepts before it.',
    };
  if (rule === '')
    return {
      reason: `the policy of chain ${chain} drops it on ${where} (nftables, table ${table})`,
      why: 'no rule of the chain accepts it',
      fix: `Add a rule that accepts it: see nft list chain ${table} ${chain} there.`,
    };
  return {
    reason: `a rule drops it on ${where}: ${rule} (nftables, table ${table}, chain ${chain})`,
    why: 'the kernel says so of this packet (nftrace)',
    fix: `Change the rule, or put one that accepts before it: see nft -a list chain ${table} ${chain} there.`,
  };
}

function factWords({ apart, internal }: RecordFacts): string | undefined {
  if (apart !== undefined) return `networks ${apart[0]} and ${apart[1]} do not reach each other`;
  return internal === undefined
    ? undefined
    : `network ${internal} is internal: it reaches nothing outside, and nothing outside reaches it`;
}

export const recordReason = (facts: RecordFacts): Reason | undefined => {
  const words = factWords(facts);
  if (words === undefined) return undefined;
  const known = OWN_RULES.find(({ comment }) => comment.test(words));
  return { reason: words, why: 'the records of the networks say so', fix: known?.fix(facts) ?? '' };
};

/** More than one counter rose: which of the rules it was is not told. */
export const countedReason = (drops: readonly ProbeDrop[], where: string): Reason => ({
  reason: `one of ${drops.length} rules of iptables-legacy drops it on ${where}`,
  why: `their counters rose meanwhile: ${drops.map(({ rule }) => rule).join('; ')}`,
  fix: 'See iptables-legacy -S there; trace again at a quieter time to know which.',
});

type IcmpError = Pick<ProbeSighting, 'type' | 'code' | 'mtu' | 'source'>;

/** RFC 792, RFC 1122 §3.2.2.1; RFC 4443 §3. */
const ERRORS: Readonly<Record<4 | 6, Readonly<Record<string, string>>>> = {
  4: {
    '3/0': 'has no route to the network',
    '3/1': 'does not reach the host',
    '3/3': 'has nobody at that port',
    '3/9': 'prohibits it',
    '3/10': 'prohibits it',
    '3/13': 'prohibits it',
    '11/0': 'says that it was passed on too often (TTL): the routes form a loop',
  },
  6: {
    '1/0': 'has no route there',
    '1/1': 'prohibits it',
    '1/3': 'does not reach the host',
    '1/4': 'has nobody at that port',
    '1/5': 'prohibits it',
    '1/6': 'rejects it',
    '3/0': 'says that it was passed on too often (hop limit): the routes form a loop',
  },
};

export const isPortUnreachable = ({ type, code }: IcmpError, family: 4 | 6): boolean =>
  family === 4 ? type === 3 && code === 3 : type === 1 && code === 4;

export const isTooBig = ({ type, code }: IcmpError, family: 4 | 6): boolean =>
  family === 4 ? type === 3 && code === 4 : type === 2;

export function errorReason(error: IcmpError, family: 4 | 6): Reason {
  const { type, code, mtu, source } = error;
  if (isTooBig(error, family))
    return {
      reason: `${source} says that the packet is too large for the next link, whose MTU is ${mtu}`,
      why: 'an ICMP error has come back',
      fix: `Send at most ${mtu} bytes; programs that heed the MTU do.`,
    };
  return {
    reason: `${source} ${ERRORS[family][`${type}/${code}`] ?? `answers with ICMP type ${type}, code ${code}`}`,
    why: `an ICMP error has come back (type ${type}, code ${code})`,
    fix: `See the routes and rules of ${source}.`,
  };
}

const REFUSED: Readonly<Record<string, string>> = {
  EMSGSIZE: 'the packet is larger than the MTU of its interface',
  EPERM: 'a rule of its own firewall drops it',
  EACCES: 'a prohibit route is in force',
  EINVAL: 'a blackhole route is in force',
  ENETUNREACH: 'it has no route',
  EHOSTUNREACH: 'an unreachable route is in force, or nobody answers there',
  ENETDOWN: 'its interface is down',
  EADDRNOTAVAIL: 'its address is not there',
};

export const refusedReason = (errno: string, name: string): Reason => ({
  reason: `the kernel of ${name} does not send it: ${REFUSED[errno] ?? errno}`,
  why: `it answers ${errno}`,
  fix: 'See ip route, ip link and the rules there.',
});
