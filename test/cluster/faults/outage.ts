// What must hold after every outage of etcd.
//
// No node is reported down, and each agent has logged the outage once.
import { monotonic } from '../../lab/meter.js';
import type { LabProcess } from '../../lab/process.js';
import { nodeStates, loggedSince } from './observe.js';
import type { Fault } from './suite.js';

/** The agents' default --node-ttl, in seconds. */
const TTL = 3;

/** Watches the nodes' states for one node TTL. */
export async function noNodeReportedDown(f: Fault): Promise<void> {
  const from = monotonic();
  const states: string[] = [];
  while (monotonic() < from + TTL * 1000) states.push(...Object.values(await nodeStates(f.cluster)));
  f.check(states.length > 0 && states.every((state) => state === 'up'), 'no node is reported down');
}

/** One line when etcd failed, and one when it was back. @param from lengths of the agents' logs before */
export function oneLinePerState(f: Fault, agents: readonly LabProcess[], from: readonly number[]): void {
  for (const [i, agent] of agents.entries()) {
    const lines = loggedSince(agent, from[i] ?? 0).filter((line) => line.includes('etcd'));
    f.check(
      lines.length === 2 &&
        /etcd is unreachable/.test(lines[0] ?? '') &&
        /etcd connected/.test(lines[1] ?? ''),
      'one line of log for each state',
    );
  }
}
