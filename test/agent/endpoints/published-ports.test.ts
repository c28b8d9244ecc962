// Ingress ports: changes during an await, and firewall failures.
import { mock } from 'node:test';

import test, { type ExecutionContext } from 'ava';

import { PublishedPorts } from '../../../agent/endpoints/published-ports.js';
import { Problems } from '../../../agent/health/problems.js';
import { unavailable } from '../../../core/errors.js';
import { firewallPortKey, type FirewallPort } from '../../../core/firewall.js';
import type { Endpoint, NodeRecord } from '../../../core/records.js';
import { silentLogger } from '../../../daemon/log.js';
import { FakeKernel } from '../../fakes/kernel.js';
import { FakeStore } from '../../fakes/store.js';
import { endpoint, membership, network } from '../../kernel/samples.js';
import { until } from '../../lab/wait.js';

const blue = membership(network('blue', 4097, 100, false));

/** An endpoint of another node, with these ingress ports. */
const everywhere = (...hostPorts: number[]): Endpoint =>
  endpoint(blue, 'a'.repeat(32), 9, '/run/netns/far', {
    node: 'node2',
    publish: hostPorts.map((hostPort) => ({
      ...{ hostIp: '0.0.0.0', hostPort, port: 80, protocol: 'tcp' as const, everywhere: true },
    })),
  });

/** A node's record at this address. */
const at = (name: string, publicIp: string): NodeRecord => ({
  ...{ name, instance: name, publicIp, version: '', startedAt: '' },
});

class World {
  readonly kernel = new FakeKernel();
  readonly store = new FakeStore();
  readonly problems = new Problems();
  /** Ports that the firewall forwards. */
  readonly led = new Map<string, FirewallPort>();
  /** The next changes of the firewall wait for this. */
  firewall: () => Promise<void> = () => Promise.resolve();
  readonly ports = new PublishedPorts({
    kernel: this.kernel,
    store: this.store,
    memberships: { get: () => blue },
    reconciler: {
      changePorts: async (added, removed) => {
        await this.firewall();
        for (const port of removed) this.led.delete(firewallPortKey(port));
        for (const port of added) this.led.set(firewallPortKey(port), port);
      },
    },
    problems: this.problems,
    log: silentLogger,
    node: 'node1',
  });

  constructor(t: ExecutionContext) {
    mock.timers.enable({ apis: ['setInterval'] });
    this.store.putNetwork(blue.network);
    this.ports.start();
    t.teardown(() => {
      this.ports.stop();
      mock.timers.reset();
    });
  }

  /** A socket of another process. */
  taken(hostPort: number): void {
    this.kernel.boundPorts.add(`tcp 0.0.0.0 ${hostPort}`);
  }

  /** Advances the clock by ten seconds, to the next retry. */
  retry(): void {
    mock.timers.tick(10_000);
  }
}

test.serial('a port that is removed while its owner is looked up leaves no problem', async (t) => {
  const world = new World(t);
  world.taken(8080);
  world.store.putRecordOf(everywhere(8080));
  const following = world.ports.follow('blue');
  await world.ports.left('blue');
  await following;
  t.deepEqual(world.problems.list(), []);
  t.deepEqual([...world.ports.list()], []);
});

test.serial(
  'ports that are removed while one of them is awaited are neither reserved nor forwarded',
  async (t) => {
    const world = new World(t);
    world.taken(8081);
    world.store.putRecordOf(everywhere(8080, 8081, 8082));
    const following = world.ports.follow('blue');
    await world.ports.left('blue');
    await following;
    t.deepEqual([...world.kernel.boundPorts], ['tcp 0.0.0.0 8081']);
    t.is(world.led.size, 0);
    t.deepEqual(world.problems.list(), []);
  },
);

test.serial('ports that are removed during a retry are neither reserved nor forwarded', async (t) => {
  const world = new World(t);
  for (const port of [8080, 8081]) world.taken(port);
  world.store.putRecordOf(everywhere(8080, 8081));
  await world.ports.follow('blue');
  t.is(world.problems.list().length, 2);
  world.kernel.boundPorts.delete('tcp 0.0.0.0 8081');
  world.retry();
  await world.ports.left('blue');
  // Meanwhile the owner of the first is looked up in /proc.
  await new Promise((resolve) => setTimeout(resolve, 300));
  t.deepEqual([...world.kernel.boundPorts], ['tcp 0.0.0.0 8080']);
  t.is(world.led.size, 0);
  t.deepEqual(world.problems.list(), []);
});

test.serial('a port that is removed while the firewall opens it is closed there', async (t) => {
  const world = new World(t);
  world.store.putRecordOf(everywhere(8080));
  const following = world.ports.follow('blue');
  await world.ports.left('blue');
  await following;
  t.deepEqual([...world.kernel.boundPorts], []);
  t.is(world.led.size, 0);
});

test.serial('a port that the firewall rejected is retried, and its problem ends', async (t) => {
  const world = new World(t);
  world.firewall = () => Promise.reject(unavailable('the firewall is busy'));
  world.store.putRecordOf(everywhere(8080));
  await world.ports.follow('blue');
  t.like(world.problems.list(), [{ why: 'the firewall is busy' }]);
  world.retry();
  await new Promise((resolve) => setTimeout(resolve, 300));
  t.like(world.problems.list(), [{ why: 'the firewall is busy' }], 'no other process has the port');
  world.firewall = () => Promise.resolve();
  world.retry();
  await until('the problem ends', () => world.problems.list().length === 0);
  t.is(world.led.size, 1);
  t.deepEqual(
    [...world.ports.list()].map(({ problem }) => problem),
    [undefined],
  );
});

test.serial('the ports of a node are open until it is gone, and again when it is back', async (t) => {
  const world = new World(t);
  const { store, ports, led, kernel } = world;
  let handled = Promise.resolve();
  t.teardown(
    store.subscribe((changes) => {
      handled = handled.then(() => ports.handle(changes));
    }),
  );
  store.putNode(at('node1', '192.0.2.1'));
  store.putNode(at('node2', '192.0.2.2'), { alive: false });
  store.putRecordOf(everywhere(8080));
  await handled;
  t.is(led.size, 1, 'it is down: its containers may run on');
  store.putNode(at('web7', '192.0.2.2'));
  await handled;
  t.is(led.size, 0, 'its address is another’s');
  t.deepEqual([...kernel.boundPorts], []);
  const request = { hostIp: '0.0.0.0', hostPorts: { first: 8080, last: 8080 }, port: 80 };
  const mine = { id: 'b'.repeat(32), name: 'mine', network: 'blue', node: 'node1', manager: 'weft' } as const;
  const made = await ports.reserve(mine, [{ ...request, protocol: 'tcp' }], true, [4]);
  t.is(made.length, 1, 'its port is free');
  await ports.close(mine.id);
  store.setAlive('node2', 'node2');
  await handled;
  t.is(led.size, 1);
});
