// `weft agent --cleanup` deletes this node's records in etcd, and no other's.
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import test, { type ExecutionContext } from 'ava';

import { cleanup } from '../../agent/cleanup.js';
import { State } from '../../agent/state/state.js';
import { IpAddress, IpNetwork } from '../../core/address.js';
import { networkOf } from '../../core/drivers/index.js';
import { permissionDenied } from '../../core/errors.js';
import type { Logger } from '../../daemon/log.js';
import { endpoint, lease, node } from '../controller/records.js';
import { leaseOf } from '../core/records.js';
import { FakeCloud } from '../fakes/cloud.js';
import { FakeKernel } from '../fakes/kernel.js';
import { FakeStore } from '../fakes/store.js';

function setUp(t: ExecutionContext) {
  const root = mkdtempSync(join(tmpdir(), 'weft-cleanup-'));
  t.teardown(() => rmSync(root, { recursive: true, force: true }));
  const stateDir = join(root, 'state');
  const warnings: object[] = [];
  const log: Logger = {
    error: () => undefined,
    warn: (_message, fields) => void warnings.push(fields ?? {}),
    info: () => undefined,
    debug: () => undefined,
  };
  const store = new FakeStore();
  const kernel = new FakeKernel();
  const cloud = new FakeCloud();
  const run = () =>
    cleanup({
      ...{ kernel, store, log, stateDir, node: 'web', runDir: join(root, 'run') },
      ...{ clouds: { get: () => Promise.resolve(cloud) }, signal: new AbortController().signal },
    });
  /** The records that the agent leaves in etcd. */
  const inCluster = (instance: string, options?: { alive: boolean }) => {
    store.putNode(node('web', '192.0.2.1', { instance }), options);
    lease(store, 'blue', '10.100.5.0/24', 'web', '192.0.2.1');
    store.putRecordOf(endpoint('aa', 'blue', 'web'));
  };
  return { stateDir, store, warnings, run, inCluster, cloud };
}

for (const alive of [true, false]) {
  test(`its own node is removed${alive ? ', even while its life lease has not expired yet' : ''}`, async (t) => {
    const { stateDir, store, warnings, run, inCluster } = setUp(t);
    const { instance } = new State(stateDir).load();
    inCluster(instance, { alive });
    await run();
    t.deepEqual([store.view.nodes.size, store.view.alive.size], [0, 0]);
    t.deepEqual(
      [store.view.leases.get('blue')?.size ?? 0, store.view.endpoints.get('blue')?.size ?? 0],
      [0, 0],
    );
    t.deepEqual(warnings, []);
  });

  test(`another host's node of that name stays, ${alive ? 'up' : 'down'}`, async (t) => {
    const { stateDir, store, warnings, run, inCluster } = setUp(t);
    new State(stateDir).load();
    inCluster('another', { alive });
    await run();
    t.is(store.view.nodes.get('web')?.instance, 'another');
    t.deepEqual([store.view.leases.get('blue')?.size, store.view.endpoints.get('blue')?.size], [1, 1]);
    t.is(store.view.removals.size, 0);
    t.like(warnings[0], { node: 'web', why: 'the node of that name is another host' });
  });
}

test('nothing is left in the state directory', async (t) => {
  const { stateDir, run } = setUp(t);
  const state = new State(stateDir);
  state.load();
  state.saveUnderlay({});
  state.saveFormerSubnet(IpNetwork.parse('10.100.0.0/16'), IpNetwork.parse('10.100.5.0/24'));
  await run();
  t.deepEqual(readdirSync(stateDir), []);
});

/** The state directory of a node in a network that a cloud routes, with an address of another subnet. */
function inCloud(stateDir: string, cloud: FakeCloud): void {
  const subnet = IpNetwork.parse('10.100.0.0/16');
  const network = networkOf({ name: 'sky', backend: 'aws-vpc', subnet });
  const state = new State(stateDir);
  state.load();
  state.saveUnderlay({ ip: IpAddress.parse('192.0.2.1') });
  state.saveNetwork({ network, lease: leaseOf(network, 1), granted: [] });
  for (const [to, hop] of [
    ['10.100.1.0/24', 'eni-1'],
    ['10.100.2.9/32', 'eni-1'],
    ['10.100.2.0/24', 'eni-2'],
  ] as const)
    cloud.put('rtb-1', IpNetwork.parse(to), hop);
}

test('the routes of a cloud to this node go, and those to others stay', async (t) => {
  const { stateDir, warnings, run, cloud } = setUp(t);
  inCloud(stateDir, cloud);
  await run();
  t.deepEqual(cloud.shown(), ['rtb-1 10.100.2.0/24 eni-2']);
  t.deepEqual(
    warnings.filter((one) => 'fix' in one),
    [],
  );
});

test('a cloud that refuses is a warning, and everything else is done', async (t) => {
  const { stateDir, warnings, run, cloud } = setUp(t);
  inCloud(stateDir, cloud);
  cloud.failure = permissionDenied('AWS refuses ec2:DeleteRoute', 'Allow ec2:DeleteRoute.');
  await run();
  t.deepEqual(readdirSync(stateDir), []);
  t.like(
    warnings.find((one) => 'fix' in one),
    { why: 'AWS refuses ec2:DeleteRoute', fix: 'Allow ec2:DeleteRoute.' },
  );
});

test('a state directory without an instance id removes no node', async (t) => {
  const { store, warnings, run, inCluster } = setUp(t);
  inCluster('another');
  await run();
  t.true(store.view.alive.has('web'));
  t.like(warnings[0], { node: 'web', next: 'If it is down for good: weft node rm web.' });
});
