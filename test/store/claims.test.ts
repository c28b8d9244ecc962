// Address claims outside a node's own subnet.
//
// Requested, granted, refused, and raced for.
import { setTimeout as sleep } from 'node:timers/promises';

import test from 'ava';

import { IpAddress, IpNetwork } from '../../core/address.js';
import type { WeftError } from '../../core/errors.js';
import type { Claim } from '../../core/records.js';
import type { Store } from '../../store/store.js';
import { startEtcd, type TestEtcd } from './etcd.js';
import { closeStores, eventually, freshPrefix, request, spec, storeOn } from './helpers.js';

let etcd: TestEtcd;
test.before(async () => {
  etcd = await startEtcd();
});
test.after.always(async () => {
  await closeStores();
  await etcd?.stop();
});

/** Two stores: n1, which claims, and n2, which owns 10.100.2.0/24 and is alive. */
async function setUp() {
  const prefix = freshPrefix();
  const [asker, owner] = await Promise.all([storeOn(etcd, prefix), storeOn(etcd, prefix)]);
  const network = await asker.createNetwork(
    spec('blue', '10.100.0.0/16', { subnet6: IpNetwork.parse('fd42:100::/48') }),
  );
  for (const number of [1, 2]) {
    const previous = {
      subnet: IpNetwork.parse(`10.100.${number}.0/24`),
      subnet6: IpNetwork.parse(`fd42:100:0:${number}::/64`),
    };
    await asker.acquireLease(request(network, number, { previous }));
    await etcd.raw.put(`${prefix}/nodes/n${number}/alive`).value(`instance-${number}`);
  }
  const ask = async (ip: string, endpoint = 'e1', node = 'n1', store = asker, signal?: AbortSignal) =>
    await store.claimAddress({ network, ip: IpAddress.parse(ip), node, endpoint }, signal);
  const stored = async (ip: string) => {
    const { kvs } = await etcd.raw.kv.range({ key: Buffer.from(`${prefix}/networks/blue/claims/${ip}`) });
    return kvs[0] && { ...(JSON.parse(kvs[0].value.toString()) as Claim), lease: kvs[0].lease };
  };
  return { prefix, asker, owner, network, ask, stored };
}

/** The owner's agent: answers requested claims. */
function answering(store: Store, answer: (claim: Claim) => Parameters<Store['answerClaim']>[1]): Claim[] {
  const asked: Claim[] = [];
  store.subscribe((changes) => {
    for (const change of changes) {
      if (change.kind !== 'claim' || change.after?.state !== 'asked') continue;
      asked.push(change.after);
      void store.answerClaim(change.after, answer(change.after));
    }
  });
  return asked;
}

test('a granted claim stays, on no etcd lease', async (t) => {
  const { owner, ask, stored } = await setUp();
  const asked = answering(owner, () => ({ granted: true }));
  const since = performance.now();
  const claim = await ask('10.100.2.50');
  t.log(`${Math.round(performance.now() - since)} ms`);
  t.like(claim, { state: 'granted', node: 'n1', endpoint: 'e1' });
  t.like(await stored('10.100.2.50'), { state: 'granted', lease: '0' });
  t.is(asked.length, 1);
  t.like(await ask('fd42:100:0:2::50'), { state: 'granted' });
  t.like(await ask('10.100.2.50'), { state: 'granted' }, 'the same again');
  t.is(asked.length, 2);
  await t.throwsAsync(ask('10.100.2.50', 'e2'), {
    message: /10\.100\.2\.50 is claimed by endpoint e1 on node n1/,
  });
});

test('a refused claim returns the owner’s reason and leaves nothing', async (t) => {
  const { owner, ask, stored } = await setUp();
  answering(owner, () => ({ granted: false, why: 'container c7 has it' }));
  await t.throwsAsync(ask('10.100.2.50'), {
    message: /10\.100\.2\.50 was refused by node n2: container c7 has it/,
    code: 'FAILED_PRECONDITION',
  } as never);
  t.is(await stored('10.100.2.50'), undefined);
});

test('no answer within 3 s is a refusal and leaves nothing', async (t) => {
  const { ask, stored } = await setUp();
  const asking = ask('10.100.2.50');
  await eventually(async () => (await stored('10.100.2.50'))?.state === 'asked', 'it is asked');
  const since = performance.now();
  t.not((await stored('10.100.2.50'))?.lease, '0', 'a question goes with its asker');
  await t.throwsAsync(asking, { message: /node n2, which did not agree within 3 s/ });
  t.true(performance.now() - since < 4000);
  t.is(await stored('10.100.2.50'), undefined);
});

