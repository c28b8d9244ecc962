// `weft ca rotate`: a new certificate authority in the place of the old one, while everything goes on.
//
// The new CA signs at once, and is trusted by who knows the former one alone, by its key that the former one signed. Nodes
// are told, and get a certificate and both CAs. When none of them needs the former CA any more, it is dropped: that is the
// one restart of the embedded etcd, which does not read its CA anew.
import type { Problem } from '../core/problem.js';
import type { ControllerStore } from '../store/etcd-store.js';
import type { Authority } from './ca/authority.js';

/** Whose certificates are of the former CA still: nodes, and what was issued by hand. People get a new one as they go. */
export function holdersOfFormer({ view, credentials }: ControllerStore, { hash }: Authority): string[] {
  const holders = new Map<string, boolean>();
  for (const { role, name = '', refused, authority } of credentials.certificates()) {
    const isThere = role === 'node' ? view.nodes.has(name) : role === 'flannel' && view.networks.has(name);
    if (refused || !(isThere || role === 'controller')) continue;
    const holder = describeHolder(role, name);
    holders.set(holder, authority === hash || holders.get(holder) === true);
  }
  return [...holders].flatMap(([holder, isCurrent]) => (isCurrent ? [] : holder)).toSorted();
}

function describeHolder(role: string, name: string): string {
  if (role === 'node') return `node ${name}`;
  return role === 'flannel' ? `flanneld of ${name}` : 'a further controller';
}

/** While one CA replaces another. */
export function rotationWarnings(store: ControllerStore, authority: Authority | undefined): Problem[] {
  if (authority?.former === undefined || !store.isSynced) return [];
  const holders = holdersOfFormer(store, authority);
  if (holders.length === 0) return [];
  return [
    {
      what: 'the certificate authority',
      why: `is being replaced; the former one is trusted until these have a certificate of the new one: ${holders.join(', ')}`,
      fix: 'Nodes get theirs once their agents reach this controller (weft node rm NAME for one that is gone); for others: weft ca issue.',
    },
  ];
}
