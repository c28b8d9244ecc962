// Health, readiness and metrics over HTTP, and the owner of an address.
import { createServer } from 'node:net';

import test from 'ava';
import { Gauge, Registry } from 'prom-client';

import { messageOf } from '../../core/errors.js';
import { startHttp, type Readiness } from '../../daemon/http.js';
import { hostPort } from '../../daemon/kinds.js';
import { silentLogger as log } from '../../daemon/log.js';
import { portOwner } from '../../daemon/port-owner.js';

const parse = (text: string) => hostPort({ listen: true }).parse(text, 'test');

test('/healthz, /readyz and /metrics', async (t) => {
  const registry = new Registry();
  new Gauge({ name: 'weft_test', help: 'x', registers: [registry] }).set(7);
  let state: Readiness = { ready: false, reason: 'etcd is not reached' };
  const server = await startHttp({ listen: parse('127.0.0.1:0'), registry, readiness: () => state, log });
  const get = async (path: string, method = 'GET') => {
    const response = await fetch(`http://${server.address}${path}`, { method });
    return [response.status, (await response.text()).trim()];
  };
  t.deepEqual(await get('/healthz'), [200, 'ok']);
  t.deepEqual(await get('/readyz'), [503, 'etcd is not reached']);
  state = { ready: true };
  t.deepEqual(await get('/readyz?verbose'), [200, 'ok']);
  t.regex(String((await get('/metrics'))[1]), /^weft_test 7$/m);
  t.is((await get('/nothing'))[0], 404);
  t.is((await get('/healthz', 'POST'))[0], 405);
  t.deepEqual(await get('/healthz', 'HEAD'), [200, '']);

  const second = startHttp({ listen: parse(server.address), registry, readiness: () => state, log });
  const error = await t.throwsAsync(second);
  t.regex(
    messageOf(error),
    new RegExp(`^--http: ${server.address} is already in use by .+ \\(pid ${process.pid}\\)$`),
  );
  await server.stop();
});

test('an address of another host is refused with the reason', async (t) => {
  const error = await t.throwsAsync(
    startHttp({
      listen: parse('192.0.2.1:7402'),
      registry: new Registry(),
      readiness: () => ({ ready: true }),
      log,
    }),
  );
  t.is(messageOf(error), '--http: 192.0.2.1:7402 is not an address of this host');
});

test('the owner of a port is found on IPv4, IPv6 and wildcard addresses, and only there', async (t) => {
  for (const host of ['127.0.0.1', '::1', '0.0.0.0', '::']) {
    const server = createServer();
    const listening = await new Promise<boolean>((resolve) => {
      server.once('error', () => resolve(false)).listen(0, host, () => resolve(true));
    });
    // A kernel without IPv6.
    if (!listening) continue;
    const address = server.address();
    if (address === null || typeof address === 'string') throw new Error('not what was expected');
    t.is((await portOwner(host, address.port))?.pid, process.pid, host);
    t.is((await portOwner('localhost', address.port))?.pid, process.pid, host);
    if (host === '127.0.0.1') t.is(await portOwner('127.0.0.2', address.port), undefined);
    await new Promise((resolve) => server.close(resolve));
    t.is(await portOwner(host, address.port), undefined);
  }
});