test('the caller can abort the wait', async (t) => {
  const { ask, stored } = await setUp();
  const stop = new AbortController();
  const waits = ask('10.100.2.51', 'e2').catch(() => 'waited');
  setTimeout(() => stop.abort(new Error('enough')), 200);
  const stops = t
    .throwsAsync(ask('10.100.2.50', 'e1', 'n1', undefined, stop.signal), { message: 'enough' })
    .then(() => 'stopped');
  t.is(await Promise.race([stops, waits]), 'stopped', 'it does not wait for an answer');
  t.is(await stored('10.100.2.50'), undefined);
  await waits;
});

test('in unleased space the claim alone counts', async (t) => {
  const { ask, stored, prefix } = await setUp();
  t.like(await ask('10.100.77.5'), { state: 'granted' });
  t.like(await stored('10.100.77.5'), { state: 'granted', lease: '0' });
  await t.throwsAsync(ask('10.100.77.5', 'e2', 'n2'), { code: 'ALREADY_EXISTS' } as never);
  t.truthy(prefix);
});

test('a subnet whose lease etcd lost is not free; the claim waits until etcd’s history is known', async (t) => {
  const { asker, network, stored } = await setUp();
  let retained: string | undefined =
    'is in 10.100.3.0/24, the subnet of node n3, whose lease is gone from etcd';
  const request = { network, ip: IpAddress.parse('10.100.3.5'), node: 'n1', endpoint: 'e1' };
  const states: boolean[] = [];
  const ask = async () =>
    await asker.claimAddress({
      ...request,
      retainedFor: () => {
        states.push(asker.state.connected);
        return retained;
      },
    });
  asker.reconnect();
  const refused = async (): Promise<WeftError> =>
    await ask().then(
      () => Promise.reject(new Error('it was granted')),
      (error: WeftError) => error,
    );
  let error = await refused();
  while (error.code === 'UNAVAILABLE') error = await sleep(0).then(refused);
  t.is(error.code, 'FAILED_PRECONDITION');
  t.regex(error.message, /10\.100\.3\.5 is in 10\.100\.3\.0\/24, the subnet of node n3/);
  t.deepEqual(states, [true]);
  t.is(await stored('10.100.3.5'), undefined);
  retained = undefined;
  t.like(await ask(), { state: 'granted' });
});

