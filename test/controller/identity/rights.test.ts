// Who may do what: over gRPC by the table of methods and roles, in the embedded etcd by its users.
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';

import test from 'ava';

import { startSession } from '../../../agent/api/session.js';
import { refusalOf, RIGHTS } from '../../../controller/rights.js';
import { identityOfSan } from '../../../core/identity.js';
import { call, channel } from '../../../daemon/grpc.js';
import { silentLogger as log } from '../../../daemon/log.js';
import type { Tls } from '../../../daemon/tls.js';
import { StatusServiceService } from '../../../proto/gen/weft/v1/agent.js';
import * as controllerServices from '../../../proto/gen/weft/v1/controller.js';
import { EventServiceService } from '../../../proto/gen/weft/v1/events.js';
import * as identityServices from '../../../proto/gen/weft/v1/identity.js';
import { InspectionServiceService } from '../../../proto/gen/weft/v1/inspection.js';
import { IpamServiceService } from '../../../proto/gen/weft/v1/ipam.js';
import { RecordServiceService } from '../../../proto/gen/weft/v1/record.js';
import { SessionServiceService } from '../../../proto/gen/weft/v1/session.js';
import { TraceServiceService } from '../../../proto/gen/weft/v1/trace.js';
import { Status } from '../../../proto/gen/weft/v1/types.js';
import { until } from '../../lab/wait.js';
import { failureOf } from '../harness.js';
import { etcdctl, startSecure, WITHIN } from './secure.js';

test('the table has every method that a controller serves, and no other', (t) => {
  const services = {
    ...controllerServices,
    ...identityServices,
    StatusServiceService,
    SessionServiceService,
    RecordServiceService,
    EventServiceService,
    InspectionServiceService,
    IpamServiceService,
    TraceServiceService,
  };
  const methods = Object.entries(services)
    .filter(([name]) => name.endsWith('ServiceService'))
    .flatMap(([, service]) => Object.values(service as unknown as Record<string, { path: string }>))
    .map(({ path }) => path.replace('/weft.v1.', ''));
  t.true(methods.length > 20);
  t.deepEqual(Object.keys(RIGHTS).toSorted(), methods.toSorted());
});

const guard = {
  isPlain: () => false,
  isRefused: (serial: string) => serial === 'GONE',
  onUnrestricted: () => undefined,
};

for (const [san, method, outcome] of [
  ['URI:weft://node/h1', 'NetworkService/CreateNetwork', 'PERMISSION_DENIED'],
  ['URI:weft://node/h1', 'NodeService/DeleteNode', 'PERMISSION_DENIED'],
  ['URI:weft://node/h1', 'IdentityService/CreateToken', 'PERMISSION_DENIED'],
  ['URI:weft://node/h1', 'SessionService/Connect', undefined],
  ['URI:weft://viewer', 'NetworkService/ListNetworks', undefined],
  ['URI:weft://viewer', 'NetworkService/DeleteNetwork', 'PERMISSION_DENIED'],
  ['URI:weft://viewer', 'SessionService/Connect', 'PERMISSION_DENIED'],
  ['URI:weft://viewer', 'TraceService/Trace', 'PERMISSION_DENIED'],
  ['URI:weft://node/h1', 'TraceService/Trace', 'PERMISSION_DENIED'],
  ['URI:weft://admin', 'NetworkService/DeleteNetwork', undefined],
  ['URI:weft://admin', 'SessionService/Connect', 'PERMISSION_DENIED'],
  ['URI:weft://node/h1', 'RecordService/RestoreNetwork', undefined],
  ['URI:weft://viewer', 'RecordService/RestoreNetwork', 'PERMISSION_DENIED'],
  ['URI:weft://flannel/blue', 'NetworkService/ListNetworks', 'PERMISSION_DENIED'],
  // Of weft's scheme, but none of its roles.
  ['URI:weft://admin/x', 'NetworkService/ListNetworks', 'PERMISSION_DENIED'],
  ['URI:weft://node/a b', 'NetworkService/ListNetworks', 'PERMISSION_DENIED'],
  ['URI:weft://node/', 'NetworkService/ListNetworks', 'PERMISSION_DENIED'],
  ['URI:"weft://admin"', 'NetworkService/ListNetworks', 'PERMISSION_DENIED'],
  ['URI:weft://admin, URI:weft://node/h1', 'NetworkService/ListNetworks', 'PERMISSION_DENIED'],
  // Of somebody else's CA, which knows no roles.
  ['DNS:admin.example, URI:https://weft/admin', 'NetworkService/DeleteNetwork', undefined],
  [undefined, 'NetworkService/DeleteNetwork', undefined],
  ['URI:weft://admin', 'OtherService/Method', 'PERMISSION_DENIED'],
] as const) {
  test(`${san ?? 'a certificate without names'}: ${method} is ${outcome ?? 'allowed'}`, (t) => {
    const caller = { identity: identityOfSan(san), serial: '01', until: Date.now() + 1000 };
    t.is(refusalOf(`/weft.v1.${method}`, caller, false, guard)?.code, outcome);
    for (const gone of [
      { ...caller, serial: 'GONE' },
      { ...caller, until: Date.now() - 1 },
    ])
      t.is(refusalOf('/weft.v1.NetworkService/ListNetworks', gone, false, guard)?.code, 'UNAUTHENTICATED');
  });
}

