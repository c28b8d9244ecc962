// Adopting a Docker container once Docker has configured it.
//
// Not before Docker is done inside; and in the end also if something is missing.
import { mock } from 'node:test';

import test from 'ava';

import { PluginEndpoints } from '../../../agent/plugin-host/endpoints.js';
import { compileEndpoint, transitIfname } from '../../../core/compile.js';
import type { Endpoint } from '../../../core/records.js';
import { silentLogger } from '../../../daemon/log.js';
import type { HostEndpoints } from '../../../daemon/plugin-host.js';
import { FakeKernel, type Hands } from '../../fakes/kernel.js';
import { endpoint as sample, membership, network } from '../../kernel/samples.js';

const of = membership(network('blue', 4097, 100, true));
const PATH = '/var/run/docker/netns/1';
const ID = 'e000000000000001';

/** An endpoint whose link was moved inside and renamed, and nothing else yet. */
function joined(options: Partial<Endpoint>): {
  host: HostEndpoints;
  parts: PluginEndpoints;
  inside: Hands;
  now: () => Endpoint;
} {
  const kernel = new FakeKernel();
  let endpoint = sample(of, ID, 5, PATH, {
    sandbox: { path: PATH, cookie: '', bootId: '' },
    ifname: transitIfname(ID),
    manager: 'docker',
    createdAt: new Date().toISOString(),
    ...options,
  });
  const inside = kernel.addContainer(PATH);
  for (const object of wanted(endpoint))
    if (object.kind === 'link') inside.addLink(object.name, object, true);
  const parts = new PluginEndpoints({
    kernel,
    log: silentLogger,
    node: 'node1',
    memberships: { get: () => of },
    reconciler: { compare: () => Promise.resolve() },
    servesNames: true,
    attacher: {
      attach: () => Promise.reject(new Error('not attached here')),
      connect: () => Promise.resolve(),
    },
    endpointPorts: { publish: () => Promise.resolve([]), unpublish: () => Promise.resolve([]) },
    endpoints: {
      list: () => [endpoint],
      get: () => endpoint,
      findByKey: () => undefined,
      disconnect: () => Promise.resolve(),
      resolves: () => true,
      compile: (membership, one) => compileEndpoint(membership, one, true),
      describe: (_id, about) => {
        endpoint = { ...endpoint, ...(typeof about === 'function' ? about(endpoint) : about) };
        return Promise.resolve();
      },
    },
  });
  return { host: parts.of('docker'), parts, inside, now: () => endpoint };
}

/** What Docker configures inside, the same as weft would. */
const wanted = (endpoint: Endpoint): ReturnType<typeof compileEndpoint>['container'] =>
  compileEndpoint(
    of,
    { ...endpoint, sandbox: { path: PATH, cookie: '1', bootId: 'b' }, ifname: 'eth0' },
    true,
  ).container;

test('a container is adopted when Docker has configured everything, and not before', async (t) => {
  const { host, inside, now } = joined({ defaultRoute: true });
  const things = wanted(now()).filter((object) => object.kind !== 'link');
  t.true(things.length > 4);
  for (const thing of things) {
    await host.lookInside(ID);
    t.is(now().sandbox.cookie, '', `${thing.kind} is still missing`);
    inside.put(thing);
  }
  await host.lookInside(ID);
  t.is(now().ifname, 'eth0');
  t.not(now().sandbox.cookie, '');
});

test('the default route is expected as soon as it is known', async (t) => {
  const { host, inside, now } = joined({ defaultRoute: false });
  for (const thing of wanted(now())) if (thing.kind !== 'link') inside.put(thing);
  await host.describe(ID, { name: 'web', defaultRoute: true });
  t.like(now(), { name: 'web', defaultRoute: true, sandbox: { cookie: '' } });
  for (const thing of wanted(now())) if (thing.kind === 'route') inside.put(thing);
  await host.lookInside(ID);
  t.is(now().ifname, 'eth0');
});

test.serial(
  'a container is adopted a tenth of a second after Docker has configured it, for three seconds',
  async (t) => {
    const tick = async (ms: number): Promise<void> => {
      for (let passed = 0; passed < ms; passed += 50) {
        mock.timers.tick(50);
        for (let turn = 0; turn < 10; turn++) await new Promise(setImmediate);
      }
    };
    mock.timers.enable({ apis: ['setTimeout'] });
    try {
      for (const [after, isAdopted] of [
        [50, true],
        [1050, true],
        [2850, true],
        [3050, false],
      ] as const) {
        const { parts, inside, now } = joined({});
        parts.movedIn([transitIfname(ID)]);
        await tick(after);
        t.is(now().sandbox.cookie, '');
        for (const thing of wanted(now())) if (thing.kind !== 'link') inside.put(thing);
        await tick(100);
        t.is(now().ifname === 'eth0', isAdopted, `${after} ms`);
      }
    } finally {
      mock.timers.reset();
    }
  },
);

test('an object that is missing half a minute after Join is drift and is repaired', async (t) => {
  const { host, now } = joined({ createdAt: new Date(Date.now() - 31_000).toISOString() });
  await host.lookInside(ID);
  t.is(now().ifname, 'eth0');
});
