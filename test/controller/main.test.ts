// `weft controller` as a process, on a real etcd.
//
// It keeps its state, shares the work with others, and with TLS serves only clients of its CA.
import { readFileSync } from 'node:fs';
import { request } from 'node:https';

import test from 'ava';

import { startSession } from '../../agent/api/session.js';
import { startEmbeddedEtcd } from '../../controller/embedded-etcd.js';
import { WeftError } from '../../core/errors.js';
import { call, channel } from '../../daemon/grpc.js';
import { silentLogger as log } from '../../daemon/log.js';
import { readTls, type Tls } from '../../daemon/tls.js';
import { StatusServiceClient } from '../../proto/gen/weft/v1/agent.js';
import {
  CreateNetworkRequest,
  NetworkServiceClient,
  NodeServiceClient,
} from '../../proto/gen/weft/v1/controller.js';
import { Status } from '../../proto/gen/weft/v1/types.js';
import { openStore } from '../../store/etcd-store.js';
import { TestCa } from '../daemon/certificates.js';
import { freePort } from '../lab/free-port.js';
import { temporaryFolder } from '../lab/temporary-folder.js';
import { eventually } from './harness.js';
import { startController, type TestProcess } from './processes.js';
import { node } from './records.js';

type Teardown = { teardown: (stop: () => void | Promise<void>) => void };

const within = { peer: 'the controller', deadlineMs: 10_000 };

interface Running {
  process: TestProcess;
  address: string;
  http: string;
  etcd: string;
}

/** Starts a controller and waits until it is ready. @param etcd URL of another, or the folder for an embedded one */
async function start(
  t: Teardown,
  where: { etcd: string } | { stateDir: string; etcdUrl: string },
  more: string[] = [],
): Promise<Running> {
  const [address, http] = [`127.0.0.1:${await freePort()}`, `127.0.0.1:${await freePort()}`];
  const etcd = 'etcd' in where ? where.etcd : where.etcdUrl;
  const stateDir = 'etcd' in where ? temporaryFolder(t, 'weft-controller-') : where.stateDir;
  const store = 'etcd' in where ? ['--etcd', etcd] : ['--etcd-listen', etcd];
  const process = startController([
    '--listen',
    address,
    '--http',
    http,
    '--state-dir',
    stateDir,
    ...store,
    ...more,
  ]);
  t.teardown(() => process.stop());
  await eventually('ready', () => process.output.includes('the controller is ready')).catch(() => {
    throw new Error(process.output);
  });
  return { process, address, http, etcd };
}

async function withNetworks<T>(
  { address }: Running,
  tls: Tls | undefined,
  use: (client: NetworkServiceClient) => Promise<T>,
): Promise<T> {
  const client = new NetworkServiceClient(address, ...channel(address, tls));
  try {
    return await use(client);
  } finally {
    client.close();
  }
}

const create = (running: Running, name: string, subnet: string, tls?: Tls) =>
  withNetworks(running, tls, (client) =>
    call(client.createNetwork.bind(client), CreateNetworkRequest.fromPartial({ name, subnet }), within),
  );

const names = async (running: Running, tls?: Tls): Promise<string[]> => {
  const { networks } = await withNetworks(running, tls, (client) =>
    call(client.listNetworks.bind(client), {}, within),
  );
  return networks.map(({ name }) => name);
};

test.serial('its records survive a restart, and nodes are seen again', async (t) => {
  const stateDir = temporaryFolder(t, 'weft-controller-');
  const etcdUrl = `http://127.0.0.1:${await freePort()}`;
  const first = await start(t, { stateDir, etcdUrl });
  await create(first, 'blue', '10.100.0.0/16');
  await t.throwsAsync(create(first, 'red', '10.100.4.0/24'), { message: /overlaps network blue/ });
  await first.process.stop();

  const second = await start(t, { stateDir, etcdUrl });
  t.deepEqual(await names(second), ['blue']);
  const store = openStore({ endpoints: [etcdUrl], prefix: '/weft', log });
  t.teardown(() => store.close());
  await store.synced();
  const announcement = store.announce(() => node('n1', '192.0.2.1'), {
    ttlSeconds: 3,
    onConflict: () => t.fail(),
  });
  const session = startSession({
    controllers: [second.address],
    hello: { node: 'n1', instance: 'i-n1', version: '0.1.0' },
    status: () => Status.fromPartial({ problems: [{ what: 'a', why: 'b', fix: 'c' }] }),
    handle: () => Promise.reject(new Error('nothing was expected')),
    log,
  });
  t.teardown(() => session.stop());
  const client = new NodeServiceClient(second.address, ...channel(second.address, undefined));
  t.teardown(() => client.close());
  const show = () => call(client.getNode.bind(client), { name: 'n1' }, within).catch(() => undefined);
  const until = Date.now() + 8000;
  while ((await show())?.problems.length !== 1 && Date.now() < until)
    await new Promise((resolve) => setTimeout(resolve, 50));
  t.like(await show(), { state: 'up', publicIp: '192.0.2.1', problems: [{ what: 'a' }] });
  await announcement.stop();
  while ((await show())?.state !== 'down' && Date.now() < until)
    await new Promise((resolve) => setTimeout(resolve, 50));
  t.is((await show())?.state, 'down');
});

