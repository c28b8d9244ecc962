// Networks in an etcd with weft's users: controllers write configs and tombstones, for nodes only what leaves every network
// that is there as it is.
import test, { type ExecutionContext } from 'ava';

import { startSession } from '../../../agent/api/session.js';
import { call, channel } from '../../../daemon/grpc.js';
import type { IdentityFolder } from '../../../daemon/identity-folder.js';
import { silentLogger as log } from '../../../daemon/log.js';
import type { ClientTls, Tls } from '../../../daemon/tls.js';
import { CreateNetworkRequest, NetworkServiceClient } from '../../../proto/gen/weft/v1/controller.js';
import { RecordServiceClient } from '../../../proto/gen/weft/v1/record.js';
import { Status } from '../../../proto/gen/weft/v1/types.js';
import { until } from '../../lab/wait.js';
import { failureOf } from '../harness.js';
import { etcdctl, startSecure, WITHIN, type SecureController } from './secure.js';

const CONFIG = (subnet: string, madeBy?: string): string =>
  JSON.stringify({
    Network: subnet,
    Backend: { Type: 'vxlan', VNI: 5000 + Number(subnet.split('.')[1]), Port: 8472 },
    ...(madeBy === undefined ? {} : { Weft: { MadeBy: madeBy } }),
    Other: 'kept',
  });
const LEASE = (node: string): string =>
  JSON.stringify({
    PublicIP: '192.0.2.1',
    BackendType: 'vxlan',
    BackendData: { VNI: 4096, VtepMAC: '02:00:00:00:00:01' },
    Weft: { Node: node, Instance: 'i', Since: '2026-01-01T00:00:00Z' },
  });

interface Seat {
  controller: SecureController;
  /** etcdctl with the certificate of node h1. */
  etcd: (...args: string[]) => string;
  /** The records that node h1 asks for. */
  records: RecordServiceClient;
  networks: NetworkServiceClient;
  create: (name: string, subnet: string) => Promise<unknown>;
  valueOf: (key: string) => string;
}

async function seat(t: ExecutionContext): Promise<Seat> {
  const controller = await startSecure(t);
  const { tls, folder } = await controller.member('node', 'h1');
  return { controller, ...seatAt(t, controller, tls, folder) };
}

function seatAt(
  t: ExecutionContext,
  controller: SecureController,
  tls: ClientTls,
  folder: IdentityFolder,
): Omit<Seat, 'controller'> {
  const etcd = (...args: string[]): string => etcdctl(controller, folder, ...args);
  const records = new RecordServiceClient(controller.address, ...channel(controller.address, tls));
  const networks = new NetworkServiceClient(
    controller.address,
    ...channel(controller.address, controller.admin),
  );
  t.teardown(() => [records, networks].forEach((client) => client.close()));
  const create = (name: string, subnet: string): Promise<unknown> =>
    call(networks.createNetwork.bind(networks), CreateNetworkRequest.fromPartial({ name, subnet }), WITHIN);
  return { etcd, records, networks, create, valueOf: (key) => etcd('get', '--print-value-only', key) };
}

const removed = ({ networks }: Seat, name: string): Promise<unknown> =>
  call(networks.deleteNetwork.bind(networks), { name, force: false }, WITHIN);

