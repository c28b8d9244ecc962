// Events of etcd: when it stopped answering, and when it was back.
import { eventObject } from '../core/events.js';
import type { Store } from '../store/store.js';
import type { EventLog } from './event-log.js';

/** @returns what ends it */
export function followEtcd(
  store: Pick<Store, 'state' | 'onState'>,
  events: Pick<EventLog, 'record'>,
  urls: readonly string[],
): () => void {
  const object = eventObject('etcd', urls.join(','));
  // The first connection is no event, and what was never reached did not go away.
  let isConnected = store.state.connected;
  let wasConnected = isConnected;
  return store.onState(({ connected, error }) => {
    if (connected === isConnected) return;
    isConnected = connected;
    if (!connected) events.record({ reason: 'etcd-away', object, message: error ?? 'it does not answer' });
    else if (wasConnected) events.record({ reason: 'etcd-back', object, message: 'it answers again' });
    wasConnected = true;
  });
}
