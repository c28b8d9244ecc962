// The state directory of release 0.1 is read, and written as it reads it.
//
// An agent of that release wrote the files in release-0.1/, with an overlay, a bridge and a parent's LAN, endpoints on each, a
// reservation, a network of Docker's, pipework attachments, a loan and a container of `weft run`. Only host names, the boot
// id and the container's environment were replaced.
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import test, { type ExecutionContext } from 'ava';

import { NetnsResolvConf } from '../../../agent/dns/netns-resolv-conf.js';
import { AttachmentState } from '../../../agent/pipework/attachment-state.js';
import { ContainerState } from '../../../agent/runtime/container-state.js';
import { InterfaceLoanFiles } from '../../../agent/state/interface-loans.js';
import { State } from '../../../agent/state/state.js';
import { silentLogger } from '../../../daemon/log.js';
import { PluginState } from '../../../plugin/cnm/plugin-state.js';

const RELEASE = fileURLToPath(new URL('../../../../test/agent/state/release-0.1', import.meta.url));
const BOOT = '5f4dcc3b-0b1e-4a59-9d5e-0c6f1a2b3c4d';

function copy(t: ExecutionContext): string {
  const path = mkdtempSync(join(tmpdir(), 'weft-release-'));
  t.teardown(() => rmSync(path, { recursive: true, force: true }));
  cpSync(RELEASE, path, { recursive: true });
  return path;
}

/** Adds the fields of this release: the manager of endpoints and reservations, and the maker of a network. */
function withManagers(files: ReturnType<typeof contents>): ReturnType<typeof contents> {
  return Object.fromEntries(
    Object.entries(files).map(([name, value]) => {
      const record = value as { door?: string; network: { docker?: boolean } };
      if (name.startsWith('endpoints/')) return [name, { ...record, manager: record.door ?? 'weft' }];
      if (name.startsWith('reservations/')) return [name, { ...record, manager: 'docker' }];
      if (name.startsWith('containers/')) return [name, { ...record, attachments: withAllowed(value) }];
      if (!name.startsWith('networks/') || record.network.docker !== true) return [name, value];
      const { docker: _docker, ...network } = record.network;
      return [name, { ...record, network: { ...network, madeBy: 'docker' } }];
    }),
  );
}

/** The attachments of a container's file, which say of each that nothing else is allowed. */
const withAllowed = (value: unknown): object[] =>
  (value as { attachments: { request: object }[] }).attachments.map((one) => ({
    ...one,
    request: { ...one.request, allowedAddresses: [], labels: {} },
  }));

/** The content of each file by path, but for the lease id of etcd, which no reader ever used. */
function contents(folder: string): Record<string, unknown> {
  const names = readdirSync(folder, { recursive: true, encoding: 'utf8' }).toSorted();
  return Object.fromEntries(
    names
      .filter((name) => name.endsWith('.json'))
      .map((name) => [
        name,
        JSON.parse(readFileSync(join(folder, name), 'utf8'), (key, value: unknown) =>
          key === 'etcdLease' ? undefined : value,
        ),
      ]),
  );
}

test('every file of release 0.1 is read, and written as that release reads it', (t) => {
  const path = copy(t);
  const before = contents(path);
  t.is(Object.keys(before).length, 20);
  const torn = (file: string, why: string): void => t.fail(`${file}: ${why}`);

  const state = new State(path);
  const loaded = state.load();
  t.like(loaded, { instance: 'b028a2f0-c540-4b90-8098-abf1248057cd', fresh: false, torn: [] });
  t.deepEqual(loaded.networks.map(({ network }) => network.name).toSorted(), ['blue', 'dock', 'lan', 'web']);
  t.is(loaded.endpoints.length, 4);
  t.is(loaded.reservations.length, 2);
  for (const network of loaded.networks) state.saveNetwork(network);
  for (const endpoint of loaded.endpoints) state.saveEndpoint(endpoint);
  for (const reservation of loaded.reservations) state.saveReservation(reservation);

  const attachmentState = new AttachmentState(path);
  const { attachments, hostInterfaces } = attachmentState.load(torn);
  t.deepEqual(attachments.map(({ name }) => name).toSorted(), ['p1', 'p2']);
  t.deepEqual(hostInterfaces.map(({ name }) => name).toSorted(), ['br1', 'eth1']);
  for (const attachment of attachments) attachmentState.save(attachment);
  for (const one of hostInterfaces) attachmentState.saveHostInterface(one);

  const containerState = new ContainerState(path, join(path, 'run'));
  const { records, torn: tornContainers } = containerState.load();
  t.deepEqual(tornContainers, []);
  t.like(records[0], { name: 'worker', restart: 'always' });
  for (const record of records) containerState.save(record);

  const loans = new InterfaceLoanFiles(path, BOOT);
  t.like(loans.get('eth1'), { bridge: 'wfp-eth1', done: true });
  for (const loan of loans.list()) loans.put(loan);

  const plugin = new PluginState(join(path, 'docker'));
  t.deepEqual(plugin.load(), []);
  for (const table of [plugin.pools, plugin.networks, plugin.endpoints]) t.is(table.list().length, 1);
  for (const pool of plugin.pools.list()) plugin.pools.put(pool);
  for (const network of plugin.networks.list()) plugin.networks.put(network);
  for (const endpoint of plugin.endpoints.list()) plugin.endpoints.put(endpoint);

  // Every field of release 0.1 is present again, but for the networks' `docker`, which their config has, too.
  t.deepEqual(contents(path), withManagers(before));
});

test('a loan of an earlier boot is dropped, and a resolv.conf of release 0.1 is restored', (t) => {
  const path = copy(t);
  t.deepEqual(new InterfaceLoanFiles(path, 'another').list(), []);
  t.false(existsSync(join(path, 'ports', 'eth1.json')));
  const log = { ...silentLogger, warn: (text: string) => t.fail(text) };
  const netns = join(path, 'netns');
  const { written } = JSON.parse(readFileSync(join(path, 'resolv-conf', 'c1.json'), 'utf8')) as {
    written: string;
  };
  const file = join(netns, 'c1', 'resolv.conf');
  mkdirSync(join(netns, 'c1'), { recursive: true });
  writeFileSync(file, written);
  new NetnsResolvConf({ stateDir: path, log, folder: netns }).keepOnly([]);
  t.false(existsSync(file));
  t.deepEqual(readdirSync(join(path, 'resolv-conf')), []);
});
