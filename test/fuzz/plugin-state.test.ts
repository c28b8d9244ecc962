// Garbage in the Docker plugin's state files.
//
// Each file is read, or put aside with the reason, and what was read can be used.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import test from 'ava';
import fc from 'fast-check';

import { IpNetwork } from '../../core/address.js';
import { isAddressOf, PluginState } from '../../plugin/cnm/plugin-state.js';
import { patience, spoilt, text, times, unclear } from './garbage.js';
import { idOf } from './plugin-requests.js';

const createdAt = '2026-01-01T00:00:00.000Z';
const SAMPLES = {
  pools: {
    ...{
      id: 'pool',
      family: 4,
      subnet: '10.9.0.0/16',
      hostSubnet: '10.9.1.0/24',
      hostPrefix: 24,
      auto: false,
    },
    ...{
      within: '10.9.1.128/25',
      name: 'dock',
      aux: ['10.9.1.9'],
      network: idOf(1),
      released: false,
      createdAt,
    },
  },
  networks: {
    ...{ id: idOf(1), pool: 'pool', state: 'ready', network: 'dock', createdAt },
    options: { mtu: 1400, vni: 4097, port: 8472, internal: false, masquerade: true },
  },
  endpoints: {
    ...{ id: idOf(2), network: idOf(1), endpoint: '0123456789abcdef', ip: '10.9.1.2/24', ip6: 'fd42::2/64' },
    ...{ mac: '02:42:0a:09:00:05', sandbox: '/run/netns/x', named: true, createdAt },
  },
};

test('Docker’s pools, networks and endpoints', (t) => {
  t.timeout(patience(60));
  const root = mkdtempSync(join(tmpdir(), 'weft-fuzz-'));
  t.teardown(() => rmSync(root, { recursive: true, force: true }));
  const kinds = Object.entries(SAMPLES);
  let n = 0;
  const files = fc
    .constantFrom(...kinds)
    .chain(([kind, sample]) =>
      fc.tuple(
        fc.constant(kind),
        fc.constant(sample.id),
        fc.oneof({ weight: 5, arbitrary: spoilt(sample).map((one) => JSON.stringify(one) ?? '') }, text),
      ),
    );
  fc.assert(
    fc.property(files, ([kind, id, written]) => {
      const folder = join(root, `${++n}`);
      mkdirSync(join(folder, kind), { recursive: true });
      writeFileSync(join(folder, kind, `${id}.json`), written);
      const memory = new PluginState(folder);
      const torn = memory.load();
      for (const { why } of torn) t.is(unclear(why), undefined, why);
      t.is(
        memory.pools.list().length +
          memory.networks.list().length +
          memory.endpoints.list().length +
          torn.length,
        1,
      );
      // One unusable file would make every request of Docker's for a pool or an address fail.
      for (const { subnet, hostSubnet, within } of memory.pools.list())
        for (const prefix of [subnet, hostSubnet, within ?? subnet])
          t.true(IpNetwork.parse(prefix).toString() !== '');
      for (const endpoint of memory.endpoints.list()) t.false(isAddressOf(endpoint, 'none'));
      rmSync(folder, { recursive: true });
    }),
    { numRuns: times(1000), includeErrorInReport: true },
  );
});
