// A cluster in plain text moves to certificates: both are served until every node has one.
import { join } from 'node:path';

import test from 'ava';

import { enrol } from '../../../daemon/enrolment.js';
import { call, channel } from '../../../daemon/grpc.js';
import { IdentityFolder } from '../../../daemon/identity-folder.js';
import { silentLogger as log } from '../../../daemon/log.js';
import type { ClientTls } from '../../../daemon/tls.js';
import { StatusServiceClient } from '../../../proto/gen/weft/v1/agent.js';
import { NetworkServiceClient } from '../../../proto/gen/weft/v1/controller.js';
import { CreateTokenRequest, IdentityServiceClient } from '../../../proto/gen/weft/v1/identity.js';
import { openStore } from '../../../store/etcd-store.js';
import { freePort } from '../../lab/free-port.js';
import { temporaryFolder } from '../../lab/temporary-folder.js';
import { until } from '../../lab/wait.js';
import { failureOf } from '../harness.js';
import { startController } from '../processes.js';
import { node } from '../records.js';
import { PLAIN, SECURE, WITHIN } from './secure.js';

test.serial('a cluster in plain text stays so, until weft ca init moves it', async (t) => {
  const folder = temporaryFolder(t, 'weft-upgrade-');
  const address = `127.0.0.1:${await freePort()}`;
  const etcdPort = await freePort();
  const plainEtcd = `http://127.0.0.1:${etcdPort}`;
  const start = async (env: Record<string, string>) => {
    const process = startController(
      [
        ...['--listen', address, '--http', `127.0.0.1:${await freePort()}`, '--etcd-listen', plainEtcd],
        ...['--state-dir', join(folder, 'state'), '--admin-dir', join(folder, 'admin')],
      ],
      env,
    );
    t.teardown(() => process.stop());
    await until('the controller is ready', () => process.output.includes('the controller is ready'), {
      context: () => process.output,
    });
    return process;
  };
  const clients = (tls: ClientTls | undefined) => {
    const made = {
      networks: new NetworkServiceClient(address, ...channel(address, tls)),
      status: new StatusServiceClient(address, ...channel(address, tls)),
      identity: new IdentityServiceClient(address, ...channel(address, tls)),
    };
    t.teardown(() => Object.values(made).forEach((client) => client.close()));
    return made;
  };
  const first = await start(PLAIN);
  const store = openStore({ endpoints: [plainEtcd], prefix: '/weft', log });
  t.teardown(() => store.close());
  store.announce(() => node('h1', '192.0.2.1'), { ttlSeconds: 5, onConflict: () => t.fail() });
  await until('the node', () => store.view.alive.has('h1'));
  await first.stop();

  const second = await start(SECURE);
  const plain = clients(undefined);
  const problems = async (tls?: ClientTls) => {
    const { status } = tls === undefined ? plain : clients(tls);
    return (await call(status.getStatus.bind(status), {}, WITHIN)).problems.map(
      ({ why, fix }) => `${why}\n${fix}`,
    );
  };
  await until('the problem', async () =>
    (await problems()).some((text) => /\(h1\)\n.*weft ca init/.test(text)),
  );
  const { identity, networks } = plain;
  const begun = await call(identity.initAuthority.bind(identity), {}, WITHIN);
  t.deepEqual([begun.servesPlainText, begun.nodesWithout], [true, ['h1']]);
  t.true((await problems()).some((text) => /without: h1\n.*weft token create/.test(text)));

  // Root's next command needs a certificate.
  t.true(new IdentityFolder(join(folder, 'admin', begun.hash), 'client').exists);

  // Both are served: plain text as before, also etcd's, and a token's holder by TLS.
  await until(
    'etcd again',
    async () => (await call(networks.listNetworks.bind(networks), {}, WITHIN)) !== undefined,
  );
  await until('the node again', () => store.state.connected && store.view.alive.has('h1'));
  const { token } = await call(
    identity.createToken.bind(identity),
    CreateTokenRequest.fromPartial({ role: 'node', ttlSeconds: 60, node: 'h1' }),
    WITHIN,
  );
  const own = new IdentityFolder(join(folder, 'h1'), 'node');
  const made = await enrol({ address, token, node: 'h1', roles: ['node'], folder: () => own });
  t.deepEqual(made.etcd, [`https://127.0.0.1:${etcdPort}`]);

  // The last node has one: plain text ends, and etcd takes certificates of its users alone.
  await until('the end of plain text', () => second.output.includes('plain text is not served any more'), {
    context: () => second.output,
  });
  t.regex(await failureOf(call(networks.listNetworks.bind(networks), {}, WITHIN)), /^UNAVAILABLE/);
  const { tls } = own.read();
  const moved = clients(tls);
  t.deepEqual((await call(moved.networks.listNetworks.bind(moved.networks), {}, WITHIN)).networks, []);
  const secure = openStore({ endpoints: made.etcd, prefix: made.prefix, log, tls: () => own.read().tls });
  t.teardown(() => secure.close());
  secure.announce(() => node('h1', '192.0.2.1'), { ttlSeconds: 5, onConflict: () => t.fail() });
  await until('the node, by its certificate', () => secure.view.alive.has('h1'));
  t.deepEqual(
    (await problems(tls)).filter((text) => text.includes('plain text')),
    [],
  );

  // And it stays so.
  await second.stop();
  await start(SECURE).then(
    () => t.pass(),
    (error: unknown) => t.fail(String(error)),
  );
  t.regex(await failureOf(call(networks.listNetworks.bind(networks), {}, WITHIN)), /^UNAVAILABLE/);
});
