// The policies that a node keeps: what the firewall is told, and when.
import test from 'ava';
import fc from 'fast-check';

import { Problems } from '../../../agent/health/index.js';
import { Policies } from '../../../agent/policy/index.js';
import { digestOf, parsePolicy, type Policy, type PolicyItem } from '../../../core/policy/index.js';
import type { Endpoint } from '../../../core/records.js';
import { silentLogger as log } from '../../../daemon/log.js';
import { runs } from '../../core/laws.js';
import { bridged, endpointOf, leaseOf, membershipOf, overlay } from '../../core/records.js';
import { FakeStore } from '../../fakes/store.js';

const DB = parsePolicy({ name: 'db', from: ['role=web'], to: ['role=db'], ports: ['5432'] });
const network = overlay();
const web = (labels = { role: 'web' }) =>
  endpointOf(network, '10.100.9.2/24', { id: '00000000000000aa', node: 'n2', labels });
const db = endpointOf(network, '10.100.5.2/24', {
  ...{ id: '00000000000000bb', node: 'n1', labels: { role: 'db' }, hostIfname: 'wfepdb' },
});

function setUp({
  noBridge,
  networks = [network],
}: { noBridge?: string; networks?: (typeof network | ReturnType<typeof bridged>)[] } = {}) {
  const store = new FakeStore();
  for (const one of networks) store.putNetwork(one);
  const saved: (readonly Policy[])[] = [];
  const items = new Map<string, PolicyItem>();
  let writes = 0;
  const memberships = networks.map((one) => membershipOf(one, leaseOf(one, 5, { node: 'n1' })));
  const problems = new Problems();
  const policies: Policies = new Policies({
    ...{ store, problems, log, node: 'n1' },
    memberships: {
      list: () => memberships,
      get: (name) => memberships.find((one) => one.network.name === name),
    },
    reconciler: {
      changePolicy: () => {
        writes++;
        take();
        return Promise.resolve();
      },
    },
    firewall: { noBridge, denials: () => [{ ip: '10.100.5.2', packets: 7 }] },
    state: { savePolicies: (all) => void saved.push(all) },
  });
  /** As the firewall does with every change of its own. */
  const take = (): void => {
    for (const [key, item] of policies.take().changes)
      if (item === undefined) items.delete(key);
      else items.set(key, item);
  };
  return { store, policies, items, saved, take, problems, memberships, writes: () => writes };
}

test('without policies nothing is told, and nothing is kept', async (t) => {
  const { policies, items, take, writes } = setUp();
  policies.bind(db);
  await policies.refresh();
  take();
  t.is(items.size, 0);
  t.is(writes(), 0);
  t.is(policies.take().rules, undefined);
});

test('a container that is bound is told of with the change that binds it, before any record of it is', async (t) => {
  const { store, policies, items, take } = setUp();
  await store.createPolicy(DB);
  await policies.refresh();
  policies.bind(db);
  t.true(policies.hasNews);
  take();
  const address = items.get('address 10.100.5.2');
  t.true(address?.policy === 'address' && address.target !== undefined);
  t.like(items.get('port wfepdb'), { closed: true });
  // Also where everything is made anew meanwhile: it is in no list yet.
  await store.createPolicy({ ...DB, name: 'more' });
  await policies.refresh();
  t.true(items.has('address 10.100.5.2'));
  policies.release(db);
  take();
  t.false(items.has('address 10.100.5.2'));
});

