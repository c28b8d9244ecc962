// What the parts of the agent tell of, as events.
import { endpointObject, eventObject, type EventReason } from '../../core/events.js';
import type { Endpoint } from '../../core/records.js';
import type { EventLog } from '../../daemon/event-log.js';
import type { SessionState } from '../api/index.js';
import type { EndpointHappening } from '../endpoints/index.js';
import type { ScopeObject } from '../health/index.js';
import type { MembershipHappening } from '../networks/index.js';
import type { Repaired } from '../reconcile/index.js';
import type { PathHappening } from '../underlay/index.js';

/** Repairs of one comparison that are named. */
const MOST_NAMED = 5;

export interface Happenings {
  onRepaired: Repaired;
  onMembership: MembershipHappening;
  onEndpoint: EndpointHappening;
  onPath: PathHappening;
  onSession: (state: SessionState) => void;
}

export function happenings(events: Pick<EventLog, 'record'>, objectOf: ScopeObject): Happenings {
  let isConnected: boolean | undefined;
  const controller = (reason: EventReason, { address }: SessionState, message: string): void =>
    events.record({ reason, object: eventObject('controller', address), message });
  return {
    onRepaired: (scope, found) => {
      const rest = found.length - MOST_NAMED;
      const more = rest > 0 ? [`${rest} more`] : [];
      const message = [...found.slice(0, MOST_NAMED), ...more].join('; ');
      events.record({ reason: 'repaired', object: objectOf(scope), message });
    },
    onMembership: (reason, network, message) =>
      events.record({ reason, object: eventObject('network', network), message }),
    onEndpoint: (reason, endpoint) =>
      events.record({
        reason,
        object: endpointObject(endpoint),
        message: `${endpoint.target} ${addressText(endpoint)}`,
        actor: endpoint.manager,
      }),
    onPath: (reason, node, message) => events.record({ reason, object: eventObject('path', node), message }),
    onSession: (state) => {
      if (state.state === 'connected') {
        if (isConnected === false) controller('controller-back', state, 'the session is back');
        isConnected = true;
      } else {
        if (isConnected !== false) controller('controller-away', state, state.error);
        isConnected = false;
      }
    },
  };
}

const addressText = ({ ip, ip6 }: Endpoint): string =>
  [ip, ip6 ?? ''].filter((text) => text !== '').join(' ');
