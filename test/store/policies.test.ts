// Policies in etcd, and isolation in the config of a network.
import test from 'ava';

import { parsePolicy } from '../../core/policy/index.js';
import type { Change } from '../../store/store.js';
import { startEtcd, type TestEtcd } from './etcd.js';
import { closeStores, eventually, freshPrefix, spec, storeOn } from './helpers.js';

let etcd: TestEtcd;
test.before(async () => {
  etcd = await startEtcd();
});
test.after.always(async () => {
  await closeStores();
  await etcd?.stop();
});

const web = (ports: string[] = ['5432']) =>
  parsePolicy(
    { name: 'web', from: ['role=web'], to: ['role=db,network=blue'], ports },
    '2026-01-01T00:00:00Z',
  );

test('a policy is written, seen by others, and removed', async (t) => {
  const prefix = freshPrefix();
  const [one, other] = [await storeOn(etcd, prefix), await storeOn(etcd, prefix)];
  const changes: Change[] = [];
  other.subscribe((all) => changes.push(...all));
  await one.createPolicy(web());
  t.deepEqual(one.view.policies.get('web'), web());
  await eventually(() => other.view.policies.has('web'), 'the other store has it');
  t.deepEqual(other.view.policies.get('web'), web());
  t.deepEqual(JSON.parse((await etcd.raw.get(`${prefix}/policies/web`).string()) ?? ''), {
    ...{ from: ['role=web'], to: ['network=blue,role=db'], ports: ['tcp/5432'] },
    createdAt: '2026-01-01T00:00:00Z',
  });
  await one.removePolicy('web');
  t.false(one.view.policies.has('web'));
  await eventually(
    () => changes.some((change) => change.kind === 'policy' && change.after === undefined),
    'it is gone',
  );
  await t.throwsAsync(one.removePolicy('web'), { message: /no such policy/ });
});

test('a policy that is written again is the same, or refused', async (t) => {
  const store = await storeOn(etcd, freshPrefix());
  await store.createPolicy(web());
  t.deepEqual(await store.createPolicy({ ...web(['tcp/5432']), createdAt: 'later' }), web());
  await t.throwsAsync(store.createPolicy(web(['80'])), { message: /allows something else/ });
});

test('a policy that cannot be read is reported, and the last readable one stays', async (t) => {
  const prefix = freshPrefix();
  const store = await storeOn(etcd, prefix);
  await store.createPolicy(web());
  const key = `${prefix}/policies/web`;
  await etcd.raw.put(key).value('{"from":["role"],"to":["any"]}');
  await eventually(() => store.view.bad.has(key), 'it is bad');
  t.regex(store.view.bad.get(key)?.why ?? '', /no term/);
  t.deepEqual(store.view.policies.get('web'), web());
});

test('a network is isolated and opened by its config', async (t) => {
  const prefix = freshPrefix();
  const store = await storeOn(etcd, prefix);
  await store.createNetwork(spec('blue', '10.100.0.0/16'));
  const config = async (): Promise<unknown> =>
    JSON.parse((await etcd.raw.get(`${prefix}/networks/blue/config`).string()) ?? '');
  t.is((await store.updateNetwork('blue', { isolated: true })).isolated, true);
  t.like(await config(), { Weft: { Isolated: true } });
  t.is((await store.updateNetwork('blue', { isolated: false })).isolated, undefined);
  t.deepEqual(await config(), {
    ...((await config()) as object),
    Weft: { Internal: false, Masquerade: true },
  });
  const made = await store.createNetwork({
    ...spec('lan', '10.101.0.0/24', { driver: 'bridge' }),
    isolated: true,
  });
  t.is(made.isolated, true);
});
