// Which nodes do not enforce what they should, from what they report.
import test from 'ava';

import { gapsOf, enforcesNone } from '../../controller/policy-gaps.js';
import { PolicyWords } from '../../controller/policy-words.js';
import { digestOf, parsePolicy } from '../../core/policy/index.js';
import { Status, type StatusPolicies } from '../../proto/gen/weft/v1/types.js';
import { endpointOf, overlay } from '../core/records.js';
import { FakeStore } from '../fakes/store.js';

const WEB = parsePolicy({ name: 'web', from: ['role=web'], to: ['any'], ports: [] });

async function world(reported: Record<string, Partial<StatusPolicies> | undefined>) {
  const store = new FakeStore();
  store.putNetwork(overlay());
  for (const name of Object.keys(reported)) {
    store.putNode({ name, instance: name, publicIp: '192.0.2.1', version: '0.1.0', startedAt: '' });
  }
  await store.createPolicy(WEB);
  const reportOf = (name: string) => ({
    at: 0,
    status: Status.fromPartial({
      node: { version: '0.1.0' },
      networks: [{ name: 'blue' }],
      ...(reported[name] && { policies: reported[name] }),
    }),
  });
  return { store, reports: { reportOf } };
}

const now = { digest: digestOf([WEB]), isolated: [], gaps: [] };

test('a node that keeps the present policies has no gap', async (t) => {
  t.deepEqual(gapsOf(await world({ h1: now })), []);
});

test('who is behind, unable or too old is named', async (t) => {
  const sources = await world({
    behind: { ...now, digest: digestOf([]) },
    isolated: { ...now, isolated: ['blue'] },
    unable: {
      ...now,
      gaps: [{ what: 'policies', why: 'iptables', fix: '', consequences: [], broken: [], isCause: false }],
    },
    old: undefined,
  });
  const found = Object.fromEntries(gapsOf(sources).map(({ node: name, why }) => [name, why]));
  t.deepEqual(Object.keys(found).toSorted(), ['behind', 'isolated', 'old', 'unable']);
  t.regex(found['old'] ?? '', /0\.1\.0.*knows no policies/);
  t.regex(found['unable'] ?? '', /iptables/);
  t.true(enforcesNone(sources.store, sources.reports.reportOf('old').status));
  t.false(enforcesNone(sources.store, sources.reports.reportOf('behind').status));
  await sources.store.removePolicy('web');
  t.false(enforcesNone(sources.store, sources.reports.reportOf('old').status));
});

test('a word means one endpoint, an address or a node, or it is refused with what it means', (t) => {
  const store = new FakeStore();
  store.putNetwork(overlay());
  for (const [id, address] of [
    ['00000000000000aa', '10.100.5.2/24'],
    ['00000000000000bb', '10.100.5.3/24'],
  ] as const)
    store.putRecordOf(endpointOf(overlay(), address, { id, name: 'db' }));
  const words = new PolicyWords(store.view);
  t.deepEqual(words.find('198.51.100.1').ips.map(String), ['198.51.100.1']);
  t.deepEqual(words.find('00000000000000bb').ips.map(String), ['10.100.5.3']);
  t.deepEqual(words.find('02:77:0a:64:05:02').ips.map(String), ['10.100.5.2'], 'as weft inspect finds');
  t.deepEqual(words.find('pid:4711', ['00000000000000bb']).ips.map(String), ['10.100.5.3']);
  t.throws(() => words.find('db'), { message: /db means 2 endpoints: .*00000000000000bb/ });
  t.throws(() => words.find('nobody'), { message: /no endpoint, container or node/ });
});
