// An etcd with weft's users that loses its past: what nodes may not write themselves a controller writes back for them.
import { cpSync, existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';

import test, { type ExecutionContext } from 'ava';

import { bare, INFRA, INFRA_IP, type Cluster, type EndpointJson } from '../lab/cluster.js';
import { shareAmongTests } from '../lab/fresh.js';
import { Meter, monotonic } from '../lab/meter.js';
import type { LabProcess } from '../lab/process.js';
import { SecureCluster } from '../lab/secure-cluster.js';

let cluster: SecureCluster;
let lab: Cluster;
let controller: LabProcess;
let meter: Meter;
let copies = 0;

const dataDir = (): string => join(lab.folder, 'controller', 'etcd');

/** etcdctl with a certificate of this folder. */
async function etcdctl(folder: string, name: string, ...args: string[]): Promise<string> {
  const [ca, cert, key] = ['ca.crt', `${name}.crt`, `${name}.key`].map((file) => join(folder, file));
  const { stdout, stderr } = await lab.try(
    INFRA,
    `ETCDCTL_API=3 etcdctl --endpoints https://${INFRA_IP}:2379 --cacert ${ca} --cert ${cert} --key ${key} ${args.join(' ')}`,
  );
  return (stdout + stderr).trim();
}
const root = (...args: string[]): Promise<string> =>
  etcdctl(join(lab.folder, 'controller', 'ca'), 'controller', ...args);
const node = (host: string, ...args: string[]): Promise<string> =>
  etcdctl(cluster.identityOf(host), 'node', ...args);

const keys = async (): Promise<string[]> =>
  (await root('get', '--prefix', '/weft/networks/', '--keys-only')).split('\n').filter((key) => key !== '');
const value = (key: string): Promise<string> => root('get', '--print-value-only', key);

/** Etcd's data as it is now; the controller is started again. */
async function copy(): Promise<string> {
  const to = join(lab.folder, `copy-${++copies}`);
  await controller.stop();
  cpSync(dataDir(), to, { recursive: true });
  controller = await cluster.startController();
  await cluster.ready('h1');
  return to;
}

async function restore(from?: string): Promise<void> {
  await controller.kill();
  rmSync(dataDir(), { recursive: true });
  if (from !== undefined) cpSync(from, dataDir(), { recursive: true });
  controller = await cluster.startController();
}

shareAmongTests(
  test,
  async () => {
    cluster = await SecureCluster.create(2, 'c1', 'c2', 'c3');
    ({ lab } = cluster);
    controller = await cluster.startController();
    await cluster.join('h1', 'h2');
    await cluster.json(INFRA, ['network', 'create', 'blue', '--subnet', '10.100.0.0/16']);
    await cluster.json('h1', ['attach', 'blue', lab.ns('c1')]);
    const { ip } = await cluster.json<EndpointJson>('h2', ['attach', 'blue', lab.ns('c2')]);
    await lab.until('they reach each other', () => lab.reaches('c1', bare(ip)));
    meter = await Meter.start(lab.place('c1'), lab.place('c2'), bare(ip));
  },
  async () => {
    await lab?.lab.down();
  },
);

async function lossless(t: ExecutionContext, since: number): Promise<void> {
  const { lost, sent } = await meter.settled(since);
  t.is(lost, 0, `${lost} of ${sent} pings were lost`);
}

async function isRefused(t: ExecutionContext): Promise<void> {
  for (const key of ['networks/blue/config', 'removed/networks/blue'])
    t.regex(await node('h1', 'put', `/weft/${key}`, 'x'), /permission denied/, key);
}

test.serial('emptied: certificates, networks, subnets and endpoints are back', async (t) => {
  const [before, config] = [await keys(), await value('/weft/networks/blue/config')];
  t.true(before.length >= 5, before.join());
  const since = monotonic();
  await restore();
  await lab.until('all is written back', async () => (await keys()).join() === before.join());
  t.is(await value('/weft/networks/blue/config'), config, 'word for word');
  const revisionOf = async (key: string): Promise<number> => {
    const { kvs } = JSON.parse(await root('get', key, '-w', 'json')) as {
      kvs: { create_revision: number }[];
    };
    return kvs[0]?.create_revision ?? 0;
  };
  const at = await Promise.all(before.filter((key) => key.includes('/subnets/')).map(revisionOf));
  t.true(at.includes(await revisionOf('/weft/networks/blue/config')), 'together with a node’s own subnet');
  await isRefused(t);
  t.regex(await root('get', '--prefix', '/weft/certificates/', '--keys-only'), /certificates/);
  await lossless(t, since);
});

test.serial('restored from an older copy: what was made is back, what was removed is not', async (t) => {
  await cluster.json(INFRA, ['network', 'create', 'red', '--subnet', '10.102.0.0/16']);
  const from = await copy();
  await cluster.json(INFRA, ['network', 'create', 'green', '--subnet', '10.103.0.0/16']);
  const green = await cluster.json<EndpointJson>('h1', ['attach', 'green', lab.ns('c3')]);
  await cluster.json(INFRA, ['network', 'rm', 'red']);
  await lab.until('the endpoint is in etcd', async () =>
    (await keys()).some((key) => key.endsWith(green.id)),
  );
  const before = await keys();
  const since = monotonic();
  await restore(from);
  await lab.until('all is written back, and red is gone', async () => {
    const now = await keys();
    if (now.join() !== before.join()) throw new Error(now.join());
    return true;
  });
  t.not(await value('/weft/removed/networks/red'), '');
  await isRefused(t);
  await lossless(t, since);
  t.true(existsSync(cluster.identityOf('h1')));
});
