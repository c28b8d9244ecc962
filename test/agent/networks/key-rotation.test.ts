// Key files of encrypted networks, and the rotation of a key between two nodes on fakes.
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import test, { type ExecutionContext } from 'ava';

import { KeyRotation } from '../../../agent/networks/key-rotation.js';
import { WireguardKeys } from '../../../agent/state/index.js';
import { handshakeAges } from '../../../agent/underlay/handshakes.js';
import { unavailable } from '../../../core/errors.js';
import { silentLogger } from '../../../daemon/log.js';
import { keyOf, leaseOf, membershipOf, wireguard } from '../../core/records.js';
import { pairOn } from './pair.js';
import { until } from '../../lab/wait.js';

function folder(t: ExecutionContext): string {
  const path = mkdtempSync(join(tmpdir(), 'weft-keys-'));
  t.teardown(() => rmSync(path, { recursive: true }));
  return path;
}

test('a key is made with its first use, for root alone, and found again', (t) => {
  const path = folder(t);
  const keys = new WireguardKeys(path, { flannelKey: join(path, 'none') });
  t.false(existsSync(join(path, 'wireguard')));
  const key = keys.public.current();
  t.regex(key, /^[A-Za-z0-9+/]{43}=$/);
  const file = join(path, 'wireguard', 'key');
  t.is(statSync(file).mode & 0o777, 0o600);
  t.is(statSync(join(path, 'wireguard')).mode & 0o777, 0o700);
  t.is(readFileSync(file, 'utf8').trim().length, 44);
  const again = new WireguardKeys(path);
  t.is(again.public.current(), key);
  t.is(again.privateKey(key)?.toString('base64'), readFileSync(file, 'utf8').trim());
  t.is(again.privateKey(keyOf('X')), undefined);
});

test('flannel’s key is taken over, once', (t) => {
  const path = folder(t);
  const flannelKey = join(path, 'wgkey');
  const other = new WireguardKeys(join(path, 'other'), { flannelKey: join(path, 'none') });
  const key = other.public.current();
  writeFileSync(flannelKey, other.privateKey(key)?.toString('base64') ?? '');
  t.is(new WireguardKeys(path, { flannelKey }).public.current(), key);
  rmSync(flannelKey);
  t.is(new WireguardKeys(path, { flannelKey }).public.current(), key, 'it is in the state directory');
});

test('a file that is no key is an error without its content; a dry run writes none', (t) => {
  const path = folder(t);
  mkdirSync(join(path, 'wireguard'));
  writeFileSync(join(path, 'wireguard', 'key'), 'half-a-secret');
  const error = t.throws(() => new WireguardKeys(path).public.current());
  t.regex(error.message, /has no WireGuard key/);
  t.false(error.message.includes('half'));
  const dry = new WireguardKeys(join(path, 'dry'), { readOnly: true, flannelKey: join(path, 'none') });
  t.is(dry.public.current(), dry.public.current());
  t.false(existsSync(join(path, 'dry')));
});

test('a rotation keeps every key that a device may have, whenever it is interrupted', (t) => {
  const path = folder(t);
  const keys = (): WireguardKeys => new WireguardKeys(path, { flannelKey: join(path, 'none') });
  const first = keys().public.current();
  keys().prepare();
  const next = keys().public.next() ?? '';
  keys().prepare();
  t.is(keys().public.next(), next, 'the same rotation goes on');
  t.is(keys().public.current(), first);
  t.not(keys().privateKey(next), undefined);
  keys().promote();
  t.is(keys().public.current(), next);
  t.is(keys().public.next(), undefined);
  t.not(keys().privateKey(first), undefined);
  keys().promote();
  t.is(keys().public.current(), next, 'there is no other');
  keys().forgetPrevious();
  t.is(keys().privateKey(first), undefined);
});

const net = wireguard();
const pair = (t: ExecutionContext) => pairOn(t, net);

test('a rotation: the peer knows the key before it is used, its prefix never is without a key, the old peer goes', async (t) => {
  const { store, log, one, two, has } = await pair(t);
  const before = one.state.keys.public.current();
  let greeted = 0;
  const rotation = new KeyRotation({
    ...{ ...one, store, log: silentLogger, preparedMs: 50 },
    greet: () => void greeted++,
  });
  log.length = 0;
  const { signal } = new AbortController();
  const [{ publicKey: after, networks }, again] = await Promise.all([
    rotation.rotate(signal),
    rotation.rotate(signal),
  ]);
  t.not(after, before);
  t.is(again.publicKey, after, 'two at once are one');
  t.deepEqual(networks, ['wg']);
  t.is(greeted, 1);
  await until('the old peer is gone', () => !has(two, before));
  t.true(two.kernel.has(`wg wfwg-wg peer ${after} allowed-ips ${one.subnet}`));
  t.true(one.kernel.has(`wg wfwg-wg listen-port 51820 key of ${after}`));
  t.is(log[0], `node2 create peer wfwg-wg ${after}`, 'before anything uses it');
  t.deepEqual(log.filter((line) => line.startsWith('node2')).slice(1), [
    `node2 change prefix wfwg-wg ${one.subnet}`,
    `node2 delete peer wfwg-wg ${before}`,
  ]);
  t.deepEqual(
    log.filter((line) => line.startsWith('node1')),
    ['node1 change key wfwg-wg'],
  );
  t.is(one.state.keys.privateKey(before), undefined, 'it is on no disk');
});

test('a rotation while etcd does not answer is refused, and changes nothing', async (t) => {
  const { store, one } = await pair(t);
  const before = one.state.keys.public.current();
  store.acquireLease = () => Promise.reject(unavailable('etcd does not answer'));
  const rotation = new KeyRotation({
    ...one,
    store,
    log: silentLogger,
    greet: () => undefined,
    preparedMs: 1,
  });
  await t.throwsAsync(rotation.rotate(new AbortController().signal), { message: /could not be published/ });
  t.is(one.state.keys.public.current(), before);
  t.true(one.kernel.has(`wg wfwg-wg listen-port 51820 key of ${before}`));
});

test('the age of a handshake is that of the youngest network with the peer', (t) => {
  const other = wireguard({ name: 'other', port: 51830 });
  const kernel = { handshakes: () => new Map([[keyOf('B'), 40_000]]) };
  const leases = (name: string) => [leaseOf(name === 'wg' ? net : other, 2), leaseOf(net, 3)];
  const ages = handshakeAges([membershipOf(net), membershipOf(other)], leases, kernel, 100_000);
  t.deepEqual([...ages], [['192.0.2.2', 60]]);
});