test.serial('a node has a session under its own name alone, and none once it was removed', async (t) => {
  const controller = await startSecure(t);
  const { tls } = await controller.member('node', 'h1');
  const open = (node: string) => {
    const session = startSession({
      controllers: [controller.address],
      tls: tls as Tls,
      hello: { node, instance: 'i', version: '1' },
      status: () => Status.fromPartial({}),
      handle: () => Promise.reject(new Error('nothing was expected')),
      log,
    });
    t.teardown(() => session.stop());
    return session;
  };
  const other = open('h2');
  await until('the refusal', () => other.state().error.includes('this certificate is of node h1'));
  const own = open('h1');
  await until('its session', () => own.state().state === 'connected');

  const nodes = new controllerServices.NodeServiceClient(
    controller.address,
    ...channel(controller.address, controller.admin),
  );
  t.teardown(() => nodes.close());
  await call(nodes.deleteNode.bind(nodes), { name: 'h1', force: true }, WITHIN);
  await until('the end of its session', () => own.state().error.includes('is refused: the node was removed'));
  const entries = readFileSync(join(controller.stateDir, 'audit/controller.log'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { method: string; code: string; actor: object; object: object });
  const found = (method: string) => entries.find((entry) => entry.method === method);
  t.like(found('IdentityService/RequestCertificate'), {
    code: 'OK',
    actor: { role: 'nobody' },
    object: { node: 'h1' },
  });
  t.like(found('NodeService/DeleteNode'), { code: 'OK', actor: { role: 'admin' }, object: { name: 'h1' } });
  t.like(found('SessionService/Connect'), {
    code: 'PERMISSION_DENIED',
    actor: { role: 'node', node: 'h1' },
  });
  t.is(statSync(join(controller.stateDir, 'audit/controller.log')).mode & 0o777, 0o600);
  t.notRegex(JSON.stringify(entries), /WEFT-1-|PUBLIC KEY/);

  const client = controller.identity(tls);
  t.regex(
    await failureOf(call(client.renewCertificate.bind(client), { publicKey: '' }, WITHIN)),
    /^UNAUTHENTICATED node h1: its certificate \(\w+\) is refused/,
  );
});

test.serial('in etcd a node writes what is its own, and no more', async (t) => {
  const controller = await startSecure(t);
  const { folder } = await controller.member('node', 'h1');
  const viewer = await controller.member('viewer');
  const put = (key: string, who = folder): string => etcdctl(controller, who, 'put', key, 'x');
  for (const key of ['nodes/h1', 'nodes/h1/alive', 'removed/nodes/h1', 'proposals/10.1.0.0-16/10.1.5.0-24'])
    t.is(put(`/weft/${key}`), 'OK', key);
  for (const key of [
    'nodes/h1x',
    'nodes/h2',
    'nodes/h2/alive',
    'removed/nodes/h2',
    'tokens/x',
    'certificates/x',
    'elections/controller',
    'other',
  ])
    t.regex(put(`/weft/${key}`), /permission denied/, key);
  t.regex(put('/elsewhere'), /permission denied/);
  t.regex(etcdctl(controller, folder, 'user', 'add', 'x:x'), /permission denied/);
  t.regex(etcdctl(controller, folder, 'get', '/elsewhere'), /permission denied/);
  // Neither a person's certificate nor the absence of one is a user of etcd.
  t.not(etcdctl(controller, viewer.folder, 'get', '/weft/nodes/h1'), 'OK');
  t.regex(put('/weft/nodes/h1', viewer.folder), /permission denied|authentication|user name/i);

  const nodes = new controllerServices.NodeServiceClient(
    controller.address,
    ...channel(controller.address, controller.admin),
  );
  t.teardown(() => nodes.close());
  await call(nodes.deleteNode.bind(nodes), { name: 'h1', force: true }, WITHIN);
  t.not(put('/weft/nodes/h1'), 'OK');
});
