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
  kind === 'peer'
    ? { begin: 'path-broken', end: 'path-healed' }
    : CONFLICTS.has(kind)
      ? { begin: 'conflict', end: 'conflict-over' }
      : { begin: 'problem', end: 'solved' };

type OfPaths = Problem & { broken?: readonly { node: string }[] };

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
  // A path is between nodes, and belongs to the underlay. A problem of several names their nodes.
  const objects = ({ scope, kind, id }: ProblemKey, { broken }: OfPaths): string[] => {
    if (kind !== 'peer') return [objectOf(scope)];
    const nodes = new Set(broken?.map(({ node }) => node) ?? (id === undefined ? [] : [id]));
    return nodes.size === 0 ? [objectOf(scope)] : [...nodes].map((node) => eventObject('path', node));
  };
  return {
    raised: (key, problem) => {
      const message = `${problem.what}: ${problem.why}`;
      for (const object of objects(key, problem))
        events.record({ reason: reasonsOf(key.kind).begin, object, message });
    },
    cleared: (key, problem) => {
      for (const object of objects(key, problem))
        events.record({ reason: reasonsOf(key.kind).end, object, message: problem.what });
    },
  };
}
