// A new CA in the place of the old one: who knows the former one alone goes on, until nobody needs it.
import { X509Certificate } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import test from 'ava';

import { credentialsFor } from '../../../cli/identity.js';
import { parseToken } from '../../../core/identity.js';
import { authorityHashesOf, authorityHashOf } from '../../../daemon/certificate.js';
import { enrol, renew } from '../../../daemon/enrolment.js';
import { call, channel } from '../../../daemon/grpc.js';
import { IdentityFolder } from '../../../daemon/identity-folder.js';
import { silentLogger as log } from '../../../daemon/log.js';
import type { ClientTls } from '../../../daemon/tls.js';
import { NetworkServiceClient } from '../../../proto/gen/weft/v1/controller.js';
import { openStore } from '../../../store/etcd-store.js';
import { until } from '../../lab/wait.js';
import { failureOf } from '../harness.js';
import { node } from '../records.js';
import { etcdctl, startSecure, WITHIN, type SecureController } from './secure.js';

/** What a listing of networks comes to: nothing, or the error. */
async function failureAs({ address }: SecureController, tls: ClientTls): Promise<string | undefined> {
  const client = new NetworkServiceClient(address, ...channel(address, tls));
  const listed = call(client.listNetworks.bind(client), {}, WITHIN);
  try {
    return await listed.then(
      () => undefined,
      () => failureOf(listed),
    );
  } finally {
    client.close();
  }
}

const authority = (controller: SecureController, tls?: ClientTls) => {
  const client = controller.identity(tls);
  return call(client.getAuthority.bind(client), {}, WITHIN);
};

async function etcdRestarts({ http }: SecureController): Promise<number> {
  const text = await (await fetch(`http://${http}/metrics`)).text();
  return Number(/^weft_embedded_etcd_restarts_total (\d+)$/m.exec(text)?.[1]);
}

const portsOf = ({ address, http, etcdUrl }: SecureController): [number, number, number] => [
  Number(address.split(':').at(-1)),
  Number(http.split(':').at(-1)),
  Number(etcdUrl.split(':').at(-1)),
];

test.serial('members of the former CA go on, and it is dropped after the last of them', async (t) => {
  let controller = await startSecure(t);
  const { address, folder } = controller;
  const h1 = await controller.member('node', 'h1');
  const store = openStore({
    ...{ endpoints: [controller.etcdUrl], prefix: '/weft', log },
    tls: () => h1.folder.read().tls,
  });
  t.teardown(() => store.close());
  store.announce(() => node('h1', '192.0.2.1'), { ttlSeconds: 60, onConflict: () => t.fail() });
  await until('the node', () => store.view.nodes.has('h1'));
  const [before, forH2, viewer] = [await authority(controller), await controller.token(), 'viewer'];
  process.env['HOME'] = folder;
  const person = () =>
    credentialsFor(address, { insecure: false, tlsCa: undefined, tlsCert: undefined, tlsKey: undefined });
  const personal = (hash: string): string => join(folder, '.config/weft', hash);
  await enrol({
    ...{ address, node: '', roles: ['viewer'], token: await controller.token({ role: viewer }) },
    folder: (hash) => new IdentityFolder(personal(hash), 'client'),
  });

  const client = controller.identity();
  const rotate = () => call(client.rotateAuthority.bind(client), {}, WITHIN);
  const [begun, twice] = await Promise.all([rotate(), rotate()]);
  t.not(begun.hash, before.hash);
  t.like(begun, { former: before.hash, waitsFor: ['node h1'] });
  t.is(twice.hash, begun.hash);

  // The former key is nowhere any more. A crash before that is undone by the order of the files.
  t.is(readFileSync(join(controller.stateDir, 'ca/ca.key'), 'utf8').match(/BEGIN/g)?.length, 1);

  // Who has certificates of the former CA, and tokens of either.
  t.is(await failureAs(controller, h1.tls), undefined);
  const { authority: pinned } = parseToken(forH2, 'token');
  t.is(pinned, before.hash);
  const forH3 = await controller.token();
  t.is(parseToken(forH3, 'token').authority, begun.hash);
  for (const [token, name] of [
    [forH2, 'h2'],
    [forH3, 'h3'],
  ] as const) {
    const own = new IdentityFolder(join(folder, name), 'node');
    await enrol({ address, token, node: name, roles: ['node'], folder: () => own });
    const { tls } = own.read();
    t.deepEqual(authorityHashesOf(tls.ca), [begun.hash, before.hash]);
    t.is(await failureAs(controller, tls), undefined);
    // etcd has not read the new CA.
    t.is(etcdctl(controller, own, 'put', `/weft/nodes/${name}/x`, 'x'), 'OK');
  }
  t.is(etcdctl(controller, h1.folder, 'put', '/weft/nodes/h1/x', 'x'), 'OK');
  t.is(await etcdRestarts(controller), 0);

  // A person's next command gets a certificate of the new one.
  t.is(await failureAs(controller, (await person()) as ClientTls), undefined);
  t.deepEqual(readdirSync(personal(begun.hash)), ['ca.crt', 'client.crt', 'client.key']);

  // The same after a restart.
  await controller.process.stop();
  controller = await startSecure(t, [], { folder, ports: portsOf(controller) });
  t.like(await authority(controller), { hash: begun.hash, former: before.hash, waitsFor: ['node h1'] });

  // The last one.
  await renew(address, h1.folder);
  await until('the end', () => controller.process.output.includes('is not trusted any more'));
  await until('etcd', () => store.state.connected && store.isSynced);
  t.is(await etcdRestarts(controller), 1);
  await until('gRPC', async () => (await failureAs(controller, h1.folder.read().tls)) === undefined);
  t.like(await authority(controller, h1.folder.read().tls), {
    hash: begun.hash,
    former: undefined,
    waitsFor: [],
  });
  t.regex((await failureAs(controller, h1.tls)) ?? '', /^UNAVAILABLE/);
  t.regex(
    (await failureAs(controller, { ...h1.tls, ca: h1.folder.read().tls.ca })) ?? '',
    /^UNAUTHENTICATED/,
  );
  const old = new IdentityFolder(join(folder, 'old'), 'node');
  old.publicKey();
  for (const [path, text] of [
    [old.paths.ca, h1.folder.read().tls.ca],
    [old.paths.cert, h1.tls.cert],
    [old.paths.key, h1.tls.key],
  ] as const)
    writeFileSync(path, text ?? '');
  t.regex(
    etcdctl(controller, old, '--command-timeout=1s', 'put', '/weft/nodes/h1/x', 'x'),
    /bad certificate|unknown|authority|deadline/i,
  );
  t.is(await failureAs(controller, (await person()) as ClientTls), undefined);
  t.deepEqual(readdirSync(join(folder, 'admin')), [begun.hash]);
  await renew(address, h1.folder);
  t.deepEqual(authorityHashesOf(h1.folder.read().tls.ca), [begun.hash]);
  t.is(authorityHashOf(readFileSync(join(controller.stateDir, 'ca/ca.crt'))), begun.hash);
  t.true(
    new X509Certificate(h1.folder.read().tls.cert).verify(
      new X509Certificate(h1.folder.read().tls.ca).publicKey,
    ),
  );
  t.true(existsSync(personal(before.hash)));
});
