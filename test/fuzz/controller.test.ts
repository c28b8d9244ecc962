// Garbage at a real controller's gRPC and HTTP: it answers every call in words, lives, and serves as before. The agent's doors
// are attacked in test/cluster/garbage.test.ts, for an agent needs a host of its own.
import { join } from 'node:path';

import test from 'ava';
import type { Client } from '@grpc/grpc-js';
import { credentials } from '@grpc/grpc-js';

import { call } from '../../daemon/grpc.js';
import { StatusServiceClient, StatusServiceService } from '../../proto/gen/weft/v1/agent.js';
import * as controller from '../../proto/gen/weft/v1/controller.js';
import * as session from '../../proto/gen/weft/v1/session.js';
import { startController, type TestProcess } from '../controller/processes.js';
import { startEtcd, temporaryFolder, type TestEtcd } from '../store/etcd.js';
import { freePort } from '../lab/free-port.js';
import { until } from '../lab/wait.js';
import { etcdSamples } from './etcd-samples.js';
import { patience, TIMES } from './garbage.js';
import { attackBodies, attackBytes, attackMethods, attackRequests, type Target } from './grpc-attack.js';
import { ask, attackPages, holdConnections, SLOW_HTTP } from './http-attack.js';
import { methodsOf } from './messages.js';

let etcd: TestEtcd;
let daemon: TestProcess;
let grpc: { host: string; port: number };
let http: { host: string; port: number };
let target: Target;
const clients: Client[] = [];

test.before(async () => {
  etcd = await startEtcd();
  grpc = { host: '127.0.0.1', port: await freePort() };
  http = { host: '127.0.0.1', port: await freePort() };
  daemon = startController([
    ...['--etcd', etcd.url, '--state-dir', join(temporaryFolder('fuzz'), 'state')],
    ...['--listen', `127.0.0.1:${grpc.port}`, '--http', `127.0.0.1:${http.port}`],
  ]);
  await until('the controller is ready', () => daemon.output.includes('the controller is ready'), {
    context: () => daemon.output,
  });
  const status = new StatusServiceClient(`127.0.0.1:${grpc.port}`, credentials.createInsecure());
  const networks = new controller.NetworkServiceClient(
    `127.0.0.1:${grpc.port}`,
    credentials.createInsecure(),
  );
  const nodes = new controller.NodeServiceClient(`127.0.0.1:${grpc.port}`, credentials.createInsecure());
  clients.push(status, networks, nodes);
  const peer = { peer: 'the controller', deadlineMs: 5000 };
  await call(
    networks.createNetwork.bind(networks),
    controller.CreateNetworkRequest.fromPartial({ name: 'blue', subnet: '10.100.0.0/16' }),
    peer,
  );
  for (const [key, value] of etcdSamples('none', 'h7'))
    if (key === 'nodes/h7') await etcd.raw.put(`/weft/${key}`).value(value);
  const hello = { node: 'h7', instance: 'i', version: '1' };
  target = {
    openings: new Map([
      [
        session.SessionServiceService.connect.path,
        session.AgentMessage.encode({ message: { $case: 'hello', value: hello } }).finish(),
      ],
    ]),
    address: grpc,
    methods: methodsOf(controller, session, { StatusServiceService }),
    words: ['blue', 'red', 'h1', '10.101.0.0/16', 'fd42:1::/48', 'overlay', 'bridge', 'vlan', 'eth0', 'PUT'],
    alive: async () => {
      if (daemon.child.exitCode !== null)
        throw new Error(`the controller has ended:\n${daemon.output.slice(-3000)}`);
      // What agents have reported goes into both.
      await call(status.getStatus.bind(status), {}, peer);
      await call(nodes.listNodes.bind(nodes), {}, peer);
      const ready = await ask(http, '/readyz');
      if (!ready.includes('200 OK')) throw new Error(ready);
    },
  };
});
test.after.always(async () => {
  for (const client of clients) client.close();
  await daemon?.stop();
  await etcd?.stop();
});
test.afterEach((t) => {
  // A caller's nonsense is no fault of weft's.
  t.notRegex(daemon.output, /a fault in weft|Z error |\bat .*\.js:\d+/);
});

test.serial('gRPC: nonsensical messages for every method', async (t) => {
  t.timeout(patience(90));
  const tally = await attackMethods(target, 30 * TIMES);
  t.true(
    (tally.answers['OK'] ?? 0) > 0 && (tally.answers['INVALID_ARGUMENT'] ?? 0) > 0,
    JSON.stringify(tally),
  );
  t.log(JSON.stringify(tally));
});

test.serial('gRPC: bodies that are no messages, frames that are none, and no HTTP/2 at all', async (t) => {
  t.timeout(patience(60));
  await attackBodies(target, 150 * TIMES);
  await attackRequests(target, 150 * TIMES);
  await attackBytes(target, 150 * TIMES);
  await holdConnections(grpc, 100, 'PRI * HTTP/2.0\r\n', target.alive);
  await target.alive();
  t.pass();
});

test.serial('HTTP: methods, paths, headers, half requests, bytes and held connections', async (t) => {
  t.timeout(patience(60));
  await attackPages(http, 150 * TIMES);
  await holdConnections(http, 100, SLOW_HTTP, target.alive);
  t.pass();
});

test.serial('and it ends as ever', async (t) => {
  await target.alive();
  daemon.kill('SIGTERM');
  t.is(await daemon.ended, 0, daemon.output.slice(-2000));
});