test.serial('in etcd a node writes the records of networks, and neither configs nor removals', async (t) => {
  const one = await seat(t);
  const { etcd, valueOf } = one;
  await one.create('blue', '10.100.0.0/16');
  const config = valueOf('/weft/networks/blue/config');
  t.regex(config, /10\.100\.0\.0/);
  for (const key of ['claims/10.100.0.5', 'dns/db', 'endpoints/aa', 'names/db', 'subnets/10.100.5.0-24'])
    t.is(etcd('put', `/weft/networks/blue/${key}`, 'x'), 'OK', key);
  for (const key of [
    'networks/blue/config',
    'networks/other/config',
    'networks/other/subnets/10.101.5.0-24',
    'networks/bluex/subnets/10.101.5.0-24',
    'policies/db',
    'removed/networks/blue',
    'removed/networks/other',
    'allocated',
  ]) {
    t.regex(etcd('put', `/weft/${key}`, 'x'), /permission denied/, key);
    t.regex(etcd('del', `/weft/${key}`), /permission denied/, key);
  }
  t.regex(etcd('del', '--prefix', '/weft/networks/blue/'), /permission denied/);
  t.is(valueOf('/weft/networks/blue/config'), config);

  // A config that an administrator writes by hand is a network like any other.
  const own = one.controller.authority();
  t.is(etcdctl(one.controller, own, 'put', '/weft/networks/hand/config', CONFIG('10.101.0.0/16')), 'OK');
  await until(
    'nodes are let in',
    () => etcd('put', '/weft/networks/hand/subnets/10.101.5.0-24', 'x') === 'OK',
  );
  t.regex(etcd('put', '/weft/networks/hand/config', 'x'), /permission denied/);
});

test.serial('a network that etcd has lost is written back for a node, and no other is touched', async (t) => {
  const one = await seat(t);
  const { records, valueOf } = one;
  await one.create('blue', '10.100.0.0/16');
  const restore = (request: object): Promise<{ written: boolean }> =>
    call(
      records.restoreNetwork.bind(records),
      { name: 'red', config: CONFIG('10.102.0.0/16'), lease: undefined, superseded: undefined, ...request },
      WITHIN,
    );
  const key = '/weft/networks/red/subnets/10.102.5.0-24';
  const foreign = { lease: { key, value: LEASE('h2'), ttlSeconds: 60 } };
  t.regex(await failureOf(restore(foreign)), /^PERMISSION_DENIED lease: it is of node h2/);
  const elsewhere = { key: '/weft/networks/blue/subnets/10.100.5.0-24', value: LEASE('h1'), ttlSeconds: 60 };
  t.regex(await failureOf(restore({ lease: elsewhere })), /^INVALID_ARGUMENT lease/);
  t.regex(await failureOf(restore({ config: '{}' })), /^INVALID_ARGUMENT config of network red/);
  t.is(valueOf('/weft/networks/red/config'), '');

  t.deepEqual(await restore({ lease: { key, value: LEASE('h1'), ttlSeconds: 60 } }), { written: true });
  t.is(valueOf('/weft/networks/red/config'), CONFIG('10.102.0.0/16'), 'word for word');
  t.is(valueOf(key), LEASE('h1'));
  t.is(one.etcd('put', '/weft/networks/red/endpoints/aa', 'x'), 'OK');

  const before = valueOf('/weft/networks/blue/config');
  t.deepEqual(await restore({ name: 'blue' }), { written: false });
  t.is(valueOf('/weft/networks/blue/config'), before);
  await removed(one, 'blue');
  t.deepEqual(await restore({ name: 'blue' }), { written: false }, 'what was removed is not lost');
});

