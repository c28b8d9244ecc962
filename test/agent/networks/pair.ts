// Two nodes of a network on fakes: one store, and a kernel each.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import type { ExecutionContext } from 'ava';

import { agentMetrics } from '../../../agent/health/metrics.js';
import { Problems } from '../../../agent/health/problems.js';
import { Memberships } from '../../../agent/networks/memberships.js';
import { Reconciler } from '../../../agent/reconcile/reconciler.js';
import { State } from '../../../agent/state/index.js';
import { IpAddress, IpNetwork } from '../../../core/address.js';
import type { OverlayNetwork } from '../../../core/network.js';
import { describeStep } from '../../../core/plan.js';
import { silentLogger } from '../../../daemon/log.js';
import { FakeCloud } from '../../fakes/cloud.js';
import { FakeKernel } from '../../fakes/kernel.js';
import { FakeStore } from '../../fakes/store.js';
import { until } from '../../lab/wait.js';

/**
 * The nodes are joined, alive, and know each other.
 * @param hasFou whether the kernels carry udp networks themselves
 */
export async function pairOn(t: ExecutionContext, network: OverlayNetwork, hasFou = false) {
  const store = new FakeStore();
  store.putNetwork(network);
  /** What each node is to one cloud. */
  const first = new FakeCloud('eni-1');
  const clouds = [first, new FakeCloud('eni-2', first.tablesById)];
  /** What the kernels did, in order. */
  const log: string[] = [];
  const nodes = await Promise.all(
    [1, 2].map(async (n) => {
      const name = `node${n}`;
      const folder = mkdtempSync(join(tmpdir(), 'weft-pair-'));
      t.teardown(() => rmSync(folder, { recursive: true }));
      const state = new State(folder);
      state.load();
      const kernel = new FakeKernel();
      kernel.hasFou = hasFou;
      kernel.breakByHand.put({ kind: 'address', link: 'eth0', address: `192.0.2.${n}/24` });
      kernel.beforeApply = (steps) => {
        for (const step of steps) {
          const { verb, what } = describeStep(step);
          log.push(`${name} ${verb} ${what}`);
        }
      };
      const problems = new Problems();
      const reconciler = new Reconciler({
        ...{ kernel, problems, log: silentLogger, metrics: agentMetrics() },
        onSandboxGone: () => undefined,
        onUnderlay: () => undefined,
        clouds: () => Promise.resolve(clouds[n - 1] ?? first),
        onCloudRoutes: () => void memberships.republish(() => true),
      });
      const memberships: Memberships = new Memberships({
        ...{ kernel, store, reconciler, problems, state, log: silentLogger, runDir: undefined },
        ...{ node: name, instance: name, subnetTtlSeconds: 3600 },
        underlay: () => ({
          ...{ ip: IpAddress.parse(`192.0.2.${n}`), mtu: 1500, link: 'eth0' },
          onLink: [{ link: 'eth0', prefix: IpNetwork.parse('192.0.2.0/24') }],
          routers: [{ prefix: IpNetwork.parse('0.0.0.0/0'), via: IpAddress.parse('192.0.2.254') }],
        }),
      });
      memberships.listen({
        changed: () => Promise.resolve(),
        left: () => Promise.resolve(),
        isUsed: () => false,
        refusal: () => undefined,
      });
      let handled = Promise.resolve();
      const unsubscribe = store.subscribe((changes) => {
        memberships.note(changes);
        handled = handled.then(() => memberships.handle(changes));
      });
      t.teardown(async () => {
        unsubscribe();
        // A lease that is taken after the stop would be renewed for ever.
        await handled;
        await memberships.stop();
        await reconciler.stop();
      });
      store.setAlive(name, name);
      await reconciler.start();
      reconciler.allowPruning();
      await memberships.join(network.name);
      return {
        name,
        state,
        kernel,
        memberships,
        subnet: memberships.get(network.name)?.lease.subnet.toString() ?? '',
      };
    }),
  );
  const [one, two] = nodes;
  if (one === undefined || two === undefined) throw new Error('there are two nodes');
  const has = (node: typeof one, text: string): boolean => node.kernel.dump().includes(text);
  await until('the nodes know each other', () => has(one, two.subnet) && has(two, one.subnet));
  return { store, log, one, two, has, clouds };
}
