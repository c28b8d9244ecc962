// The agent's socket: for its owner alone, and every change by it is in the audit log with the user who asked.
import { once } from 'node:events';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';

import test from 'ava';

import { HttpRoutes } from '../../../agent/api/http-socket.js';
import { openSocket, type AgentApi } from '../../../agent/api/server.js';
import { callByHttp } from '../../../cli/http-call.js';
import { notFound } from '../../../core/errors.js';
import { AuditLog } from '../../../daemon/audit.js';
import { call, channel } from '../../../daemon/grpc.js';
import { silentLogger } from '../../../daemon/log.js';
import { AgentServiceClient } from '../../../proto/gen/weft/v1/agent.js';
import { Endpoint, Status } from '../../../proto/gen/weft/v1/types.js';
import { failureOf } from '../../controller/harness.js';
import { temporaryFolder } from '../../lab/temporary-folder.js';

test('changes are written down with the user who asked, reading is not', async (t) => {
  const folder = temporaryFolder(t, 'weft-api-');
  const log = join(folder, 'audit/agent.log');
  const audit = new AuditLog(log, silentLogger);
  const api = {
    names: {},
    listPorts: () => Promise.resolve({ ports: [] }),
    detach: ({ target }: { target: string }) =>
      target === 'gone'
        ? Promise.reject(notFound('gone'))
        : Promise.resolve(Endpoint.fromPartial({ id: 'aa' })),
  } as unknown as AgentApi;
  const answers = { status: () => Status.create(), waiting: () => undefined };
  const served = await openSocket(join(folder, 'run'), answers, audit);
  t.is(await callByHttp(served.path, 'detach', {}, 5000), undefined, 'it cannot do its work yet');
  served.serve(api, [], new HttpRoutes(silentLogger, audit));
  t.is(statSync(served.path).mode & 0o777, 0o600);
  const client = new AgentServiceClient(`unix:${served.path}`, ...channel('', undefined));
  const within = { peer: 'the agent', deadlineMs: 5000 };
  const detach = (target: string) => call(client.detach.bind(client), { network: 'blue', target }, within);
  await call(client.listPorts.bind(client), { endpoint: '' }, within);
  t.is((await detach('netns:/run/netns/c1')).endpoint?.id, 'aa');
  t.regex(await failureOf(detach('gone')), /^NOT_FOUND/);
  client.close();
  const byHttp = (target: string) => callByHttp(served.path, 'detach', { network: 'blue', target }, 5000);
  t.like(await byHttp('netns:/run/netns/c1'), { endpoint: { id: 'aa' } });
  t.regex(await failureOf(byHttp('gone')), /^NOT_FOUND/);
  t.is(await callByHttp(served.path, 'listPorts', {}, 5000), undefined, 'by gRPC alone');
  t.regex(await failureOf(callByHttp(served.path, 'attach', [], 5000)), /^INVALID_ARGUMENT .*JSON/);
  const silent = connect(served.path);
  await once(silent, 'connect');
  const ended = once(silent, 'close');
  await served.stop();
  await ended;
  t.is(await callByHttp(served.path, 'detach', {}, 5000), undefined, 'nobody is there any more');
  audit.close();
  t.false(existsSync(served.path));

  const entries = readFileSync(log, 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as object);
  const common = { actor: { uid: process.getuid?.() }, method: 'AgentService/Detach' };
  t.is(entries.length, 4);
  t.like(entries[0], { ...common, object: { network: 'blue', target: 'netns:/run/netns/c1' }, code: 'OK' });
  t.like(entries[1], { ...common, object: { network: 'blue', target: 'gone' }, code: 'NOT_FOUND' });
  t.like(entries[2], { ...common, object: { network: 'blue', target: 'netns:/run/netns/c1' }, code: 'OK' });
  t.like(entries[3], { ...common, object: { network: 'blue', target: 'gone' }, code: 'NOT_FOUND' });
});
