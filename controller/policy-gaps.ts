// Nodes that do not enforce what they should: behind, unable, or too old.
import { setTimeout as delay } from 'node:timers/promises';

import { digestOf } from '../core/policy/index.js';
import type { NodeGap } from '../proto/gen/weft/v1/controller.js';
import type { Status } from '../proto/gen/weft/v1/types.js';
import type { Store } from '../store/store.js';
import type { ReportSource } from './registry.js';

export interface GapSources {
  store: Pick<Store, 'view'>;
  reports: Pick<ReportSource, 'reportOf'>;
}

const EVERY_MS = 25;
/** Every living node that is well has taken a change over by then. */
const FOLLOW_MS = 2000;

/** Whether anything is to be enforced. */
const isUsed = ({ view }: Pick<Store, 'view'>): boolean =>
  view.policies.size > 0 || [...view.networks.values()].some(({ isolated }) => isolated === true);

/** Living nodes that are behind: a moment after a change all are. */
function behind({ store: { view }, reports }: GapSources): NodeGap[] {
  const digest = digestOf([...view.policies.values()]);
  const isolated = new Set([...view.networks.values()].flatMap((one) => (one.isolated ? [one.name] : [])));
  return [...view.alive.keys()].flatMap((node): NodeGap[] => {
    const status = reports.reportOf(node)?.status;
    if (status === undefined) return [{ node, why: 'it has no session with this controller' }];
    const { policies, networks } = status;
    if (policies === undefined) return [];
    const differing = networks.filter(({ name }) => isolated.has(name) !== policies.isolated.includes(name));
    return policies.digest === digest && differing.length === 0
      ? []
      : [{ node, why: 'it has not taken the last change over yet' }];
  });
}

/** Living nodes that cannot enforce everything. */
function unable({ store, reports }: GapSources): NodeGap[] {
  if (!isUsed(store)) return [];
  return [...store.view.alive.keys()].flatMap((node): NodeGap[] => {
    const status = reports.reportOf(node)?.status;
    if (status === undefined) return [];
    return isOld(status)
      ? [
          {
            node,
            why: `its agent (${store.view.nodes.get(node)?.version ?? 'unknown'}) knows no policies, and enforces none`,
          },
        ]
      : (status.policies?.gaps ?? []).map(({ what, why }) => ({ node, why: `${what}: ${why}` }));
  });
}

const isOld = ({ policies }: Status): boolean => policies === undefined;

/** Nodes that are down: their containers may run on, with the policies that they had. */
const down = ({ store: { view } }: GapSources): NodeGap[] =>
  [...view.nodes.keys()]
    .filter((node) => !view.alive.has(node))
    .map((node) => ({ node, why: 'it is down, and keeps what it had' }));

export const gapsOf = (sources: GapSources): NodeGap[] => [
  ...behind(sources),
  ...down(sources),
  ...unable(sources),
];

/** Waits for nodes that only need a moment. @returns who does not enforce everything then */
export async function settledGaps(sources: GapSources, signal: AbortSignal): Promise<NodeGap[]> {
  const end = performance.now() + FOLLOW_MS;
  while (behind(sources).length > 0 && performance.now() < end) await delay(EVERY_MS, undefined, { signal });
  return gapsOf(sources);
}

/** Nodes whose agents enforce nothing, while something is to be enforced. */
export const enforcesNone = (store: Pick<Store, 'view'>, status: Status | undefined): boolean =>
  status !== undefined && isOld(status) && isUsed(store);
