// Kinds of links that not every kernel has.
import type { Outcome } from './exec.js';

export type LinkKind = 'wireguard' | 'ipip';

/** What a link of the kind must have. Of IP in IP each namespace has one without any address, tunl0. */
const KINDS: Record<LinkKind, readonly string[]> = { wireguard: [], ipip: ['local', '192.0.2.1'] };

/** Those that the kernel has; tried in the namespace that the commands run in. */
export async function linkKinds(run: (argv: string[]) => Promise<Outcome>): Promise<LinkKind[]> {
  const found: LinkKind[] = [];
  for (const [kind, words] of Object.entries(KINDS) as [LinkKind, readonly string[]][]) {
    const { code } = await run(['ip', 'link', 'add', 'kind0', 'type', kind, ...words]);
    if (code !== 0) continue;
    found.push(kind);
    await run(['ip', 'link', 'del', 'kind0']);
  }
  return found;
}