test('an impossible address is refused by name', async (t) => {
  const { ask, prefix, network } = await setUp();
  await etcd.raw
    .put(`${prefix}/networks/blue/subnets/10.100.3.0-24`)
    .value('{"PublicIP":"192.0.2.33","BackendType":"vxlan"}');
  await etcd.raw.put(`${prefix}/networks/blue/subnets/10.100.4.0-24`).value('{}');
  await etcd.raw
    .put(`${prefix}/networks/blue/subnets/10.100.5.0-24`)
    .value('{"PublicIP":"192.0.2.5","BackendType":"vxlan","Weft":{"Node":"dead"}}');
  const cases: [string, string, RegExp][] = [
    ['10.100.2.0', 'FAILED_PRECONDITION', /base address of 10\.100\.2\.0\/24/],
    ['10.100.2.1', 'FAILED_PRECONDITION', /gateway of 10\.100\.2\.0\/24/],
    ['10.100.2.255', 'FAILED_PRECONDITION', /broadcast address of 10\.100\.2\.0\/24/],
    ['10.100.66.1', 'FAILED_PRECONDITION', /gateway of 10\.100\.66\.0\/24/],
    ['10.100.3.9', 'FAILED_PRECONDITION', /10\.100\.3\.0\/24, the subnet of the flanneld at 192\.0\.2\.33/],
    ['10.100.4.9', 'FAILED_PRECONDITION', /the subnet of a reservation/],
    ['10.100.5.9', 'FAILED_PRECONDITION', /the subnet of node dead, which is down/],
    ['10.100.1.9', 'FAILED_PRECONDITION', /this node's own subnet/],
    ['10.9.9.9', 'INVALID_ARGUMENT', /10\.9\.9\.9 is not an address of network blue/],
    ['fd00::9', 'INVALID_ARGUMENT', /fd00::9 is not an address of network blue/],
  ];
  for (const [ip, code, why] of cases) {
    const error = await t.throwsAsync(ask(ip));
    t.like(error, { code }, ip);
    t.regex(error?.message ?? '', why);
  }
  t.is(network.name, 'blue');
});

test('of ten claimants one gets the address, in leased space and in free', async (t) => {
  const { asker, owner, ask, stored } = await setUp();
  answering(owner, () => ({ granted: true }));
  for (const ip of ['10.100.2.60', '10.100.80.60']) {
    const results = await Promise.allSettled(
      Array.from({ length: 10 }, async (_, i) => await ask(ip, `e${i}`, 'n1', i % 2 === 0 ? asker : owner)),
    );
    const won = results.filter((result) => result.status === 'fulfilled');
    t.is(won.length, 1, ip);
    t.is((await stored(ip))?.endpoint, won[0]?.value.endpoint);
    for (const result of results)
      if (result.status === 'rejected') t.like(result.reason, { code: 'ALREADY_EXISTS' });
  }
});

test('free space that is leased concurrently is either claimed first or requested from its owner', async (t) => {
  const { owner, network, ask, prefix } = await setUp();
  const asked = answering(owner, () => ({ granted: true }));
  let first = 0;
  for (let i = 10; i < 40; i++) {
    await etcd.raw.put(`${prefix}/nodes/n${i}/alive`).value(`instance-${i}`);
    const previous = { subnet: IpNetwork.parse(`10.100.${i}.0/24`) };
    const [claim, lease] = await Promise.all([
      sleep(Math.random() * 10).then(async () => await ask(`10.100.${i}.9`, `e${i}`)),
      owner.acquireLease(request(network, i, { previous })),
    ]);
    t.is(claim.state, 'granted');
    t.is(lease.subnet.toString(), `10.100.${i}.0/24`);
    if (!asked.some((one) => one.endpoint === `e${i}`)) first++;
  }
  t.log(`${first} of 30 were first, ${30 - first} requested`);
});

test('an answer to a deleted or changed claim does nothing', async (t) => {
  const { owner, ask, stored } = await setUp();
  const claim: Claim = {
    network: 'blue',
    ip: IpAddress.parse('10.100.2.70'),
    node: 'n1',
    endpoint: 'e1',
    state: 'asked',
  };
  t.false(await owner.answerClaim(claim, { granted: true }));
  t.is(await stored('10.100.2.70'), undefined);
  answering(owner, () => ({ granted: true }));
  await ask('10.100.2.70');
  t.true(await owner.answerClaim(claim, { granted: true }), 'granted already');
  t.false(await owner.answerClaim(claim, { granted: false, why: 'late' }));
  t.false(await owner.answerClaim({ ...claim, endpoint: 'e2' }, { granted: true }));
  t.is((await stored('10.100.2.70'))?.state, 'granted');
});

test('a claim is released by its endpoint only, and written back after a loss', async (t) => {
  const { asker, ask, stored, prefix } = await setUp();
  const claim = await ask('10.100.90.5');
  await asker.deleteClaim('blue', '10.100.90.5', 'e2');
  t.truthy(await stored('10.100.90.5'));
  t.false(await asker.restoreClaim(claim));
  await etcd.raw.delete().key(`${prefix}/networks/blue/claims/10.100.90.5`);
  t.true(await asker.restoreClaim(claim));
  await t.throwsAsync(asker.restoreClaim({ ...claim, node: 'n3', endpoint: 'e3' }), {
    message: /10\.100\.90\.5 is claimed by endpoint e1 on node n1/,
    code: 'ALREADY_EXISTS',
  } as never);
  t.like(await stored('10.100.90.5'), { state: 'granted', endpoint: 'e1', lease: '0' });
  // Who has overwritten it without a release loses it; somebody else does not.
  const other = { ...claim, node: 'n3', endpoint: 'e3' };
  await t.throwsAsync(asker.restoreClaim(other, { node: 'n2', endpoint: 'e1' }), {
    code: 'ALREADY_EXISTS',
  } as never);
  t.true(await asker.restoreClaim(other, { node: 'n1', endpoint: 'e1' }));
  t.like(await stored('10.100.90.5'), { state: 'granted', endpoint: 'e3', lease: '0' });
  t.true(await asker.restoreClaim(claim, { node: 'n3', endpoint: 'e3' }));
  await asker.deleteClaim('blue', '10.100.90.5', 'e1');
  t.is(await stored('10.100.90.5'), undefined);
});
