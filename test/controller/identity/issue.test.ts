// Certificates for other programs: what a flanneld, etcdctl and a further controller may do with theirs, and nothing else.
import { get } from 'node:https';
import { join } from 'node:path';

import test from 'ava';

import { startSession } from '../../../agent/api/session.js';
import { shownAuthority } from '../../../daemon/authority-probe.js';
import { authorityHashesOf, authorityHashOf } from '../../../daemon/certificate.js';
import { call, channel } from '../../../daemon/grpc.js';
import { IdentityFolder } from '../../../daemon/identity-folder.js';
import { silentLogger as log } from '../../../daemon/log.js';
import type { Tls } from '../../../daemon/tls.js';
import { IdentityServiceClient } from '../../../proto/gen/weft/v1/identity.js';
import { NetworkServiceClient } from '../../../proto/gen/weft/v1/controller.js';
import { Status } from '../../../proto/gen/weft/v1/types.js';
import { freePort } from '../../lab/free-port.js';
import { until } from '../../lab/wait.js';
import { startEtcd } from '../../store/etcd.js';
import { failureOf } from '../harness.js';
import { startController } from '../processes.js';
import { etcdctl, SECURE, startSecure, WITHIN, type SecureController } from './secure.js';

async function issue(
  controller: SecureController,
  role: 'flannel' | 'admin' | 'controller',
  network = '',
): Promise<IdentityFolder> {
  const own = new IdentityFolder(join(controller.folder, `issued-${role}`), role);
  const client = controller.identity();
  const request = { role, network, publicKey: own.publicKey() };
  own.save(await call(client.issueCertificate.bind(client), request, WITHIN));
  return own;
}

/** The status of an answer; undefined where the handshake fails. */
function answerAt(url: string, folder: IdentityFolder): Promise<number | undefined> {
  return new Promise((resolve) => {
    get(url, { ...folder.read().tls, checkServerIdentity: () => undefined }, (response) => {
      response.resume();
      resolve(response.statusCode);
    }).on('error', () => resolve(undefined));
  });
}

const BLUE = '/weft/networks/blue';

test.serial('a flanneld has the subnets of its network, and reads no more than that network', async (t) => {
  const controller = await startSecure(t);
  const admin = await issue(controller, 'admin');
  const asRoot = (...args: string[]): string => etcdctl(controller, admin, ...args);
  const config = '{"Network":"10.100.0.0/16","Backend":{"Type":"vxlan","VNI":4097}}';
  for (const network of ['blue', 'bluer', 'red'])
    t.is(asRoot('put', `/weft/networks/${network}/config`, config), 'OK');
  const flanneld = await issue(controller, 'flannel', 'blue');
  const etcd = (...args: string[]): string => etcdctl(controller, flanneld, ...args);

  // As flanneld does: reads the config and the subnets, takes one under a lease, renews it, gives it back.
  t.is(etcd('get', `${BLUE}/config`, '--print-value-only'), config);
  const [, lease = ''] = /lease (\w+) granted/.exec(etcd('lease', 'grant', '60')) ?? [];
  const subnet = `${BLUE}/subnets/10.100.5.0-24`;
  t.is(etcd('put', subnet, '{"PublicIP":"192.0.2.5"}', `--lease=${lease}`), 'OK');
  t.regex(etcd('lease', 'keep-alive', '--once', lease), /keepalived/);
  t.regex(etcd('get', '--prefix', `${BLUE}/subnets`), /10\.100\.5\.0-24/);
  t.is(etcd('del', subnet), '1');

  for (const key of [
    `${BLUE}/config`,
    `${BLUE}/endpoints/aa`,
    `${BLUE}/claims/10.100.5.2`,
    `${BLUE}/subnetsx`,
    '/weft/networks/bluer/subnets/10.100.5.0-24',
    '/weft/networks/red/config',
    '/weft/nodes/h1',
    '/weft/tokens/x',
  ])
    t.regex(etcd('put', key, 'x'), /permission denied/, key);
  for (const key of [
    '/weft/networks/red/config',
    '/weft/nodes/h1',
    '/weft/tokens/x',
    '/weft/certificates/x',
    '/',
  ])
    t.regex(etcd('get', key), /permission denied/, key);
  t.regex(etcd('get', '--prefix', '/weft/'), /permission denied/);
  t.regex(etcd('user', 'add', 'x', '--no-password'), /permission denied/);
  t.regex(etcd('auth', 'disable'), /permission denied/);

  // At etcd's other address, which knows no users, only the controller itself is let in.
  const [, peer = ''] = /(https:\/\/127\.0\.0\.1:\d+)/.exec(asRoot('member', 'list')) ?? [];
  const own = new IdentityFolder(join(controller.stateDir, 'ca'), 'controller');
  t.is(await answerAt(`${peer}/members`, own), 200);
  t.is(await answerAt(`${peer}/members`, flanneld), undefined);

  // Over gRPC it is nobody.
  const { tls } = flanneld.read();
  const networks = new NetworkServiceClient(controller.address, ...channel(controller.address, tls));
  const identity = controller.identity(tls);
  t.teardown(() => networks.close());
  t.regex(await failureOf(call(networks.listNetworks.bind(networks), {}, WITHIN)), /^PERMISSION_DENIED/);
  const renewed = call(identity.renewCertificate.bind(identity), { publicKey: flanneld.publicKey() }, WITHIN);
  t.regex(await failureOf(renewed), /^PERMISSION_DENIED/);

  // etcdctl's may all of etcd, and manages the cluster as an administrator.
  t.is(asRoot('put', '/elsewhere', 'x'), 'OK');
  t.regex(asRoot('user', 'list'), /flannel:blue/);
  const manager = new NetworkServiceClient(
    controller.address,
    ...channel(controller.address, admin.read().tls),
  );
  t.teardown(() => manager.close());
  t.is((await call(manager.listNetworks.bind(manager), {}, WITHIN)).networks.length, 3);
});

