// Policies in weft's nftables tables: written, changed by element, repaired. What they do to traffic is in the cluster's tests.

import test from 'ava';

import { agentMetrics } from '../../agent/health/metrics.js';
import { Problems } from '../../agent/health/problems.js';
import { openFirewall, type NodeFirewallDriver } from '../../agent/kernel/firewall/index.js';
import { FirewallTarget } from '../../agent/reconcile/firewall-target.js';
import { compareTarget } from '../../agent/reconcile/target.js';
import { IpNetwork } from '../../core/address.js';
import type { Firewall } from '../../core/firewall.js';
import type { PolicyItem } from '../../core/policy/index.js';
import { silentLogger as log } from '../../daemon/log.js';
import { FakeKernel } from '../fakes/kernel.js';
import { FakePolicies } from '../fakes/policies.js';
import { sh } from './firewall-world.js';

let firewall: NodeFirewallDriver;
const debugged: string[] = [];
test.before(async () => {
  firewall = await openFirewall('nftables', {
    log: { debug: (message, fields) => void debugged.push(`${message} ${JSON.stringify(fields)}`) },
  });
});
test.after.always(() => firewall.close());

const [ADDRESS, ADDRESS6, ALL, PORTS, PORT, PORTS_MORE, ...OF_HOSTS]: PolicyItem[] = [
  { policy: 'address', ip: '10.1.0.2', peer: 0x1_0001, target: 0xfffe_fffe },
  { policy: 'address', ip: 'fd00:1::3', peer: 0xfffe_0001 },
  { policy: 'verdict', peer: 0x1_0001, target: 0xfffe_fffe },
  { policy: 'verdict', peer: 0x1_0001, target: 0x1_000a, ports: { protocol: 'tcp', first: 80, last: 90 } },
  { policy: 'port', link: 'wfepa', gateway: '02:77:0a:01:00:01', closed: true },
  { policy: 'verdict', peer: 0x1_0001, target: 0x1_000a, ports: { protocol: 'udp', first: 53, last: 53 } },
  { policy: 'address', ip: '192.0.2.12', peer: 0x1_0002, target: 0x2_0003, host: true },
  { policy: 'address', ip: '2001:db8::12', target: 0x2_0003, host: true },
  { policy: 'way', link: 'wfbr1', target: 0x2_0003 },
  { policy: 'way', link: 'wfbr2' },
  { policy: 'published', ip: '192.0.2.12', protocol: 'tcp', port: 8080 },
  { policy: 'published', ip: '2001:db8::12', protocol: 'udp', port: 53 },
] as const;

