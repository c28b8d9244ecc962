// A user with a password: tokens that end, wrong passwords, and what the user may not do.
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import test, { type ExecutionContext } from 'ava';
import { Etcd3 } from 'etcd3';

import { WeftError } from '../../core/errors.js';
import { readEtcdAccess } from '../../daemon/etcd-access.js';
import { openStore } from '../../store/etcd-store.js';
import type { Store } from '../../store/store.js';
import { startEtcd, temporaryFolder, type TestEtcd } from './etcd.js';
import { eventually, recordingLog, spec } from './helpers.js';

/** Seconds: the least that etcd allows. */
const TOKEN_TTL = 1;
const PREFIX = '/weft';
const folder = temporaryFolder('password');

let etcd: TestEtcd;
let root: Etcd3;
test.before(async () => {
  etcd = await startEtcd({ flags: ['--auth-token-ttl', String(TOKEN_TTL), '--bcrypt-cost', '4'] });
  const { auth } = etcd.raw;
  for (const name of ['root', 'weft', 'reader', 'changed']) {
    await auth.userAdd({ name, password: `${name}-password` });
    await auth.roleAdd({ name });
    await auth.userGrantRole({ user: name, role: name });
  }
  for (const [role, permType] of [
    ['weft', 'Readwrite'],
    ['changed', 'Readwrite'],
    ['reader', 'Read'],
  ] as const) {
    const range = { key: Buffer.from(`${PREFIX}/`), range_end: Buffer.from(`${PREFIX}0`) };
    await auth.roleGrantPermission({ name: role, perm: { permType, ...range } });
  }
  await auth.authEnable();
  root = new Etcd3({ hosts: etcd.url, auth: { username: 'root', password: 'root-password' } });
});
test.after.always(async () => {
  root?.close();
  await etcd?.stop();
});

/** A store as a daemon opens it, with the settings that it was given. */
function store(
  t: ExecutionContext,
  name?: string,
  password = `${name}-password`,
  at: Pick<TestEtcd, 'url'> = etcd,
): Store {
  const etcdPasswordFile = path.join(folder, `${name}-${t.title.replaceAll(/\W+/g, '-')}`);
  writeFileSync(etcdPasswordFile, `${password}\n`);
  const none = { etcdCa: undefined, etcdCert: undefined, etcdKey: undefined };
  const access = readEtcdAccess({ ...none, etcdUsername: name, etcdPasswordFile });
  const opened = openStore({ endpoints: [at.url], prefix: PREFIX, log: recordingLog(), ...access });
  t.teardown(() => opened.close());
  return opened;
}

/** The token has ended: only time ends it. */
const ended = (): Promise<void> => sleep(TOKEN_TTL * 2000);

const known = (mine: Store, name: string): Promise<unknown> =>
  eventually(() => mine.view.networks.has(name), name, 5000);

/** A network that another program has written. */
const put = async (name: string, subnet: string): Promise<unknown> =>
  await root
    .put(`${PREFIX}/networks/${name}/config`)
    .value(
      JSON.stringify({ Network: subnet, Backend: { Type: 'vxlan', VNI: Number(subnet.split('.')[1]) } }),
    );

test.serial('a watch, leases and writes outlive the token many times, and a restart of etcd', async (t) => {
  const mine = store(t, 'weft');
  await mine.synced(AbortSignal.timeout(5000));
  await mine.createNetwork(spec('blue', '10.100.0.0/16'));
  const lost: string[] = [];
  mine.onState(({ connected, error }) => void (connected || lost.push(error ?? '')));
  const presence = mine.announce(
    () => ({ name: 'n1', instance: 'i', publicIp: '192.0.2.1', version: '', startedAt: '' }),
    { ttlSeconds: 3, onConflict: () => undefined },
  );
  await eventually(() => mine.view.alive.has('n1'), 'alive');
  let leaseWasLost = false;
  mine.subscribe((changes) => (leaseWasLost ||= changes.some(({ kind }) => kind === 'alive')));
  // The lease's own stream is no use of the token, so that it ends while the connection is busy.
  for (let life = 0; life < 3; life++) {
    await ended();
    await put(`life${life}`, `10.${110 + life}.0.0/16`);
    await known(mine, `life${life}`);
    await mine.createNetwork(spec(`made${life}`, `10.${120 + life}.0.0/16`));
  }
  t.false(leaseWasLost);
  t.deepEqual(lost, [], 'the connection was kept');

  await ended();
  mine.reconnect();
  await put('anew', '10.130.0.0/16');
  await known(mine, 'anew');

  await etcd.restart();
  await eventually(async () => await put('restarted', '10.131.0.0/16').then(() => true), 'etcd', 10_000);
  await known(mine, 'restarted');
  await mine.createNetwork(spec('last', '10.132.0.0/16'));
  await presence.stop();
});

for (const [what, user, why, next] of [
  ['no user', undefined, /wants a user, and none was given/, /--etcd-username and --etcd-password-file/],
  ['a wrong password', ['weft', 'wrong'], /no such user with this password/, /--etcd-password-file/],
  ['a user that is unknown', ['nobody', 'x'], /no such user with this password/, /--etcd-username/],
] as const) {
  test.serial(`with ${what} the connection is refused with the reason`, async (t) => {
    const mine = store(t, ...(user ?? []));
    await eventually(() => why.test(mine.state.error ?? ''), String(why), 5000);
    t.regex(mine.state.error ?? '', /^etcd at http:\S+ refused the call: /);
    t.false(mine.isSynced);
    const error = await t.throwsAsync(mine.createNetwork(spec('green', '10.140.0.0/16')), {
      instanceOf: WeftError,
      code: 'PERMISSION_DENIED',
      message: why,
    });
    t.regex(error?.next ?? '', next);
    t.notRegex(`${error?.message} ${error?.next} ${mine.state.error}`, /wrong/);
  });
}

test.serial('a user that may only read follows, and is told what its role lacks', async (t) => {
  const mine = store(t, 'reader');
  await mine.synced(AbortSignal.timeout(5000));
  await t.throwsAsync(mine.createNetwork(spec('green', '10.141.0.0/16')), {
    code: 'PERMISSION_DENIED',
    message: /refused the call: .*permission denied/,
  });
});

test.serial('a new password in the file counts from the next connection on', async (t) => {
  const mine = store(t, 'changed');
  await mine.synced(AbortSignal.timeout(5000));
  await root.auth.userChangePassword({ name: 'changed', password: 'new' });
  store(t, 'changed', 'new');
  mine.reconnect();
  await put('after', '10.142.0.0/16');
  await known(mine, 'after');
  // A list may come before the watch runs.
  await eventually(() => mine.state.connected, 'the watch runs');
  t.is(mine.state.error, undefined);
});

test.serial('a user changes nothing at an etcd without authentication, until it has some', async (t) => {
  const plain = await startEtcd();
  t.teardown(() => plain.stop());
  const mine = store(t, 'root', 'secret', plain);
  await mine.synced(AbortSignal.timeout(5000));
  await plain.raw.auth.userAdd({ name: 'root', password: 'secret' });
  await plain.raw.auth.roleAdd({ name: 'root' });
  await plain.raw.auth.userGrantRole({ user: 'root', role: 'root' });
  await plain.raw.auth.authEnable();
  await t.notThrowsAsync(mine.createNetwork(spec('blue', '10.143.0.0/16')));
});