test('where hosts are closed, their addresses, ports and ways in are told, and what they spared', async (t) => {
  const { store, policies, items } = setUp();
  const n2 = {
    name: 'n2',
    publicIp: '192.0.2.2',
    instance: 'i',
    version: '1',
    startedAt: '2026-01-01T00:00:00Z',
  };
  store.putNode(n2);
  const published = {
    hostIp: '0.0.0.0',
    hostPort: 8080,
    port: 80,
    protocol: 'tcp',
    everywhere: false,
  } as const;
  store.putRecordOf({ ...web(), publish: [published] });
  const closing = parsePolicy({ name: 'hosts', from: ['role=web'], to: ['host'], ports: ['9100'] });
  await store.createPolicy(closing);
  await policies.refresh();
  for (const key of ['address 192.0.2.2', 'address 127.0.0.1']) {
    const address = items.get(key);
    t.true(address?.policy === 'address' && address.host === true && address.target !== undefined, key);
  }
  const ways = [...items.values()].filter((item) => item.policy === 'way');
  t.is(ways.length, 1);
  t.not(ways[0]?.target, undefined);
  t.deepEqual(items.get('published 192.0.2.2 tcp 8080'), {
    ...{ policy: 'published', ip: '192.0.2.2', protocol: 'tcp', port: 8080 },
  });
  // To no address that is known: it is this host's.
  t.deepEqual(policies.denials(), [{ policy: 'hosts', packets: 7 }]);
  // A port of every node of the network, and one of an address.
  store.putNode({ ...n2, name: 'n3', publicIp: '192.0.2.3', publicIp6: '2001:db8::3' });
  store.putNode({ ...n2, name: 'n4', publicIp: '192.0.2.4' });
  store.putLease(leaseOf(network, 7, { node: 'n3' }));
  const more = [
    { ...published, everywhere: true },
    { ...published, hostIp: '192.0.2.9', hostPort: 81, protocol: 'udp' as const },
  ];
  const change = { kind: 'endpoint', network: 'blue', id: web().id } as const;
  await policies.handle([{ ...change, after: { ...web(), publish: more } }]);
  t.deepEqual(
    [...items.keys()].filter((key) => key.startsWith('published ')),
    ['published 192.0.2.3 tcp 8080', 'published 192.0.2.9 udp 81'],
  );
  await policies.handle([{ ...change, before: web() }]);
  t.false(items.has('published 192.0.2.3 tcp 8080'));
  await store.removePolicy('hosts');
  await policies.handle([{ kind: 'policy', name: 'hosts', before: closing }]);
  t.is(items.size, 0);
});

test('an address that moves to a container is closed as its own', async (t) => {
  const { store, policies, items, take } = setUp();
  await store.createPolicy(DB);
  await policies.refresh();
  policies.bind({ ...db, allowedAddresses: ['10.100.7.200/32', '10.9.0.0/16'] });
  take();
  const found = items.get('address 10.100.7.200');
  t.true(found?.policy === 'address' && found.target !== undefined);
  t.deepEqual(
    [...items.keys()].filter((key) => key.startsWith('address 10.9.')),
    [],
  );
});

test('containers of other nodes are followed by their records, and policies by theirs', async (t) => {
  const { store, policies, items, saved } = setUp();
  await store.createPolicy(DB);
  await policies.refresh();
  t.deepEqual(saved, [[DB]]);
  policies.bind(db);
  store.putRecordOf(web());
  const change = { kind: 'endpoint', network: 'blue', id: web().id } as const;
  await policies.handle([{ ...change, after: web() }]);
  t.true(items.has('address 10.100.9.2'));
  t.is([...items.values()].filter(({ policy }) => policy === 'verdict').length, 1);
  // Beside the change of a network that is none for policies.
  await policies.handle([
    { kind: 'network', name: 'blue', before: network, after: network },
    { ...change, before: web(), after: web({ role: 'none' }) },
  ]);
  t.false(items.has('address 10.100.9.2'));
  t.is([...items.values()].filter(({ policy }) => policy === 'verdict').length, 0);
  await store.removePolicy('db');
  await policies.handle([{ kind: 'policy', name: 'db', before: DB }]);
  t.is(items.size, 0);
  t.deepEqual(saved.at(-1), []);
  t.is(policies.report.digest, digestOf([]));
});

test('the policies of the last run are in force until etcd has been read', async (t) => {
  const { store, policies, items, take } = setUp();
  store.isSynced = false;
  policies.restore([DB]);
  policies.bind(db);
  await policies.refresh();
  take();
  t.true(items.has('address 10.100.5.2'));
});

const ALL = parsePolicy({ name: 'all', from: ['any'], to: ['any'], ports: [] });