test.serial('a further controller serves members of the cluster, and is no authority', async (t) => {
  const etcd = await startEtcd();
  t.teardown(() => etcd.stop());
  const first = await startSecure(t, ['--etcd', etcd.url]);
  const { ca, cert, key } = (await issue(first, 'controller')).paths;
  const address = `127.0.0.1:${await freePort()}`;
  const second = startController(
    [
      ...['--etcd', etcd.url, '--listen', address, '--http', `127.0.0.1:${await freePort()}`],
      ...['--state-dir', join(first.folder, 'second'), '--tls-ca', ca, '--tls-cert', cert, '--tls-key', key],
    ],
    SECURE,
  );
  t.teardown(() => second.stop());
  await until('it is ready', () => second.output.includes('the controller is ready'), {
    context: () => second.output,
  });
  const viewer = await first.member('viewer');
  for (const tls of [viewer.tls, first.admin]) {
    const networks = new NetworkServiceClient(address, ...channel(address, tls));
    t.teardown(() => networks.close());
    t.deepEqual((await call(networks.listNetworks.bind(networks), {}, WITHIN)).networks, []);
  }
  const nobody = new NetworkServiceClient(address, ...channel(address, { ca: viewer.tls.ca }));
  t.teardown(() => nobody.close());
  t.regex(await failureOf(call(nobody.listNetworks.bind(nobody), {}, WITHIN)), /^UNAVAILABLE/);
  // It shows the CA by which people and nodes know the cluster, and tells nodes of the next one.
  const { hash } = await call(first.identity().getAuthority.bind(first.identity()), {}, WITHIN);
  const shown = await shownAuthority(address);
  t.deepEqual(shown.kind === 'tls' && shown.authorities.map((pem) => authorityHashOf(pem)), [hash]);
  const told: string[] = [];
  const session = startSession({
    controllers: [address],
    tls: (await first.member('node', 'h1')).tls as Tls,
    hello: { node: 'h1', instance: 'i', version: '1' },
    status: () => Status.fromPartial({}),
    handle: () => Promise.reject(new Error('nothing was expected')),
    onAuthorities: (hashes) => void told.push(hashes.join()),
    log,
  });
  t.teardown(() => session.stop());
  await until('what it trusts now', () => told.at(-1) === hash);
  const admin = first.identity();
  const next = await call(admin.rotateAuthority.bind(admin), {}, WITHIN);
  await until('what it is to trust', () => {
    session.changed();
    return told.includes(`${next.hash},${hash}`);
  });

  const identity = new IdentityServiceClient(address, ...channel(address, first.admin));
  t.teardown(() => identity.close());
  const token = { role: 'node', ttlSeconds: 60, uses: undefined, node: undefined };
  t.regex(
    await failureOf(call(identity.createToken.bind(identity), token, WITHIN)),
    /^FAILED_PRECONDITION this controller is no certificate authority\nAsk the controller that is one/,
  );
});

test.serial(
  'a further controller renews its certificate at the authority, and goes on after the first ends',
  async (t) => {
    const etcd = await startEtcd();
    t.teardown(() => etcd.stop());
    const first = await startSecure(t, ['--etcd', etcd.url, '--certificate-ttl', '10s']);
    const issued = await issue(first, 'controller');
    const { ca, cert, key } = issued.paths;
    const ends = issued.read().info.to.getTime();
    const address = `127.0.0.1:${await freePort()}`;
    const start = async () => {
      const controller = startController(
        [
          ...['--etcd', etcd.url, '--listen', address, '--http', `127.0.0.1:${await freePort()}`],
          ...[
            '--state-dir',
            join(first.folder, 'second'),
            '--tls-ca',
            ca,
            '--tls-cert',
            cert,
            '--tls-key',
            key,
          ],
          ...['--authority', first.address],
        ],
        SECURE,
      );
      t.teardown(() => controller.stop());
      await until('it is ready', () => controller.output.includes('the controller is ready'), {
        context: () => controller.output,
      });
      return controller;
    };
    const second = await start();
    const renewed = new IdentityFolder(join(first.folder, 'second', 'identity'), 'controller');
    await until('a renewal', () => renewed.exists && renewed.read().info.to.getTime() > ends);
    t.is(renewed.read().info.identity.role, 'controller');
    // With the first one over it serves with the next, also when it starts.
    await until('the end of the first', () => Date.now() > ends, { timeoutMs: 15_000 });
    const serves = () =>
      until('it serves', async () => {
        // What this test began with has ended by now.
        const { tls } = first.authority().read();
        const networks = new NetworkServiceClient(address, ...channel(address, tls));
        try {
          return (await call(networks.listNetworks.bind(networks), {}, WITHIN)).networks.length === 0;
        } finally {
          networks.close();
        }
      });
    await serves();
    await second.stop();
    await start();
    await serves();
    const hashes = () => authorityHashesOf(renewed.read().tls.ca).toSorted().join();
    // It is of the CA that replaces this one, too.
    const root = first.identity(first.authority().read().tls);
    const next = await call(root.rotateAuthority.bind(root), {}, WITHIN);
    await until('the CA that replaces this one', () => hashes().includes(next.hash));
  },
);
