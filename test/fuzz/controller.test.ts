// Garbage at a real controller's gRPC and HTTP.
//
// It answers every call with a readable error, stays up, and serves as before. The agent's sockets are attacked in
// test/cluster/garbage.test.ts, because an agent needs a host of its own.
import test from 'ava';

import { startTarget, type ControllerTarget } from './controller-target.js';
import { patience, times } from './garbage.js';
import { attackBodies, attackBytes, attackMethods, attackRequests } from './grpc-attack.js';
import { attackPages, holdConnections, SLOW_HTTP } from './http-attack.js';

let target: ControllerTarget;

test.before(async () => {
  target = await startTarget();
});
test.after.always(() => target?.stop());
test.afterEach((t) => {
  // Garbage of a caller is no fault of weft.
  t.notRegex(target.daemon.output, /a fault in weft|Z error |\bat .*\.js:\d+/);
});

test.serial('gRPC: random messages for every method', async (t) => {
  t.timeout(patience(90));
  const counters = await attackMethods(target, times(30));
  t.true(
    (counters.answers['OK'] ?? 0) > 0 && (counters.answers['INVALID_ARGUMENT'] ?? 0) > 0,
    JSON.stringify(counters),
  );
  t.log(JSON.stringify(counters));
});

test.serial('gRPC: bodies that are not messages, invalid frames, and no HTTP/2 at all', async (t) => {
  t.timeout(patience(60));
  await attackBodies(target, times(150));
  await attackRequests(target, times(150));
  await attackBytes(target, times(150));
  await holdConnections(target.address, 100, 'PRI * HTTP/2.0\r\n', target.alive);
  await target.alive();
  t.pass();
});

test.serial('HTTP: methods, paths, headers, partial requests, bytes and held connections', async (t) => {
  t.timeout(patience(60));
  await attackPages(target.http, times(150));
  await holdConnections(target.http, 100, SLOW_HTTP, target.alive);
  t.pass();
});

test.serial('and it shuts down normally', async (t) => {
  await target.alive();
  target.daemon.kill('SIGTERM');
  t.is(await target.daemon.ended, 0, target.daemon.output.slice(-2000));
});
