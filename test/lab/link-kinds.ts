// Kinds of links that not every kernel has.
import type { Outcome } from './exec.js';

const KINDS = ['wireguard', 'ipip'] as const;
export type LinkKind = (typeof KINDS)[number];

/** Those that the kernel has; tried in the namespace that the commands run in. */
export async function linkKinds(run: (argv: string[]) => Promise<Outcome>): Promise<LinkKind[]> {
  const found: LinkKind[] = [];
  for (const kind of KINDS) {
    const { code } = await run(['ip', 'link', 'add', 'kind0', 'type', kind]);
    if (code !== 0) continue;
    found.push(kind);
    await run(['ip', 'link', 'del', 'kind0']);
  }
  return found;
}
