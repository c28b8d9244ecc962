// Events as counters, for alerts that do not read texts.
import { Counter, type Registry } from 'prom-client';

import type { EventLog } from './event-log.js';

/** Counts those that this daemon tells itself. @returns stops it */
export function countEvents(registry: Registry, events: Pick<EventLog, 'subscribe'>): () => void {
  const counter = new Counter({
    name: 'weft_events_total',
    help: 'Events that this daemon has told, by type and reason.',
    labelNames: ['type', 'reason'],
    registers: [registry],
  });
  // One that counts others stands for them.
  return events.subscribe(({ type, reason, count }) =>
    counter.inc({ type, reason }, count > 1 ? count - 1 : 1),
  );
}
