// Mutual TLS to etcd: with valid certificates, with wrong ones, and with none.
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import test from 'ava';
import { Etcd3 } from 'etcd3';

import { readEtcdAccess } from '../../daemon/etcd-access.js';
import { openStore } from '../../store/etcd-store.js';
import type { Store } from '../../store/store.js';
import { startEtcd, temporaryFolder, type TestEtcd } from './etcd.js';
import { eventually, recordingLog, spec } from './helpers.js';

const folder = temporaryFolder('tls');
const file = (name: string): string => path.join(folder, name);
const openssl = (...args: string[]): void => void execFileSync('openssl', args, { stdio: 'pipe' });

function makeCa(name: string): void {
  openssl(
    'req',
    '-x509',
    '-newkey',
    'ec',
    '-pkeyopt',
    'ec_paramgen_curve:prime256v1',
    '-nodes',
    '-days',
    '2',
    '-subj',
    `/CN=${name}`,
    '-keyout',
    file(`${name}.key`),
    '-out',
    file(`${name}.crt`),
  );
}

function makeCertificate(ca: string, name: string): void {
  openssl(
    'req',
    '-newkey',
    'ec',
    '-pkeyopt',
    'ec_paramgen_curve:prime256v1',
    '-nodes',
    '-subj',
    `/CN=${name}`,
    '-keyout',
    file(`${name}.key`),
    '-out',
    file(`${name}.csr`),
  );
  writeFileSync(file(`${name}.ext`), 'subjectAltName=IP:127.0.0.1\n');
  openssl(
    'x509',
    '-req',
    '-days',
    '2',
    '-in',
    file(`${name}.csr`),
    '-CA',
    file(`${ca}.crt`),
    '-CAkey',
    file(`${ca}.key`),
    '-CAcreateserial',
    '-extfile',
    file(`${name}.ext`),
    '-out',
    file(`${name}.crt`),
  );
}

let etcd: TestEtcd;
test.before(async () => {
  for (const ca of ['ca', 'stranger']) makeCa(ca);
  makeCertificate('ca', 'server');
  makeCertificate('ca', 'client');
  makeCertificate('stranger', 'intruder');
  etcd = await startEtcd({ tls: { ca: file('ca.crt'), cert: file('server.crt'), key: file('server.key') } });
});
test.after.always(async () => await etcd?.stop());

const store = (tls: { ca: string; cert?: string; key?: string }) =>
  openStore({
    endpoints: [etcd.url],
    prefix: '/weft',
    log: recordingLog(),
    tls: {
      ca: readFileSync(file(tls.ca)),
      ...(tls.cert !== undefined && { cert: readFileSync(file(tls.cert)) }),
      ...(tls.key !== undefined && { key: readFileSync(file(tls.key)) }),
    },
  });

test('a certificate of the CA works, watches and leases too', async (t) => {
  const mine = store({ ca: 'ca.crt', cert: 'client.crt', key: 'client.key' });
  await mine.synced(AbortSignal.timeout(5000));
  await mine.createNetwork(spec('blue', '10.100.0.0/16'));
  const announcement = mine.announce(
    () => ({ name: 'n1', instance: 'i', publicIp: '192.0.2.1', version: '', startedAt: '' }),
    { ttlSeconds: 3, onConflict: () => undefined },
  );
  await eventually(() => mine.view.alive.has('n1'), 'alive');
  await announcement.stop();
  await mine.close();
  t.pass();
});

test('a user with a password over TLS works past the end of its tokens, and a wrong password is refused', async (t) => {
  const TOKEN_TTL = 1;
  const tls = { ca: file('ca.crt'), cert: file('server.crt'), key: file('server.key') };
  const server = await startEtcd({
    tls,
    flags: ['--auth-token-ttl', String(TOKEN_TTL), '--bcrypt-cost', '4'],
  });
  t.teardown(() => server.stop());
  const credentials = {
    rootCertificate: readFileSync(file('ca.crt')),
    certChain: readFileSync(file('client.crt')),
    privateKey: readFileSync(file('client.key')),
  };
  const admin = new Etcd3({ hosts: server.url, credentials });
  t.teardown(() => admin.close());
  for (const name of ['root', 'weft']) {
    await admin.auth.userAdd({ name, password: `${name}-password` });
    await admin.auth.roleAdd({ name });
    await admin.auth.userGrantRole({ user: name, role: name });
  }
  const range = { key: Buffer.from('/weft/'), range_end: Buffer.from('/weft0') };
  await admin.auth.roleGrantPermission({ name: 'weft', perm: { permType: 'Readwrite', ...range } });
  await admin.auth.authEnable();

  const opened = (password: string): Store => {
    const path = file(password);
    writeFileSync(path, password);
    const access = readEtcdAccess({
      ...{ etcdCa: tls.ca, etcdCert: file('client.crt'), etcdKey: file('client.key') },
      ...{ etcdUsername: 'weft', etcdPasswordFile: path },
    });
    const mine = openStore({ endpoints: [server.url], prefix: '/weft', log: recordingLog(), ...access });
    t.teardown(() => mine.close());
    return mine;
  };
  const [mine, other] = [opened('weft-password'), opened('weft-password')];
  await Promise.all([mine, other].map((one) => one.synced(AbortSignal.timeout(5000))));
  for (let life = 0; life < 2; life++) {
    await sleep(TOKEN_TTL * 2000);
    await other.createNetwork(spec(`life${life}`, `10.${110 + life}.0.0/16`));
    await eventually(() => mine.view.networks.has(`life${life}`), 'the watch lives', 5000);
  }
  const wrong = opened('wrong');
  await eventually(() => /no such user with this password/.test(wrong.state.error ?? ''), 'refused', 5000);
  t.false(wrong.isSynced);
});

for (const [what, files, why] of [
  ['no certificate', { ca: 'ca.crt' }, /TLS failed: alert bad certificate$/],
  [
    'a certificate of another CA',
    { ca: 'ca.crt', cert: 'intruder.crt', key: 'intruder.key' },
    /TLS failed: alert bad certificate$/,
  ],
  [
    'another CA than the server’s',
    { ca: 'stranger.crt', cert: 'client.crt', key: 'client.key' },
    /unable to verify the first certificate$/,
  ],
] as const) {
  test(`with ${what} the connection is refused with the reason`, async (t) => {
    const mine = store(files);
    t.teardown(() => mine.close());
    // On a busy machine the first attempt may only time out.
    await eventually(() => why.test(mine.state.error ?? ''), String(why), 5000);
    t.regex(mine.state.error ?? '', /etcd at https:.* does not answer: /);
    t.false(mine.isSynced);
    await t.throwsAsync(mine.createNetwork(spec('blue', '10.100.0.0/16')), { message: /does not answer/ });
  });
}

test('TLS files for a plain URL, and an invalid URL, are refused by name', (t) => {
  const opening = (endpoint: string, tls?: { ca: string }) => () =>
    openStore({ endpoints: [endpoint], prefix: '/weft', log: recordingLog(), ...(tls && { tls }) });
  t.throws(opening('http://127.0.0.1:2379', { ca: 'x' }), {
    message: /TLS files were given, but "http:\/\/127\.0\.0\.1:2379"/,
  });
  for (const bad of ['ftp://127.0.0.1', 'http://', '', 'http://127.0.0.1:99999', 'http://127.0.0.1/path']) {
    t.throws(opening(bad), { message: /is not an endpoint/ }, bad);
  }
});