test.serial('two controllers on one etcd: both serve, one cleans up, the other takes over', async (t) => {
  const own = { etcdCa: undefined, etcdCert: undefined, etcdKey: undefined };
  const url = `http://127.0.0.1:${await freePort()}`;
  const etcd = await startEmbeddedEtcd({
    stateDir: temporaryFolder(t, 'weft-controller-'),
    listen: url,
    tls: own,
    log,
  });
  t.teardown(() => etcd.stop());
  const first = await start(t, { etcd: url });
  await eventually('the first leads', () => first.process.output.includes('leading  election='));
  const second = await start(t, { etcd: url });
  await create(first, 'blue', '10.100.0.0/16');
  const until = Date.now() + 3000;
  while ((await names(second)).length === 0 && Date.now() < until)
    await new Promise((resolve) => setTimeout(resolve, 20));
  t.deepEqual(await names(second), ['blue']);
  const leads = async ({ address }: Running): Promise<boolean> => {
    const client = new StatusServiceClient(address, ...channel(address, undefined));
    const { controller } = await call(client.getStatus.bind(client), {}, within);
    client.close();
    return controller?.leader === true;
  };
  t.deepEqual(await Promise.all([first, second].map(leads)), [true, false]);
  t.regex(await (await fetch(`http://${first.http}/metrics`)).text(), /^weft_leader 1$/m);
  await first.process.stop();
  await eventually('the second leads', () => second.process.output.includes('leading  election='));
  t.true(await leads(second));
});

test.serial(
  'without etcd the controller reports it on /readyz, and is ready when etcd answers',
  async (t) => {
    const etcdPort = await freePort();
    const etcd = `http://127.0.0.1:${etcdPort}`;
    const [address, http] = [`127.0.0.1:${await freePort()}`, `127.0.0.1:${await freePort()}`];
    const process = startController(['--listen', address, '--http', http, '--etcd', etcd]);
    t.teardown(() => process.stop());
    await eventually('http', () => process.output.includes('etcd'));
    const readyz = () =>
      fetch(`http://${http}/readyz`).then(
        async (response) => [response.status, await response.text()] as const,
      );
    const [status, reason] = await readyz();
    t.is(status, 503);
    t.regex(reason, /^etcd has not been read yet/);
    t.is((await fetch(`http://${http}/healthz`)).status, 200);
    const store = await start(t, { stateDir: temporaryFolder(t, 'weft-controller-'), etcdUrl: etcd });
    await eventually('ready', () => process.output.includes('the controller is ready'));
    t.is((await readyz())[0], 200);
    await store.process.stop();
    const until = Date.now() + 8000;
    while ((await readyz())[0] === 200 && Date.now() < until)
      await new Promise((resolve) => setTimeout(resolve, 50));
    t.regex((await readyz())[1], /^etcd is not reached/);
  },
);

test.serial(
  'TLS on every connection: clients without a certificate of the CA are refused, by the controller and its etcd',
  async (t) => {
    const ca = new TestCa();
    const stranger = new TestCa();
    t.teardown(() => {
      ca.remove();
      stranger.remove();
    });
    const own = ca.issue('controller');
    const flags = [
      ...['--tls-ca', ca.ca, '--tls-cert', own.cert, '--tls-key', own.key],
      ...['--etcd-ca', ca.ca, '--etcd-cert', own.cert, '--etcd-key', own.key],
    ];
    const etcdUrl = `https://127.0.0.1:${await freePort()}`;
    const running = await start(t, { stateDir: temporaryFolder(t, 'weft-controller-'), etcdUrl }, flags);
    const { cert, key } = ca.issue('client');
    const client = readTls({ tlsCa: ca.ca, tlsCert: cert, tlsKey: key });
    t.like(await create(running, 'blue', '10.100.0.0/16', client), { name: 'blue' });

    const other = stranger.issue('stranger');
    const wrong = { ca: readFileSync(ca.ca), cert: readFileSync(other.cert), key: readFileSync(other.key) };
    for (const tls of [undefined, wrong]) {
      const error = await t.throwsAsync(names(running, tls));
      t.true(error instanceof WeftError && error.code === 'UNAVAILABLE');
    }
    const asked = (options: object) =>
      new Promise<string>((resolve) => {
        request(`${etcdUrl}/health`, { ca: readFileSync(ca.ca), ...options }, (response) => {
          response.resume();
          resolve(String(response.statusCode));
        })
          .on('error', (error) => resolve(error.message))
          .end();
      });
    t.is(await asked({ cert: readFileSync(cert), key: readFileSync(key) }), '200');
    t.not(await asked({}), '200');

    // Others may use the same etcd with the same flags.
    const second = await start(t, { etcd: etcdUrl }, flags);
    t.deepEqual(await names(second, client), ['blue']);
    const session = startSession({
      controllers: [second.address],
      tls: client,
      hello: { node: 'n1', instance: 'i', version: '0.1.0' },
      status: () => Status.fromPartial({}),
      handle: () => Promise.reject(new Error('nothing was expected')),
      log,
    });
    await eventually('the session', () => session.state().state === 'connected');
    await session.stop();
  },
);

test.serial('wrong settings end it with status 2 before anything is started', async (t) => {
  for (const [argv, message] of [
    [['--lisen', 'x'], 'weft controller: flag --lisen: not known\nDid you mean --listen?\n'],
    [
      ['--tls-ca', '/no/ca'],
      'weft controller: flag --tls-ca: TLS is always mutual, and --tls-cert is not set\n',
    ],
  ] as const) {
    const process = startController(argv);
    t.is(await process.ended, 2);
    t.true(process.output.startsWith(message), process.output);
  }
});