for (const [what, noBridge, why] of [
  ['a firewall that sees no bridges', 'iptables sees nothing', /iptables sees nothing/],
  ['a network that the node only bridges', undefined, /only bridges them/],
] as const)
  test(`what cannot be enforced is a problem, and in the report: ${what}`, async (t) => {
    const lan = bridged('bridge', { name: 'lan', subnet: '10.120.0.0/24' });
    const { store, policies, problems } = setUp({
      ...(noBridge !== undefined && { noBridge }),
      networks: [lan],
    });
    policies.bind({ ...db, network: 'lan', ip: '10.120.0.9/24' });
    await policies.refresh();
    t.deepEqual(policies.report.gaps, []);
    await store.createPolicy(ALL);
    await policies.refresh();
    t.regex(policies.report.gaps[0]?.why ?? '', why);
    t.is(problems.list().length, 1);
    await store.removePolicy('all');
    await policies.refresh();
    t.deepEqual(policies.report.gaps, []);
    t.is(problems.list().length, 0);
  });

test('what was dropped is told with the policy that closes the container', async (t) => {
  const { store, policies } = setUp();
  await store.createPolicy(DB);
  await policies.refresh();
  policies.bind(db);
  t.deepEqual(policies.denials(), [{ endpoint: db.id, network: 'blue', packets: 7, policy: 'db' }]);
});

const POLICIES: readonly Policy[] = [
  DB,
  ALL,
  parsePolicy({ name: 'lb', from: ['role=db', 'cidr=10.0.0.0/8'], to: ['role=web'], ports: ['udp/53'] }),
];

const local = (n: number, role: string): Endpoint => ({
  ...{ ...db, id: `00000000000000b${n}`, ip: `10.100.5.${n + 2}/24`, hostIfname: `wfepb${n}` },
  labels: { role },
});
const remote = (n: number, role: string): Endpoint => ({
  ...{ ...web(), id: `00000000000000a${n}`, ip: `10.100.9.${n + 2}/24` },
  labels: { role },
});

const happening = fc.record({
  what: fc.constantFrom('here', 'there', 'policy', 'taken'),
  n: fc.nat({ max: 2 }),
  role: fc.constantFrom('web', 'db', 'none', undefined),
});

const sorted = (items: ReadonlyMap<string, PolicyItem>): [string, PolicyItem][] =>
  [...items].toSorted(([a], [b]) => (a < b ? -1 : 1));

test('whatever comes and goes, in whatever order: the items are those of what is there', async (t) => {
  await fc.assert(
    fc.asyncProperty(fc.array(happening, { maxLength: 25 }), async (happenings) => {
      const [here, there] = [new Map<number, Endpoint>(), new Map<number, Endpoint>()];
      const inForce = new Set<Policy>();
      const one = setUp();
      await one.policies.refresh();
      for (const { what, n, role } of happenings) {
        if (what === 'taken') one.take();
        if (what === 'here' && role !== undefined) {
          here.set(n, local(n, role));
          one.policies.bind(local(n, role));
        } else if (what === 'here') {
          here.delete(n);
          one.policies.release(local(n, 'none'));
        }
        if (what === 'there') {
          const { network: name, id } = remote(n, '');
          if (role === undefined) {
            there.delete(n);
            await one.store.deleteEndpoint(name, id);
          } else {
            there.set(n, remote(n, role));
            one.store.putRecordOf(remote(n, role));
          }
          const after = there.get(n);
          await one.policies.handle([
            { kind: 'endpoint', network: name, id, ...(after !== undefined && { after }) },
          ]);
        }
        const policy = POLICIES[n];
        if (what !== 'policy' || policy === undefined) continue;
        if (inForce.delete(policy)) await one.store.removePolicy(policy.name);
        else {
          inForce.add(policy);
          await one.store.createPolicy(policy);
        }
        await one.policies.handle([{ kind: 'policy', name: policy.name }]);
      }
      const fresh = setUp();
      for (const policy of inForce) await fresh.store.createPolicy(policy);
      for (const endpoint of there.values()) fresh.store.putRecordOf(endpoint);
      await fresh.policies.refresh();
      for (const endpoint of here.values()) fresh.policies.bind(endpoint);
      for (const { take } of [one, fresh]) take();
      t.deepEqual(sorted(one.items), sorted(fresh.items));
    }),
    runs(60),
  );
});
