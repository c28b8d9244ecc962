// Problems as events: one when a problem appears, one when it is over.
//
// A problem that ends with its scope has no event: that the scope has ended is one.
import { endpointObject, eventObject, type EventReason } from '../../core/events.js';
import type { EventLog } from '../../daemon/event-log.js';
import type { ProblemKey, ProblemKind, ProblemScope } from './problem-key.js';
import type { Problem, ProblemListener } from './problems.js';

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
  CONFLICTS.has(kind) ? { begin: 'conflict', end: 'conflict-over' } : { begin: 'problem', end: 'solved' };

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
  const record = ({ scope }: ProblemKey, reason: EventReason, message: string): void =>
    events.record({ reason, object: objectOf(scope), message });
  // Paths have events of their own, by node: here what broke them.
  const isTold = ({ kind }: ProblemKey, { isCause }: Problem): boolean => kind !== 'peer' || isCause === true;
  return {
    raised: (key, problem) => {
      if (isTold(key, problem)) record(key, reasonsOf(key.kind).begin, `${problem.what}: ${problem.why}`);
    },
    cleared: (key, problem) => {
      if (isTold(key, problem)) record(key, reasonsOf(key.kind).end, problem.what);
    },
  };
}