const desired = (version: number, ...items: (PolicyItem | undefined)[]): Firewall => ({
  networks: [
    {
      name: 'blue',
      links: ['wfbr1', 'wfvx1'],
      tunnels: ['wfvx1'],
      prefixes: [IpNetwork.parse('10.1.0.0/16'), IpNetwork.parse('fd00:1::/48')],
      internal: false,
      masquerade: true,
    },
  ],
  containers: new Map(),
  policy: {
    ranges: [
      { family: 4, first: '0.0.0.0', last: '9.255.255.255', peer: 0x2_0002 },
      { family: 4, first: '10.0.0.0', last: '10.255.255.255', peer: 0x2_0003 },
      { family: 4, first: '192.0.2.7', last: '192.0.2.7', peer: 0x2_0004 },
      { family: 6, first: '::', last: 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff', peer: 0x2_0002 },
    ],
  },
  policyItems: new Map(items.flatMap((item, i) => (item === undefined ? [] : [[`${i}`, item] as const]))),
  itemsRevision: version,
});

const NOTHING = { repaired: [], applied: [], problems: [] };
const FIRST = [ADDRESS, ADDRESS6, ALL, PORTS, PORT];

/** A driver that knows nothing of what is there. */
async function freshReport(state: Firewall): Promise<unknown> {
  const other = await openFirewall('nftables');
  try {
    return await other.ensure(state);
  } finally {
    other.close();
  }
}

test.serial('what is written is read back as the same, by a later run as well', async (t) => {
  await firewall.ensure(desired(1, ...FIRST));
  t.deepEqual(await freshReport(desired(1, ...FIRST)), NOTHING);
  const listed = await sh('nft list ruleset');
  for (const element of [
    '10.1.0.2 : fffe:fffe',
    '0x00010001 . fffe:fffe : return',
    '0x00010001 . 1:a . tcp . 80-90 : return',
    '"wfepa" : 02:77:0a:01:00:01',
  ])
    t.true(listed.includes(element), `${element} is missing in\n${listed}`);
  // People save their rules, and load them again.
  await sh('nft list table inet weft | unshare --net nft -f -');
});

test.serial('closed hosts have rules and elements of their own', async (t) => {
  const closed = (version: number, ...items: (PolicyItem | undefined)[]): Firewall => {
    const plain = desired(version, ...items);
    return { ...plain, policy: { ranges: plain.policy?.ranges ?? [], closesHosts: true } };
  };
  await firewall.ensure(closed(21, ...FIRST));
  const state = closed(22, ...FIRST, ...OF_HOSTS);
  debugged.length = 0;
  t.deepEqual(await firewall.changeItems(state, OF_HOSTS, []), NOTHING);
  // By messages of their own.
  t.deepEqual(debugged, []);
  t.deepEqual(await freshReport(state), NOTHING);
  const listed = await sh('nft list ruleset');
  for (const text of ['192.0.2.12 : 2:3', '"wfbr1" : 2:3', '192.0.2.12 . tcp . 8080', 'jump outward'])
    t.true(listed.includes(text), `${text} is missing in\n${listed}`);
  await sh('nft list table inet weft | unshare --net nft -f -');
  await firewall.ensure(desired(23, ...FIRST));
  t.notRegex(await sh('nft list ruleset'), /outward|inward/);
});

test.serial('thousands of items are read back as the same', async (t) => {
  const many = Array.from({ length: 3000 }, (_, n): PolicyItem => {
    const number = 0x1_0001 + n;
    return {
      policy: 'verdict',
      peer: number,
      target: number,
      ports: { protocol: 'tcp', first: 80, last: 80 + (n % 2) },
    };
  });
  await firewall.ensure(desired(9, ...many));
  t.deepEqual(await freshReport(desired(9, ...many)), NOTHING);
});

test.serial('an item comes and goes by its own elements', async (t) => {
  await firewall.ensure(desired(1, ...FIRST));
  const [more, gone] = [PORTS_MORE, ADDRESS];
  if (more === undefined || gone === undefined) return t.fail();
  const next = [undefined, ADDRESS6, ALL, PORTS, PORT, more];
  await sh('nft add table ip others');
  await firewall.ensure(desired(1, ...FIRST));
  debugged.length = 0;
  t.deepEqual(await firewall.changeItems(desired(2, ...next), [more], [gone]), NOTHING);
  const back = [ADDRESS, ADDRESS6, ALL, PORTS, PORT, more];
  t.deepEqual(await firewall.changeItems(desired(3, ...back), [gone], []), NOTHING);
  t.deepEqual(await freshReport(desired(3, ...back)), NOTHING);
  t.deepEqual(await firewall.changeItems(desired(4, ...next), [], [gone]), NOTHING);
  const ranges = [ALL, PORTS].filter((item) => item !== undefined);
  const few = [undefined, ADDRESS6, undefined, undefined, PORT, more];
  t.deepEqual(await firewall.changeItems(desired(5, ...few), [], ranges), NOTHING);
  t.deepEqual(await firewall.changeItems(desired(6, ...next), ranges, []), NOTHING);
  // Also where a comparison comes first.
  t.deepEqual(await firewall.ensure(desired(7, ...back), { added: [gone], removed: [] }), NOTHING);
  t.deepEqual(await firewall.ensure(desired(8, ...next), { added: [], removed: [gone] }), NOTHING);
  // By messages of their own, and not by a comparison of everything.
  t.deepEqual(debugged, []);
  t.deepEqual(await freshReport(desired(2, ...next)), NOTHING);
  const listed = await sh('nft list ruleset');
  t.true(listed.includes('udp . 53 : return'));
  t.false(listed.includes('10.1.0.2 :'));
  await sh('nft delete table ip others');
});

test.serial('a container is closed also where somebody looks at the difference as it is bound', async (t) => {
  const {
    policy: rules,
    policyItems: _items,
    itemsRevision: _version,
    containers: _none,
    ...others
  } = desired(1);
  const policies = new FakePolicies(rules);
  const target = new FirewallTarget({
    ...{ kernel: Object.assign(new FakeKernel(), { firewall }), log },
    ...{ problems: new Problems(), metrics: agentMetrics(), policies },
  });
  target.rules = others;
  target.keepItems = false;
  await compareTarget(target);
  policies.comes(['address 10.1.0.2', ADDRESS]);
  t.true((await target.difference()).length > 0);
  await target.change({ added: [], removed: [] });
  t.true((await sh('nft list ruleset')).includes('10.1.0.2 : fffe:fffe'));
  t.deepEqual(await target.difference(), []);
});

test.serial('what was flushed is repaired; without policies nothing of them is there', async (t) => {
  await firewall.ensure(desired(1, ...FIRST));
  await sh(
    'nft flush map inet weft verdicts; nft flush chain bridge weft detour; nft flush set bridge weft shut',
  );
  const { repaired } = await firewall.ensure(desired(1, ...FIRST));
  t.true(
    repaired.some((words) => words.includes('verdicts')),
    repaired.join('\n'),
  );
  t.true(
    repaired.some((words) => words.includes('detour')),
    repaired.join('\n'),
  );
  t.deepEqual(await freshReport(desired(1, ...FIRST)), NOTHING);
  const { policy: _policy, policyItems: _items, itemsRevision: _version, ...without } = desired(1);
  await firewall.ensure(without);
  t.notRegex(await sh('nft list ruleset'), /guarded|verdicts|detour|admission|judge/);
});

test.serial('until the records are complete, items of an earlier run stay', async (t) => {
  await firewall.ensure(desired(1, ...FIRST));
  t.deepEqual(await freshReport({ ...desired(1, PORT), keepItems: true }), NOTHING);
  t.true((await sh('nft list ruleset')).includes('10.1.0.2 : fffe:fffe'));
});
