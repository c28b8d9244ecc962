// Custom DNS names in etcd.
//
// Changed by several writers at once, deleted with their network, and parsed as strictly as every value that others may write.
import test from 'ava';
import fc from 'fast-check';

import { IpAddress } from '../../core/address.js';
import { Keys } from '../../store/keys.js';
import { decodeOwnName, encodeOwnName } from '../../store/record-codec.js';
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

const ips = (...texts: string[]): IpAddress[] => texts.map((text) => IpAddress.parse(text));

test('addresses are added to a name and deleted one by one', async (t) => {
  const prefix = freshPrefix();
  const [a, b] = [await storeOn(etcd, prefix), await storeOn(etcd, prefix)];
  await a.createNetwork(spec('blue', '10.100.0.0/16'));
  const name = { network: 'blue', name: 'printer' };
  const shown = (): string => a.view.names.get('blue')?.get('printer')?.ips.join(' ') ?? 'none';
  await a.addName({ ...name, ips: ips('198.51.100.1', '2001:db8::1') });
  t.is(shown(), '198.51.100.1 2001:db8::1');
  const text = await etcd.raw.get(`${prefix}/networks/blue/dns/printer`).string();
  t.like(JSON.parse(text ?? ''), { ips: ['198.51.100.1', '2001:db8::1'] });
  // Two writers that add at once both succeed.
  await Promise.all([
    a.addName({ ...name, ips: ips('198.51.100.2') }),
    b.addName({ ...name, ips: ips('198.51.100.3', '198.51.100.1') }),
  ]);
  await eventually(() => a.view.names.get('blue')?.get('printer')?.ips.length === 4, 'all four');
  await a.removeName({ ...name, ips: ips('198.51.100.1', '198.51.100.2', '198.51.100.3') });
  t.is(shown(), '2001:db8::1');
  t.like(await t.throwsAsync(a.removeName({ ...name, ips: ips('192.0.2.9') })), { code: 'NOT_FOUND' });
  await a.removeName({ ...name, ips: ips('2001:db8::1') });
  t.is(shown(), 'none');
  for (const call of [
    () => a.removeName({ ...name, ips: [] }),
    () => a.addName({ network: 'nope', name: 'x', ips: ips('192.0.2.1') }),
  ]) {
    t.like(await t.throwsAsync(call), { code: 'NOT_FOUND' });
  }
});

test('an unreadable value is reported, overwritten, and deleted with the network', async (t) => {
  const prefix = freshPrefix();
  const store = await storeOn(etcd, prefix);
  await store.createNetwork(spec('blue', '10.100.0.0/16'));
  const dns = `${prefix}/networks/blue/dns`;
  await etcd.raw.put(`${dns}/a`).value('{"ips":"192.0.2.1"}');
  await etcd.raw.put(`${dns}/b`).value('{"ips":["192.0.2.1"]}');
  await etcd.raw.put(`${dns}/a..b`).value('{"ips":["192.0.2.1"]}');
  await eventually(() => store.view.bad.size === 2 && store.view.names.get('blue')?.size === 1, 'all seen');
  t.regex(store.view.bad.get(`${dns}/a`)?.why ?? '', /ips.*expected a list of IP addresses/);
  await store.addName({ network: 'blue', name: 'a', ips: ips('192.0.2.2') });
  t.false(store.view.bad.has(`${dns}/a`));
  await store.removeNetwork('blue', { force: false });
  t.is(store.view.names.size, 0);
  t.deepEqual(await etcd.raw.getAll().prefix(`${prefix}/networks/blue/`).keys(), []);
});

test('every custom name reads back the same', (t) => {
  const keys = new Keys('/weft');
  const key = keys.parse(keys.ownName('blue', 'a_b.c'));
  if (key.kind !== 'ownName') return t.fail(key.kind);
  t.like(key, { network: 'blue', name: 'a_b.c' });
  const ip = fc.oneof(
    fc.bigInt({ min: 1n, max: 2n ** 32n - 1n }).map((value) => IpAddress.of(4, value)),
    fc.bigInt({ min: 1n, max: 2n ** 128n - 1n }).map((value) => IpAddress.of(6, value)),
  );
  fc.assert(
    fc.property(fc.array(ip, { minLength: 1, maxLength: 5 }), (all) => {
      const name = { network: 'blue', name: 'a_b.c', ips: all, createdAt: '2026-01-01T00:00:00.000Z' };
      const read = decodeOwnName(key, encodeOwnName(name));
      t.deepEqual(read.ips.map(String), all.map(String));
    }),
  );
  for (const bad of ['', '[]', '{}', '{"ips":[]}', '{"ips":["x"]}', '{"ips":[1]}']) {
    t.throws(() => decodeOwnName(key, bad), { name: 'UnreadableError' }, bad);
  }
});
