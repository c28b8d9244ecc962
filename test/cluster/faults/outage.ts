// What must hold after every time in which etcd did not answer: nobody is called dead, and each agent has said it once.
import { monotonic } from '../../lab/meter.js';
import type { LabProcess } from '../../lab/process.js';
import { nodeStates, saidSince } from './observe.js';
import type { Fault } from './suite.js';

/** The agents' --node-ttl where none is given, in seconds. */
const TTL = 3;

/** Looks for a node's TTL, from now on. */
export async function nobodyCalledDead(f: Fault): Promise<void> {
  const from = monotonic();
  const states: string[] = [];
  while (monotonic() < from + TTL * 1000) states.push(...Object.values(await nodeStates(f.cluster)));
  f.check(states.length > 0 && states.every((state) => state === 'up'), 'nobody is called dead');
}

/** One line when etcd went, and one when it was back. @param from lengths of the agents' logs before */
export function oneLineAState(f: Fault, agents: readonly LabProcess[], from: readonly number[]): void {
  for (const [i, agent] of agents.entries()) {
    const said = saidSince(agent, from[i] ?? 0).filter((line) => line.includes('etcd'));
    f.check(
      said.length === 2 && /etcd is unreachable/.test(said[0] ?? '') && /etcd connected/.test(said[1] ?? ''),
      'one line of log a state',
    );
  }
}
