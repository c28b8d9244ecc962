// The live stream and questions: the page's side of its server.
import type { QuestionName, Questions } from '../daemon/page/questions.js';
import type { Failure, Update } from '../daemon/page/update.js';
import { Cluster } from './state/store.js';

/** Views are drawn again at most so often, in milliseconds. */
const DRAW_MS = 200;

/** @param onChange called after changes, not for each of them */
export function follow(onChange: () => void): Cluster {
  const cluster = new Cluster();
  let isPlanned = false;
  const changed = (): void => {
    if (isPlanned) return;
    isPlanned = true;
    setTimeout(() => {
      isPlanned = false;
      onChange();
    }, DRAW_MS);
  };
  const stream = new EventSource('/api/live');
  stream.addEventListener('open', () => {
    cluster.connected();
    changed();
  });
  stream.addEventListener('message', ({ data }) => {
    cluster.apply(JSON.parse(String(data)) as Update, Date.now());
    changed();
  });
  // The browser connects again by itself, unless it was refused.
  stream.addEventListener('error', () => {
    cluster.disconnected(Date.now());
    changed();
  });
  return cluster;
}

export type Answer<T> = { ok: T } | { failure: Failure };

export async function ask<Q extends QuestionName>(
  name: Q,
  question: Questions[Q][0],
): Promise<Answer<Questions[Q][1]>> {
  try {
    const response = await fetch(`/api/${name}`, { method: 'POST', body: JSON.stringify(question) });
    const value: unknown = await response.json();
    if (response.ok) return { ok: value as Questions[Q][1] };
    return { failure: (value as { error: Failure }).error };
  } catch {
    const message = 'the page’s server does not answer';
    return { failure: { code: 'UNAVAILABLE', message, next: 'See that weft ui still runs.' } };
  }
}
