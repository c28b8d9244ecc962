// Capability check: what a network's driver needs of a kernel, against what the nodes report.
import { needsOf } from '../core/drivers/index.js';
import { failedPrecondition } from '../core/errors.js';
import type { Network } from '../core/network.js';
import type { Status } from '../proto/gen/weft/v1/types.js';
import type { Sources } from './messages.js';

/**
 * Nodes that have not reported do not count. Each node checks again when it joins.
 * @throws WeftError FAILED_PRECONDITION where every node that has reported lacks something, with what
 */
export function checkCapability(
  network: Network,
  nodes: readonly { name: string; status: Pick<Status, 'node'> }[],
): void {
  const needed: readonly string[] = needsOf(network);
  if (needed.length === 0) return;
  const told = nodes
    .map(({ name, status }) => ({ name, capabilities: status.node?.capabilities ?? [] }))
    .filter(({ capabilities }) => capabilities.length > 0);
  const lacking = told.map(({ name, capabilities }) => ({
    name,
    why: capabilities.filter((it) => needed.includes(it.name) && !it.available).map((it) => it.why),
  }));
  if (lacking.length === 0 || lacking.some(({ why }) => why.length === 0)) return;
  const reasons = new Map<string, string[]>();
  for (const { name, why } of lacking) {
    const text = why.join('; ');
    reasons.set(text, [...(reasons.get(text) ?? []), name]);
  }
  const shown = [...reasons].map(
    ([why, names]) => `${names.slice(0, 3).join(', ')}${names.length > 3 ? ' and others' : ''}: ${why}`,
  );
  throw failedPrecondition(
    `network ${network.name}: no node of this cluster can carry it (${shown.join('; ')})`,
    'Use nodes with another kernel, or another driver.',
  );
}

export function reportsOfLiving({ store, reports }: Sources): { name: string; status: Status }[] {
  return [...store.view.alive.keys()].flatMap((name) => {
    const report = reports.reportOf(name);
    return report === undefined ? [] : [{ name, status: report.status }];
  });
}
