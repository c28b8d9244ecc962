// A Docker network that is named while its record cannot be saved.
import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import test from 'ava';

import type { PluginHost, PluginProblem } from '../../daemon/plugin-host.js';
import { silentLogger } from '../../daemon/log.js';
import { PluginState } from '../../plugin/cnm/plugin-state.js';
import { Networks } from '../../plugin/cnm/network.js';
import { ADDRESS_SPACE } from '../../plugin/cnm/protocol.js';
import { overlay } from '../core/records.js';
import { until } from '../lab/wait.js';

test('a name that cannot be saved is a problem, and is set once it can be saved', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'weft-plugin-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const state = new PluginState(folder);
  state.load();
  state.pools.put({
    ...{ id: 'pool', family: 4, subnet: '10.9.0.0/16', hostSubnet: '10.9.1.0/24', hostPrefix: 24 },
    ...{ auto: false, aux: [], released: false, createdAt: new Date().toISOString() },
  });
  const problems = new Map<string, string>();
  const ended = new AbortController();
  t.teardown(() => ended.abort());
  const network = overlay({ name: 'green', subnet: '10.9.0.0/16' });
  const host = {
    log: silentLogger,
    signal: ended.signal,
    networks: {
      list: () => [],
      get: () => undefined,
      check: () => Promise.resolve(network),
      create: () => Promise.resolve(network),
      join: () => Promise.resolve(undefined),
      leave: () => Promise.resolve(),
    },
    problem: ({ kind, id = '' }: PluginProblem, problem: { fix: string } | undefined) =>
      problem === undefined ? problems.delete(`${kind} ${id}`) : problems.set(`${kind} ${id}`, problem.fix),
  } as unknown as PluginHost;
  let say = (_name: string): void => {};
  const name = new Promise<string>((resolve) => (say = resolve));
  const networks = new Networks({ host, state, nameOf: () => name, hasNames: () => true });
  await networks.create({
    NetworkID: 'n1',
    Options: {},
    IPv4Data: [
      { AddressSpace: ADDRESS_SPACE, Pool: '10.9.0.0/16', Gateway: '10.9.1.1/24', AuxAddresses: {} },
    ],
    IPv6Data: [],
  });
  const records = join(folder, 'networks');
  renameSync(records, `${records}.away`);
  writeFileSync(records, '');
  say('green');
  await until('it is a problem', () => problems.get('plugin-network n1')?.includes('tried again'));
  rmSync(records);
  renameSync(`${records}.away`, records);
  await until('it has its name', () => state.networks.get('n1')?.state === 'ready');
  t.is(state.networks.get('n1')?.network, 'green');
  t.is(problems.size, 0);
});
