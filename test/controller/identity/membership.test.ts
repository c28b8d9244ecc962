// Who comes in and who goes: the token for the controller's own host, a node that leaves, further controllers, a person of two clusters.
import { cpSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import test from 'ava';

import { credentialsFor, ownFolder } from '../../../cli/identity.js';
import { IdentityFolder } from '../../../daemon/identity-folder.js';
import { enrol } from '../../../daemon/enrolment.js';
import { call } from '../../../daemon/grpc.js';
import { startEmbeddedEtcd } from '../../../controller/embedded-etcd.js';
import { silentLogger as log } from '../../../daemon/log.js';
import { freePort } from '../../lab/free-port.js';
import { temporaryFolder } from '../../lab/temporary-folder.js';
import { until } from '../../lab/wait.js';
import { failureOf } from '../harness.js';
import { startSecure, WITHIN, type SecureController } from './secure.js';

let folders = 0;

function redeem(controller: SecureController, token: string, node: string) {
  const own = new IdentityFolder(join(controller.folder, `own-${++folders}`), 'node');
  return enrol({ address: controller.address, token, node, roles: ['node'], folder: () => own });
}

test.serial('the token in a file lets one node in, once, also over restarts', async (t) => {
  const file = join(temporaryFolder(t, 'weft-token-'), 'node-token');
  const flags = ['--node-token', file];
  const read = (): string => readFileSync(file, 'utf8').trim();
  const first = await startSecure(t, flags);
  const { folder } = first;
  const [grpc = 0, http = 0, etcd = 0] = [first.address, first.http, first.etcdUrl].map((at) =>
    Number(at.split(':').at(-1)),
  );
  const restart = async ({ process }: SecureController): Promise<SecureController> => {
    await process.stop();
    return await startSecure(t, flags, { folder, ports: [grpc, http, etcd] });
  };
  t.is(statSync(file).mode & 0o777, 0o600);
  const token = read();
  const second = await restart(first);
  t.is(read(), token, 'one that nobody used stays');
  t.is((await redeem(second, token, 'h1')).role, 'node');
  t.regex(await failureOf(redeem(second, token, 'h2')), /^UNAUTHENTICATED token \w+: has been used as often/);
  const third = await restart(second);
  t.is(read(), token, 'one that was used lets nobody in');

  writeFileSync(file, 'something else\n');
  const fourth = await restart(third);
  await until('another token', () => read().startsWith('WEFT-1-'));
  t.is((await redeem(fourth, read(), 'h2')).role, 'node');
  t.false(fourth.process.output.includes(read()));
});

test.serial('a node that gives its certificate up is refused, and its name is free', async (t) => {
  const controller = await startSecure(t);
  const { tls } = await controller.member('node', 'h1');
  const client = controller.identity(tls);
  t.regex(
    await failureOf(redeem(controller, await controller.token(), 'h1')),
    /^ALREADY_EXISTS node h1: another node has this name/,
  );
  await call(client.surrenderCertificate.bind(client), {}, WITHIN);
  t.regex(
    await failureOf(call(client.getAuthority.bind(client), {}, WITHIN)),
    /^UNAUTHENTICATED node h1: its certificate \(\w+\) is refused/,
  );
  t.is((await redeem(controller, await controller.token(), 'h1')).role, 'node');
  const admin = controller.identity();
  t.regex(
    await failureOf(call(admin.surrenderCertificate.bind(admin), {}, WITHIN)),
    /^PERMISSION_DENIED IdentityService\/SurrenderCertificate: a certificate of the role admin/,
  );
});

test.serial('a further controller needs an etcd that is not the first one’s own', async (t) => {
  const alone = await startSecure(t);
  t.regex(
    await failureOf(alone.token({ role: 'controller' })),
    /^FAILED_PRECONDITION a further controller: the only etcd of this cluster is the first/,
  );
  const listen = `http://127.0.0.1:${await freePort()}`;
  const tls = { etcdCa: undefined, etcdCert: undefined, etcdKey: undefined };
  const etcd = await startEmbeddedEtcd({ stateDir: temporaryFolder(t, 'weft-etcd-'), listen, tls, log });
  t.teardown(() => etcd.stop());
  const shared = await startSecure(t, ['--etcd', listen]);
  const own = new IdentityFolder(join(shared.folder, 'further'), 'controller');
  const made = await enrol({
    ...{ address: shared.address, token: await shared.token({ role: 'controller' }), node: '' },
    ...{ roles: ['controller'], folder: () => own },
  });
  t.deepEqual([made.role, made.etcd], ['controller', [listen]]);
});

test.serial('a command shows the certificate of the CA that the address shows', async (t) => {
  const [first, second] = [await startSecure(t), await startSecure(t)];
  const [admins, home] = [temporaryFolder(t, 'weft-admins-'), temporaryFolder(t, 'weft-home-')];
  for (const { folder } of [first, second]) cpSync(join(folder, 'admin'), admins, { recursive: true });
  process.env['WEFT_ADMIN_DIR'] = admins;
  process.env['HOME'] = home;
  const plain = { tlsCa: undefined, tlsCert: undefined, tlsKey: undefined, insecure: false };
  for (const { address, admin } of [first, second])
    t.deepEqual((await credentialsFor(address, plain))?.cert, admin.cert);
  // One's own comes before root's.
  const token = await second.token({ role: 'viewer' });
  await enrol({ address: second.address, token, node: '', roles: ['viewer'], folder: ownFolder });
  const [mine] = readdirSync(join(home, '.config/weft'));
  const cert = readFileSync(join(home, '.config/weft', mine ?? '', 'client.crt'));
  t.deepEqual((await credentialsFor(second.address, plain))?.cert, cert);
  t.deepEqual((await credentialsFor(first.address, plain))?.cert, first.admin.cert);
});
