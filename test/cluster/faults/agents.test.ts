// Faults of an agent: killed, and stopped beyond its node lease.
import { setTimeout as delay } from 'node:timers/promises';

import { nodeStates, statusOf, tunnels } from './observe.js';
import { raise, suite, type Fault } from './suite.js';

const fault = suite({
  lane: 'agent',
  build: () => raise(2, { flags: ['--node-ttl', '1s'] }),
});

const nodeState = async (f: Fault, host: string): Promise<string | undefined> =>
  (await nodeStates(f.cluster))[host];

fault('killed with -9, started again after a while', async (f) => {
  const { subnet } = (await statusOf(f.cluster, 'h1')).networks[0] ?? {};
  const before = await tunnels(f.cluster, 'h1');
  f.begins();
  await f.cluster.process('agent-h1').kill();
  await delay(f.pick(1000, 3000));
  await f.cluster.startAgents(['h1'], ['--node-ttl', '1s']);
  await f.lossless();
  f.same((await statusOf(f.cluster, 'h1')).networks[0]?.subnet, subnet, 'same subnet');
  f.same(await tunnels(f.cluster, 'h1'), before, 'same VTEP');
  const { node } = await statusOf(f.cluster, 'h1');
  f.same(node.stepsApplied + node.stepsFailed, 0, 'no step done that was not needed');
  const again = await f.cluster.attach('h1', 'blue', 'c1');
  f.same(again.id, f.site.a.id, 'attaching again changes nothing');
});

fault('stopped beyond its node lease, continued', async (f) => {
  const before = await tunnels(f.cluster, 'h1');
  const steps = (await statusOf(f.cluster, 'h1')).node;
  f.begins();
  f.cluster.process('agent-h1').signal('SIGSTOP');
  await f.cluster.until('it is down', async () => (await nodeState(f, 'h1')) === 'down');
  await delay(f.pick(500, 5000));
  f.cluster.process('agent-h1').signal('SIGCONT');
  f.ends();
  await f.within(3, 'up again', async () => (await nodeState(f, 'h1')) === 'up');
  await f.lossless();
  f.same(await tunnels(f.cluster, 'h1'), before, 'same VTEP, same routes');
  const { node } = await statusOf(f.cluster, 'h1');
  f.same(
    [node.stepsApplied, node.stepsFailed, node.driftRepaired],
    [steps.stepsApplied, steps.stepsFailed, steps.driftRepaired],
    'no step done that was not needed',
  );
});
