// The embedded etcd, with real processes.
//
// It starts, is restarted, ends with the controller, and an address in use names its owner.
import { readdirSync, statSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';

import test from 'ava';

import { startEmbeddedEtcd, type EmbeddedEtcd } from '../../controller/embedded-etcd.js';
import { etcdAddresses, etcdEnvironment, findProgram } from '../../controller/etcd-command.js';
import { messageOf, WeftError } from '../../core/errors.js';
import { silentLogger as log } from '../../daemon/log.js';
import { freePort } from '../lab/free-port.js';
import { temporaryFolder } from '../lab/temporary-folder.js';
import { eventually } from './harness.js';
import { isRunning, startController } from './processes.js';

type Teardown = { teardown: (stop: () => void | Promise<void>) => void };
const NO_TLS = { etcdCa: undefined, etcdCert: undefined, etcdKey: undefined };

async function start(t: Teardown, stateDir: string, port?: number): Promise<EmbeddedEtcd> {
  const listen = `http://127.0.0.1:${port ?? (await freePort())}`;
  const etcd = await startEmbeddedEtcd({ stateDir, listen, tls: NO_TLS, log });
  t.teardown(() => etcd.stop());
  return etcd;
}

/** Calls etcd's own JSON gateway. */
async function rpc(etcd: EmbeddedEtcd, method: string, body: object): Promise<Record<string, unknown>> {
  const response = await fetch(`${etcd.url}/v3/kv/${method}`, { method: 'POST', body: JSON.stringify(body) });
  return (await response.json()) as Record<string, unknown>;
}

const base64 = (text: string): string => Buffer.from(text).toString('base64');

async function healthy(etcd: EmbeddedEtcd): Promise<boolean> {
  const response = await fetch(`${etcd.url}/health`).catch(() => undefined);
  return response?.ok === true;
}

async function untilHealthy(etcd: EmbeddedEtcd): Promise<void> {
  const until = Date.now() + 15_000;
  while (!(await healthy(etcd))) {
    if (Date.now() > until) throw new Error('etcd did not become healthy');
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

test.serial('it serves, keeps its data in a folder of its own, and is restarted when killed', async (t) => {
  const stateDir = temporaryFolder(t, 'weft-etcd-');
  const etcd = await start(t, stateDir);
  await untilHealthy(etcd);
  t.is(statSync(join(stateDir, 'etcd')).mode & 0o777, 0o700);
  await rpc(etcd, 'put', { key: base64('k'), value: base64('v') });
  const { pid } = etcd;
  if (pid === undefined) throw new Error('no pid');
  process.kill(pid, 'SIGKILL');
  await eventually('the next life', () => etcd.restarts === 1 && etcd.pid !== pid);
  await untilHealthy(etcd);
  const found = await rpc(etcd, 'range', { key: base64('k') });
  t.is(found['count'], '1');

  await etcd.stop();
  t.false(etcd.pid !== undefined && isRunning(etcd.pid));
  // A successor can use the data, also at another address.
  const successor = await start(t, stateDir);
  await untilHealthy(successor);
  t.is((await rpc(successor, 'range', { key: base64('k') }))['count'], '1');
});

test.serial('an address in use names the owner', async (t) => {
  const other = createServer();
  const port = await new Promise<number>((resolve) => {
    other.listen(0, '127.0.0.1', () => {
      const address = other.address();
      resolve(typeof address === 'object' && address !== null ? address.port : 0);
    });
  });
  t.teardown(() => void other.close());
  const error = await t.throwsAsync(start(t, temporaryFolder(t, 'weft-etcd-'), port));
  t.true(error instanceof WeftError && error.code === 'FAILED_PRECONDITION');
  t.regex(
    messageOf(error),
    new RegExp(`^--etcd-listen: http://127.0.0.1:${port} is already in use by .+ \\(pid ${process.pid}\\)$`),
  );
});

test.serial('it waits for a predecessor that is ending', async (t) => {
  const other = createServer();
  const port = await freePort();
  await new Promise<void>((resolve) => other.listen(port, '127.0.0.1', resolve));
  setTimeout(() => other.close(), 800);
  const etcd = await start(t, temporaryFolder(t, 'weft-etcd-'), port);
  await untilHealthy(etcd);
  t.pass();
});

test.serial('a failed start is reported with etcd’s own message', async (t) => {
  const address = await t.throwsAsync(
    startEmbeddedEtcd({
      stateDir: temporaryFolder(t, 'weft-etcd-'),
      listen: 'http://192.0.2.1:2379',
      tls: NO_TLS,
      log,
    }),
  );
  t.regex(
    messageOf(address),
    /^--etcd-listen: http:\/\/192.0.2.1:2379 cannot be listened on: .*EADDRNOTAVAIL/,
  );
  const port = await freePort();
  const dir = await t.throwsAsync(
    startEmbeddedEtcd({ stateDir: '/dev/null', listen: `http://127.0.0.1:${port}`, tls: NO_TLS, log }),
  );
  t.regex(messageOf(dir), /^--state-dir: \/dev\/null\/etcd cannot be made/);
  const missing = await t.throwsAsync(findProgram('etcd', 'etcd-server', '/nowhere'));
  t.true(missing instanceof WeftError);
  t.regex(missing instanceof WeftError ? (missing.next ?? '') : '', /apt-get install etcd-server/);
});

test.serial('a wildcard is for listening only: clients use loopback, other members the host’s name', (t) => {
  t.deepEqual(etcdAddresses('http://0.0.0.0:2379', 'h1'), {
    listen: 'http://0.0.0.0:2379',
    client: 'http://127.0.0.1:2379',
    advertise: 'http://h1:2379',
  });
  t.is(etcdAddresses('http://192.0.2.1:2379', 'h1').advertise, 'http://192.0.2.1:2379');
  t.is(etcdAddresses('https://localhost:2379', 'h1').listen, 'https://127.0.0.1:2379');
  t.false('ETCD_NAME' in etcdEnvironment('/bin'));
});

test.serial('weft controller: ready, answers, and ends cleanly on SIGTERM, etcd with it', async (t) => {
  const stateDir = temporaryFolder(t, 'weft-etcd-');
  const [grpc, http, etcdPort] = [await freePort(), await freePort(), await freePort()];
  const argv = [
    ...['--listen', `127.0.0.1:${grpc}`, '--http', `127.0.0.1:${http}`, '--state-dir', stateDir],
    ...['--etcd-listen', `http://127.0.0.1:${etcdPort}`],
  ];
  const controller = startController(argv, { ETCD_NAME: 'must-not-matter' });
  t.teardown(() => controller.stop());
  await eventually('ready', () => controller.output.includes('the controller is ready'));
  t.is((await fetch(`http://127.0.0.1:${http}/readyz`)).status, 200);
  const metrics = await (await fetch(`http://127.0.0.1:${http}/metrics`)).text();
  t.regex(metrics, /^weft_store_connected 1$/m);
  const etcd = etcdOf(controller.output);

  const second = startController([...argv.slice(2), '--listen', `127.0.0.1:${await freePort()}`]);
  t.teardown(() => second.stop());
  t.is(await second.ended, 1);
  t.regex(
    second.output,
    new RegExp(`http://127.0.0.1:${etcdPort} is already in use by etcd \\(pid ${etcd}\\)`),
  );

  const begun = Date.now();
  controller.kill('SIGTERM');
  t.is(await controller.ended, 0, controller.output);
  t.true(Date.now() - begun < 5000);
  t.false(isRunning(etcd));
  t.deepEqual(readdirSync(stateDir), ['etcd']);
});

test.serial('weft controller: its etcd ends with it when it is killed', async (t) => {
  const [grpc, http, etcdPort] = [await freePort(), await freePort(), await freePort()];
  const argv = [
    ...[
      '--listen',
      `127.0.0.1:${grpc}`,
      '--http',
      `127.0.0.1:${http}`,
      '--state-dir',
      temporaryFolder(t, 'weft-etcd-'),
    ],
    ...['--etcd-listen', `http://127.0.0.1:${etcdPort}`],
  ];
  const first = startController(argv);
  t.teardown(() => first.stop());
  await eventually('ready', () => first.output.includes('the controller is ready'));
  const etcd = etcdOf(first.output);
  first.kill('SIGKILL');
  await first.ended;
  await eventually('etcd has ended', () => !isRunning(etcd));
  // Restarted at once, as by a service manager.
  const second = startController(argv);
  t.teardown(() => second.stop());
  await eventually('ready again', () => second.output.includes('the controller is ready'));
  await second.stop();
  t.false(isRunning(etcdOf(second.output)));
});

function etcdOf(output: string): number {
  const pid = /the embedded etcd runs.*pid=(\d+)/.exec(output)?.[1];
  if (pid === undefined) throw new Error(output);
  return Number(pid);
}
