// Identity of a problem: its scope, and its kind there.
//
// A key is a value and never shown: a network's name or a path may look like anything. Problems of one scope end together,
// for example when an endpoint is detached.
import type { PluginProblem } from '../../daemon/plugin-host.js';

/** The owner of a problem. */
export type ProblemScope =
  | { kind: 'node' | 'underlay' | 'firewall' | 'dns' }
  | { kind: 'network'; network: string }
  | { kind: 'endpoint'; network: string; id: string }
  /** A pipework attachment. */
  | { kind: 'attachment'; id: string }
  /** A container of `weft run`. */
  | { kind: 'container'; id: string }
  | { kind: 'plugin'; plugin: string };

export type ProblemKind =
  // The node in its cluster.
  | 'name'
  | 'removed'
  | 'first-list'
  | 'publishing'
  | 'state-file'
  | 'gateway'
  | 'routed-network'
  | 'awaited-network'
  | 'certificate'
  | 'clock'
  | 'controller-version'
  | 'plain-text'
  | 'subnet-only'
  // The reconciler, in the scope of its target.
  | 'comparison'
  | 'conflict'
  | 'step'
  | 'contested'
  | 'namespace'
  // The underlay.
  | 'address'
  | 'peer'
  | 'neighbour-table'
  | 'router-advertisements'
  | 'duplicate-address'
  | 'public-address'
  // The firewall.
  | 'rules'
  | 'port-security'
  | 'policy'
  // DNS.
  | 'listener'
  | 'forwarding-loop'
  | 'unanswered'
  // A network of this node.
  | 'lease'
  | 'renewal'
  | 'peer-lease'
  | 'peer-claim'
  | 'restoration'
  | 'moved-subnet'
  | 'config'
  | 'parent'
  | 'claim'
  | 'subnet-env'
  | 'overlap'
  | 'allowed-overlap'
  | 'containing-route'
  | 'cloud-routes'
  | 'foreign-port'
  // An endpoint, an attachment, a container.
  | 'removal'
  | 'inside-route'
  | 'inside-address'
  | 'published-port'
  | 'recovery'
  | 'publication'
  | 'port'
  | 'start'
  | 'supervision'
  | PluginProblem['kind'];

/** Kinds that never change the health: what they tell may be as it was meant. */
export const WARNINGS: ReadonlySet<ProblemKind> = new Set([
  'allowed-overlap',
  'containing-route',
  'neighbour-table',
  'plain-text',
  'port-security',
  'public-address',
  'published-port',
]);

export interface ProblemKey {
  scope: ProblemScope;
  kind: ProblemKind;
  /** Distinguishes several problems of one kind in a scope. */
  id?: string;
}

export const NODE = { kind: 'node' } as const satisfies ProblemScope;
export const UNDERLAY = { kind: 'underlay' } as const satisfies ProblemScope;
/** The underlay's link carries nothing: no other node, and maybe no etcd, is reached. */
export const OUTAGE = { scope: UNDERLAY, kind: 'peer', id: 'link' } as const satisfies ProblemKey;
export const FIREWALL = { kind: 'firewall' } as const satisfies ProblemScope;
export const DNS = { kind: 'dns' } as const satisfies ProblemScope;

/** Another host has this node's address, and packets to this node go there. */
export const OWN_ADDRESS = { scope: UNDERLAY, kind: 'peer', id: 'own address' } as const satisfies ProblemKey;

export const networkScope = (network: string): ProblemScope => ({ kind: 'network', network });
export const endpointScope = ({ network, id }: { network: string; id: string }): ProblemScope => ({
  kind: 'endpoint',
  network,
  id,
});

/** A text that is equal for equal scopes only. */
export function scopeIdentity(scope: ProblemScope): string {
  switch (scope.kind) {
    case 'network':
      return JSON.stringify([scope.kind, scope.network]);
    case 'endpoint':
      return JSON.stringify([scope.kind, scope.network, scope.id]);
    case 'attachment':
    case 'container':
      return JSON.stringify([scope.kind, scope.id]);
    case 'plugin':
      return JSON.stringify([scope.kind, scope.plugin]);
    default:
      return JSON.stringify([scope.kind]);
  }
}
