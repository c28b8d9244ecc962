// Problems as events: one when a problem appears, one when it is over.
//
// A problem that ends with its scope has no event: that the scope has ended is one.
import { endpointObject, eventObject, type EventReason } from '../../core/events.js';
import type { EventLog } from '../../daemon/event-log.js';
import type { ProblemKey, ProblemKind, ProblemScope } from './problem-key.js';
import type { ProblemListener } from './problems.js';

/** Kinds of problems that are somebody else's claim to what weft has. */
const CONFLICTS: ReadonlySet<ProblemKind> = new Set([
  'name',
  'conflict',
  'contested',
  'duplicate-address',
  'moved-subnet',
  'port',
  'overlap',
]);

const reasonsOf = (kind: ProblemKind): { begin: EventReason; end: EventReason } =>
  kind === 'peer'
    ? { begin: 'path-broken', end: 'path-healed' }
    : CONFLICTS.has(kind)
      ? { begin: 'conflict', end: 'conflict-over' }
      : { begin: 'problem', end: 'solved' };

/** From a scope of problems to the object of events, KIND/NAME. */
export type ScopeObject = (scope: ProblemScope) => string;

/** @param nameOf an endpoint's name by its id; undefined where it is gone */
export const scopeObjects =
  (node: string, nameOf: (id: string) => string | undefined): ScopeObject =>
  (scope) => {
    switch (scope.kind) {
      case 'network':
        return eventObject('network', scope.network);
      case 'endpoint':
        return endpointObject({ name: nameOf(scope.id) ?? scope.id, network: scope.network });
      case 'attachment':
      case 'container':
        return eventObject(scope.kind, scope.id);
      case 'plugin':
        return eventObject('plugin', scope.plugin);
      default:
        return eventObject(scope.kind, node);
    }
  };

export function problemEvents(events: Pick<EventLog, 'record'>, objectOf: ScopeObject): ProblemListener {
  // A path is between nodes, and belongs to the underlay.
  const object = ({ scope, kind, id }: ProblemKey): string =>
    kind === 'peer' && id !== undefined ? eventObject('path', id) : objectOf(scope);
  return {
    raised: (key, { what, why }) =>
      events.record({ reason: reasonsOf(key.kind).begin, object: object(key), message: `${what}: ${why}` }),
    cleared: (key, { what }) =>
      events.record({ reason: reasonsOf(key.kind).end, object: object(key), message: what }),
  };
}
