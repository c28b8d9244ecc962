// Accepts forwarded packets of weft's links on hosts that drop them.
//
// Docker sets the FORWARD policy of the iptables tables to DROP; ufw and firewalld close theirs, too. In netfilter an accept ends
// only the chain that contains it, so weft's links must be accepted where the drop is.
import type { Family } from '../../../core/address.js';
import type { Firewall } from '../../../core/firewall.js';
import type { NftObject, NftRule, Nftables } from './libnftables.js';
import { OWN_PREFIX, targetOf, type WantedTable } from './xtables-plan.js';
import type { SavedTable } from './xtables.js';

/**
 * All of weft's links begin with wf, so that one pair of rules serves every network. The bridge of a LAN also carries the host's
 * own traffic: what is routed between it and unowned links is not for weft to accept.
 */
export const ACCEPT_RULES = [
  '-i wfp-+ ! -o wf+ -m comment --comment weft -j RETURN',
  '! -i wf+ -o wfp-+ -m comment --comment weft -j RETURN',
  '-i wf+ -m comment --comment weft -j ACCEPT',
  '-o wf+ -m comment --comment weft -j ACCEPT',
] as const;

const ACCEPT_CHAIN = 'WEFT-ACCEPT';
const DOCKER_CHAIN = 'DOCKER-USER';

const reachesDocker = (filter: SavedTable | undefined): boolean =>
  filter?.has(DOCKER_CHAIN) === true &&
  filter.get('FORWARD')?.rules.some((rule) => targetOf(rule) === DOCKER_CHAIN) === true;

/** Families in which the FORWARD chains see any traffic of weft's links. */
export const forwardedFamilies = ({ networks, bridged = [] }: Firewall): Family[] =>
  ([4, 6] as const).filter(
    (family) =>
      bridged.includes(family) ||
      networks.some(({ prefixes }) => prefixes.some((prefix) => prefix.family === family)),
  );

/**
 * Where the accept goes: behind the operator's rules. Docker's documented place for them is DOCKER-USER, which Docker leaves
 * alone, and puts its jump to at the top of FORWARD again whenever it starts; the accept is directly behind that jump, and before
 * Docker's own rules. It is there although the policy is ACCEPT, which Docker may set to DROP at any time. Without Docker the
 * accept is the last rule, before the policy. Isolation is unaffected: weft's own drops are in other chains, and a drop is final.
 */
export function wantedAccept(filter: SavedTable | undefined): WantedTable | undefined {
  const docker = reachesDocker(filter);
  if (!docker && filter?.get('FORWARD')?.policy !== 'DROP') return undefined;
  return {
    chains: new Map([[ACCEPT_CHAIN, ACCEPT_RULES]]),
    jumps: [{ from: 'FORWARD', to: ACCEPT_CHAIN, at: docker ? { behind: DOCKER_CHAIN } : 'last' }],
  };
}

/** The table with the accept. */
export const withAccept = (table: WantedTable, accept: WantedTable): WantedTable => ({
  chains: new Map([...table.chains, ...accept.chains]),
  jumps: [...table.jumps, ...accept.jumps],
});

/**
 * An iptables-nft filter table, read through libnftables, in iptables-save's form: weft's chains, and what packets can pass from
 * INPUT, FORWARD and OUTPUT on.
 */
export function readFilter(
  nft: Nftables,
  chains: readonly NftObject[],
  family: Family,
): SavedTable | undefined {
  const nftFamily = family === 4 ? 'ip' : 'ip6';
  const there = new Map(
    chains.flatMap(({ chain }) =>
      chain?.family === nftFamily && chain.table === 'filter' ? [[chain.name, chain]] : [],
    ),
  );
  const saved: SavedTable = new Map();
  const names = [...there.keys()].filter((name) => name.startsWith(OWN_PREFIX));
  const relevant = new Set(['FORWARD', DOCKER_CHAIN, 'INPUT', 'OUTPUT', ...names]);
  // A set may grow during iteration.
  for (const name of relevant) {
    const chain = there.get(name);
    if (chain === undefined) continue;
    const rules = nft
      .list(`list chain ${nftFamily} filter ${name}`)
      .flatMap(({ rule }) => (rule === undefined ? [] : [asSaved(rule)]));
    const policy = chain.policy?.toUpperCase();
    saved.set(name, { ...(policy !== undefined && { policy }), rules });
    for (const rule of rules) relevant.add(targetOf(rule) ?? '');
  }
  return ['FORWARD', 'INPUT', 'OUTPUT'].some((name) => saved.has(name)) ? saved : undefined;
}

/**
 * A rule that iptables-nft wrote, in iptables-save's form as far as it matters here: interfaces, protocols, ports, comments and the
 * target. That there is a condition of connection tracking is shown without the condition; everything else is `-m other`.
 */
function asSaved(rule: NftRule): string {
  const words: string[] = [];
  let target = '';
  for (const expression of rule.expr ?? []) {
    const [kind = '', value] = Object.entries(expression)[0] ?? [];
    const fields = (typeof value === 'object' && value !== null ? value : {}) as Record<string, unknown>;
    if (kind === 'counter') continue;
    else if (kind === 'match') words.push(plainMatch(fields) ?? '-m other');
    else if (kind === 'xt' && fields['name'] === 'conntrack') words.push('-m conntrack');
    // The library does not show an xtables match's parameters; the only comments in weft's chains are its own.
    else if (kind === 'xt' && fields['name'] === 'comment') words.push('-m comment --comment weft');
    else if (kind === 'xt' && fields['type'] === 'target') target = `-j ${String(fields['name'])}`;
    else if (['accept', 'drop', 'return', 'reject'].includes(kind)) target = `-j ${kind.toUpperCase()}`;
    else if (kind === 'jump' || kind === 'goto')
      target = `${kind === 'jump' ? '-j' : '-g'} ${String(fields['target'])}`;
    else words.push('-m other');
  }
  if (rule.comment !== undefined) words.push('-m comment --comment weft');
  return [...words, target].join(' ').trim();
}

function plainMatch(fields: Record<string, unknown>): string | undefined {
  const left = fields['left'] as
    { meta?: { key?: string }; payload?: { protocol?: string; field?: string } } | undefined;
  const right = fields['right'];
  const { op } = fields;
  if (op === '==' && left?.payload?.field === 'dport' && typeof right === 'number')
    return `-p ${left.payload.protocol} --dport ${right}`;
  if ((op !== '==' && op !== '!=') || typeof right !== 'string') return undefined;
  const name = right.replace(/\*$/, '+');
  const not = op === '!=' ? '! ' : '';
  if (left?.meta?.key === 'iifname') return `${not}-i ${name}`;
  if (left?.meta?.key === 'l4proto') return `${not}-p ${right}`;
  return left?.meta?.key === 'oifname' ? `${not}-o ${name}` : undefined;
}
