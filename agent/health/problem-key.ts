// Identity of a problem: the scope that it belongs to, and its kind there.
//
// A key is a value and never shown: names of networks and paths may look like anything. Problems of one scope end together,
// as when an endpoint is detached.
import type { PluginProblem } from '../../daemon/plugin-host.js';

/** What a problem belongs to. */
export type ProblemScope =
  | { kind: 'node' | 'underlay' | 'firewall' | 'dns' }
  | { kind: 'network'; network: string }
  | { kind: 'endpoint'; network: string; id: string }
  /** Of pipework. */
  | { kind: 'attachment'; id: string }
  /** Of `weft run`. */
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
  // The reconciler, in whatever scope its target has.
  | 'comparison'
  | 'conflict'
  | 'step'
  | 'contested'
  | 'namespace'
  // The underlay.
  | 'address'
  | 'peer'
  | 'router-advertisements'
  // The firewall.
  | 'rules'
  // Names.
  | 'listener'
  | 'forwarding-loop'
  // A network that the node is on.
  | 'lease'
  | 'renewal'
  | 'restoration'
  | 'moved-subnet'
  | 'config'
  | 'claim'
  | 'subnet-env'
  // An endpoint, an attachment, a container.
  | 'removal'
  | 'recovery'
  | 'publication'
  | 'port'
  | 'start'
  | 'supervision'
  | PluginProblem['kind'];

export interface ProblemKey {
  scope: ProblemScope;
  kind: ProblemKind;
  /** Which one, where a scope has several of a kind. */
  id?: string;
}

export const NODE = { kind: 'node' } as const satisfies ProblemScope;
export const UNDERLAY = { kind: 'underlay' } as const satisfies ProblemScope;
export const FIREWALL = { kind: 'firewall' } as const satisfies ProblemScope;
export const DNS = { kind: 'dns' } as const satisfies ProblemScope;

export const networkScope = (network: string): ProblemScope => ({ kind: 'network', network });
export const endpointScope = ({ network, id }: { network: string; id: string }): ProblemScope => ({
  kind: 'endpoint',
  network,
  id,
});

/** The same text for equal scopes alone. */
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
