// Accepts forwarded packets of weft's links on hosts that drop them.
//
// Docker sets the FORWARD policy of the iptables tables to DROP; ufw and firewalld close theirs, too. In netfilter an accept ends
// only the chain that contains it, so weft's links must be accepted where the drop is.
import type { Family } from '../../../core/address.js';
import type { Firewall } from '../../../core/firewall.js';
import type { NftObject, NftRule, Nftables } from './libnftables.js';
import { targetOf, type WantedTable } from './xtables-plan.js';
import type { SavedTable } from './xtables.js';
import type { Problem } from './types.js';

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

/** Targets that end a packet's traversal. */
const CLOSING = new Set(['DROP', 'REJECT']);

/** Whether packets that no rule accepts are dropped: by the policy, or by a rule without conditions. */
export function isClosed(filter: SavedTable | undefined): boolean {
  const forward = filter?.get('FORWARD');
  if (forward === undefined) return false;
  return (
    forward.policy === 'DROP' ||
    forward.rules.some((rule) => isPlain(rule) && CLOSING.has(targetOf(rule) ?? ''))
  );
}

/** No condition: nothing before the target but a comment. */
const isPlain = (rule: string): boolean => /^(?:-m comment --comment (?:"[^"]*"|\S+) )?-j /.test(rule);

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

/** Whether weft's links need an accept of their own in this table. */
const needsAccept = (filter: SavedTable | undefined): boolean => isClosed(filter) || reachesDocker(filter);

/**
 * Where the accept goes. DOCKER-USER, where packets get there: Docker leaves that chain alone, while it puts its own rules at the
 * top of FORWARD again whenever it starts; it may also set the policy to DROP at any time, so the accept is there before. In
 * either chain it is the first rule, since the next one may already be the RETURN that Docker ends DOCKER-USER with, or a DROP.
 * Isolation is unaffected: weft's own drops are in other chains, and a drop is final.
 */
export function wantedAccept(filter: SavedTable | undefined): WantedTable | undefined {
  if (!needsAccept(filter)) return undefined;
  const from = reachesDocker(filter) ? DOCKER_CHAIN : 'FORWARD';
  return {
    chains: new Map([[ACCEPT_CHAIN, ACCEPT_RULES]]),
    jumps: [{ from, to: ACCEPT_CHAIN, first: true }],
  };
}

/** The relevant chains of an iptables-nft table, read through libnftables, in iptables-save's form. */
export function readFilter(
  nft: Nftables,
  chains: readonly NftObject[],
  family: Family,
): SavedTable | undefined {
  const nftFamily = family === 4 ? 'ip' : 'ip6';
  const saved: SavedTable = new Map();
  for (const { chain } of chains) {
    if (chain?.family !== nftFamily || chain.table !== 'filter') continue;
    const relevant = ['FORWARD', DOCKER_CHAIN].includes(chain.name) || chain.name.startsWith('WEFT-');
    if (!relevant) continue;
    const rules = nft
      .list(`list chain ${nftFamily} filter ${chain.name}`)
      .flatMap(({ rule }) => (rule === undefined ? [] : [asSaved(rule)]));
    saved.set(
      chain.name,
      chain.policy === undefined ? { rules } : { policy: chain.policy.toUpperCase(), rules },
    );
  }
  return saved.has('FORWARD') ? saved : undefined;
}

/**
 * A rule that iptables-nft wrote, in iptables-save's form as far as it matters here: interfaces, comments and the target.
 * Everything else counts as an opaque condition.
 */
function asSaved(rule: NftRule): string {
  const words: string[] = [];
  let target = '';
  for (const expression of rule.expr ?? []) {
    const [kind = '', value] = Object.entries(expression)[0] ?? [];
    const fields = (typeof value === 'object' && value !== null ? value : {}) as Record<string, unknown>;
    if (kind === 'counter') continue;
    else if (kind === 'match') words.push(interfaceMatch(fields) ?? '-m other');
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

function interfaceMatch(fields: Record<string, unknown>): string | undefined {
  const left = fields['left'] as { meta?: { key?: string } } | undefined;
  const right = fields['right'];
  const { op } = fields;
  if ((op !== '==' && op !== '!=') || typeof right !== 'string') return undefined;
  const name = right.replace(/\*$/, '+');
  const not = op === '!=' ? '! ' : '';
  if (left?.meta?.key === 'iifname') return `${not}-i ${name}`;
  return left?.meta?.key === 'oifname' ? `${not}-o ${name}` : undefined;
}

/** Unowned chains that drop what weft forwards and that weft cannot add a rule to: another program writes the whole table. */
export function unownedProblems(
  nft: Nftables,
  chains: readonly NftObject[],
  families: readonly Family[],
): Problem[] {
  const kinds = ['inet', ...families.map((family) => (family === 4 ? 'ip' : 'ip6'))];
  return chains.flatMap(({ chain }): Problem[] => {
    if (chain?.hook !== 'forward' || !kinds.includes(chain.family)) return [];
    if (chain.family === 'inet' && chain.table === 'weft') return [];
    // A chain of iptables-nft: it has an accept of weft's.
    if (chain.family !== 'inet' && chain.table === 'filter' && chain.name === 'FORWARD') return [];
    const table = `${chain.family} ${chain.table}`;
    const closing = listed(() => nft.list(`list chain ${table} ${chain.name}`)).some(
      ({ rule }) =>
        rule !== undefined && isPlain(asSaved(rule)) && CLOSING.has(targetOf(asSaved(rule)) ?? ''),
    );
    if (chain.policy !== 'drop' && !closing) return [];
    // A rule that names weft's links is taken to handle them.
    if (/"wf[^"]*"/.test(JSON.stringify(listed(() => nft.listTable(chain.family, chain.table))))) return [];
    const rule = (key: string): string => `insert rule ${table} ${chain.name} ${key} "wf*" accept`;
    return [
      {
        what: `nftables table ${table}, chain ${chain.name}`,
        why: `it drops forwarded packets (${closing ? 'a rule for everything' : 'policy drop'}), including those of weft's networks`,
        fix:
          chain.table === 'firewalld'
            ? "Trust weft's links: firewall-cmd --permanent --zone=trusted --add-interface=wf+ && firewall-cmd --reload"
            : `Accept weft's links there: nft '${rule('iifname')}; ${rule('oifname')}', and add them to the file that defines the table.`,
      },
    ];
  });
}

/** Other programs may use names, and write rules, that nft cannot list: then only the policy is known. */
function listed(list: () => NftObject[]): NftObject[] {
  try {
    return list();
  } catch {
    return [];
  }
}