test.serial('a plugin of a node makes a network, and removes it with the last node', async (t) => {
  const one = await seat(t);
  const { records, valueOf, etcd } = one;
  await one.create('blue', '10.100.0.0/16');
  const make = (name: string, subnet: string): Promise<unknown> =>
    call(records.createNetwork.bind(records), { name, config: CONFIG(subnet, 'cni') }, WITHIN);
  const remove = (name: string): Promise<unknown> =>
    call(records.removeNetwork.bind(records), { name }, WITHIN);
  t.regex(await failureOf(make('red', '10.100.8.0/24')), /^FAILED_PRECONDITION .*blue/);
  t.regex(await failureOf(make('blue', '10.103.0.0/16')), /^ALREADY_EXISTS/);
  await make('red', '10.104.0.0/16');
  t.like(JSON.parse(valueOf('/weft/networks/red/config')), {
    Network: '10.104.0.0/16',
    Backend: { Type: 'vxlan', VNI: 5104, Port: 8472 },
    Weft: { MadeBy: 'cni' },
  });

  t.regex(await failureOf(remove('blue')), /^FAILED_PRECONDITION network blue: no plugin made it/);
  const odd = '{"Network":"10.105.0.0/16","Backend":{"Type":"extension"}}';
  const root = one.controller.authority();
  t.is(etcdctl(one.controller, root, 'put', '/weft/networks/odd/config', odd), 'OK');
  t.regex(await failureOf(remove('odd')), /^NOT_FOUND network odd/);
  t.is(valueOf('/weft/networks/odd/config'), odd);
  t.is(etcd('put', '/weft/networks/red/subnets/10.104.5.0-24', LEASE('h2')), 'OK');
  t.regex(await failureOf(remove('red')), /^FAILED_PRECONDITION network red: other nodes have a subnet/);
  // A node can delete the lease of another, and not what that one reports.
  t.is(etcd('del', '/weft/networks/red/subnets/10.104.5.0-24'), '1');
  const other = await one.controller.member('node', 'h2');
  t.is(etcdctl(one.controller, other.folder, 'put', '/weft/nodes/h2/alive', 'i'), 'OK');
  let on = ['red'];
  const session = startSession({
    controllers: [one.controller.address],
    tls: other.tls as Tls,
    hello: { node: 'h2', instance: 'i', version: '1' },
    status: () => Status.fromPartial({ networks: on.map((name) => ({ name })) }),
    handle: () => Promise.reject(new Error('nothing was expected')),
    log,
  });
  t.teardown(() => session.stop());
  await until('its session', () => session.state().state === 'connected');
  t.regex(await failureOf(remove('red')), /^FAILED_PRECONDITION network red: node h2 is on it/);
  on = [];
  const left = remove('red');
  session.changed();
  await left;
  t.is(valueOf('/weft/networks/red/config'), '');
  t.not(valueOf('/weft/removed/networks/red'), '');
});

test.serial('a removal is repeated for a node by the tombstone of a controller alone', async (t) => {
  const one = await seat(t);
  const { records, valueOf, controller } = one;
  const own = controller.authority();
  const root = (...args: string[]): string => etcdctl(controller, own, ...args);
  const repeat = (name: string, tombstone: string): Promise<{ settled: boolean }> =>
    call(records.repeatRemoval.bind(records), { name, tombstone }, WITHIN);
  await one.create('blue', '10.100.0.0/16');
  await one.create('red', '10.102.0.0/16');
  const config = '/weft/networks/blue/config';
  await removed(one, 'red');
  const tombstone = valueOf('/weft/removed/networks/red');
  const { at, proof } = JSON.parse(tombstone) as { at: string; proof: string };
  for (const forged of [
    JSON.stringify({ at, forced: false }),
    JSON.stringify({ at, forced: false, proof: '1.1.x' }),
    // Of another network, and with other revisions.
    tombstone,
    JSON.stringify({ at, forced: false, proof: proof.replace(/^\d+\.\d+/, '1.999') }),
  ])
    t.regex(
      await failureOf(repeat('blue', forged)),
      /^PERMISSION_DENIED network blue: nothing proves/,
      forged,
    );
  t.not(valueOf(config), '');

  // Made anew: the proof is of the one before.
  await one.create('red', '10.102.0.0/16');
  const again = valueOf('/weft/networks/red/config');
  await repeat('red', tombstone);
  t.is(valueOf('/weft/networks/red/config'), again);

  // A copy of etcd from before the removal has no tombstone.
  await removed(one, 'red');
  const last = valueOf('/weft/removed/networks/red');
  t.is(root('del', '/weft/removed/networks/red'), '1');
  t.deepEqual(await repeat('red', last), { settled: true });
  t.is(valueOf('/weft/removed/networks/red'), last);
});
