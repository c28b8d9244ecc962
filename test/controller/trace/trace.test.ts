// Traces of a packet.
import test from 'ava';

import { destinationOf, endOf, ownerOf, type TraceEnd, whole } from '../../../controller/trace/ends.js';
import type { NodeView } from '../../../controller/trace/hops.js';
import { type Evidence, judge } from '../../../controller/trace/judge.js';
import { deniedBy } from '../../../controller/trace/trace-service.js';
import { IpAddress, IpNetwork } from '../../../core/address.js';
import { WeftError } from '../../../core/errors.js';
import { parsePolicy } from '../../../core/policy/index.js';
import type { Endpoint, NodeRecord } from '../../../core/records.js';
import {
  type ProbeDrop,
  type ProbeObstacle,
  ProbePoint,
  ProbeSighting,
  type ProbeView,
} from '../../../proto/gen/weft/v1/trace.js';
import type { StoredLease } from '../../../store/store.js';
import { endpointOf, overlay } from '../../core/records.js';
import { FakeStore } from '../../fakes/store.js';
import { endpoint, networkWith, node } from '../records.js';

// What the words of a trace mean.

const WEB = endpoint('aaaaaaaaaaaaaaaa', 'blue', 'h1', {
  ...{ name: 'web', target: 'docker:web', ip: '10.100.5.2/24', ip6: 'fd42::5:2/64' },
  publish: [{ hostIp: '0.0.0.0', hostPort: 8080, port: 80, protocol: 'tcp', everywhere: false }],
});
const WEB_GREEN = endpoint('bbbbbbbbbbbbbbbb', 'green', 'h1', {
  ...{ name: 'web-g', target: 'docker:web', ip: '10.101.5.2/24' },
});
const TWICE = [
  endpoint('cccccccccccccccc', 'blue', 'h1', { name: 'twice', ip: '10.100.5.3/24' }),
  endpoint('dddddddddddddddd', 'green', 'h2', { name: 'twice', ip: '10.101.6.3/24' }),
];
/** Its name is that of a node, and its target that of another endpoint. */
const CALLED_H2 = endpoint('eeeeeeeeeeeeeeee', 'blue', 'h2', {
  name: 'h2',
  target: 'netns:/run/netns/web',
  ip: '10.100.6.4/24',
});

const LEASES: StoredLease[] = [
  ['10.100.5.0/24', 'h1'],
  ['10.100.6.0/24', 'h2'],
  ['10.100.7.0/24', undefined],
].map(([subnet = '', on], i) => ({
  ...{ network: 'blue', subnet: IpNetwork.parse(subnet), publicIp: IpAddress.parse(`192.0.2.1${i + 1}`) },
  ...{ backendType: 'vxlan', reservation: false, etcdLease: '1' },
  ...(on !== undefined && { node: on }),
}));

const byId = (all: readonly Endpoint[]) => new Map(all.map((one) => [one.id, one]));
const nodes = new Map<string, NodeRecord>(
  ['h1', 'h2', 'h3'].map((name, i) => [name, node(name, `192.0.2.1${i + 1}`)]),
);
const ALL = [WEB, WEB_GREEN, ...TWICE, CALLED_H2];
const cluster = {
  nodes,
  networks: new Map(
    [networkWith('blue', '10.100.0.0/16', 1), networkWith('green', '10.101.0.0/16', 2)].map((one) => [
      one.name,
      one,
    ]),
  ),
  endpoints: new Map(
    ['blue', 'green'].map((network) => [network, byId(ALL.filter((one) => one.network === network))]),
  ),
  leases: new Map([['blue', new Map(LEASES.map((lease) => [lease.subnet.toString(), lease]))]]),
};

const meant = (word: string, here: string[] = []): string => {
  const end = endOf(cluster, word, here);
  return end.endpoints.length > 0
    ? end.endpoints.map(({ id }) => id[0]).join('')
    : (end.address ?? `node ${end.node}`);
};

test('in this order: a prefix, an id, an address, an endpoint, a target, a node', (t) => {
  t.is(meant('docker:web'), 'ab');
  t.is(meant('netns:/run/netns/web'), 'e');
  t.is(meant(WEB_GREEN.id), 'b');
  t.is(meant(WEB_GREEN.id.slice(0, 12)), 'b', 'as tables show it');
  t.is(meant('10.100.5.2'), '10.100.5.2');
  t.is(meant('web'), 'a', 'the endpoint, and not the namespace');
  t.is(meant('web-g.green'), 'b');
  t.is(meant('twice.green'), 'd');
  t.is(meant('h2'), 'e', 'the endpoint, and not the node');
  t.is(meant('h3'), 'node h3');
  t.is(meant('pid:4711', [WEB.id]), 'a', 'as this host’s agent says');
  const both = whole(endOf(cluster, WEB_GREEN.id, []), cluster).endpoints.map(({ id }) => id);
  t.deepEqual(both, [WEB_GREEN.id, WEB.id], 'the one that was named comes first');
});

test('several containers are a wrong call that names them; nothing is not found', (t) => {
  const error = t.throws(() => endOf(cluster, 'twice', []), { instanceOf: WeftError });
  t.is(error?.code, 'INVALID_ARGUMENT');
  t.regex(
    error?.message ?? '',
    /means 2 containers: c{16} \(twice of blue on h1\), d{16} \(twice of green on h2\)/,
  );
  for (const word of ['nobody', 'docker:nobody', 'web.green'])
    t.is(t.throws(() => endOf(cluster, word, []), { instanceOf: WeftError })?.code, 'NOT_FOUND', word);
});

const FROM: TraceEnd = { name: 'twice', node: 'h2', endpoints: TWICE.slice(1) };
const owner = (address: string, protocol = 'icmp', port = 0): TraceEnd =>
  ownerOf(cluster, endOf(cluster, address, []), FROM, protocol, port);

test('who has an address: a container, a gateway’s node, a node, a port’s container, a flanneld, nobody', (t) => {
  t.like(owner('10.100.5.2'), { name: 'web', node: 'h1', address: '10.100.5.2' });
  t.like(owner('10.100.6.1'), { name: 'node h2', node: 'h2', endpoints: [] });
  t.like(owner('10.100.6.99'), { name: '10.100.6.99', node: 'h2', endpoints: [] });
  t.like(owner('169.254.53.53'), { node: 'h2', endpoints: [] });
  t.like(owner('192.0.2.13'), { name: 'node h3', node: 'h3' });
  t.like(owner('192.0.2.11', 'tcp', 8080), { name: 'web', node: 'h1', port: 80 });
  t.like(owner('192.0.2.11', 'udp', 8080), { name: 'node h1', endpoints: [] });
  t.like(ownerOf(cluster, { name: 'node h1', node: 'h1', endpoints: [] }, FROM, 'tcp', 8080), {
    ...{ name: 'web', address: '192.0.2.11', port: 80 },
  });
  t.regex(owner('10.100.7.1').foreign ?? '', /10\.100\.7\.0\/24 is that of a flanneld at 192\.0\.2\.13/);
  t.regex(owner('10.100.200.1').foreign ?? '', /no node has that part of network blue/);
  t.regex(owner('198.51.100.1').foreign ?? '', /no address of weft’s/);
});

test('the address to send to is of a network that both are on, and of a family that both have', (t) => {
  const web = whole(endOf(cluster, WEB.id, []), cluster);
  t.is(destinationOf(FROM, web), '10.101.5.2', 'both are on green');
  const six = endpoint('ffffffffffffffff', 'six', 'h2', { ip: 'fd42::6:9/64' });
  t.is(destinationOf({ name: 'six', node: 'h2', endpoints: [six] }, web), 'fd42::5:2');
  t.throws(() => destinationOf({ name: 'six', node: 'h2', endpoints: [six] }, FROM), {
    message: /no addresses of one family/,
  });
});

// What is made of the evidence of both nodes.

const point = (place: string, link: string, out: boolean, what: string, more: Partial<ProbePoint> = {}) => ({
  ...ProbePoint.fromPartial({}),
  ...{ place, link, out, what },
  ...more,
});

const view = (more: Partial<ProbeView>): ProbeView => ({
  ...{ sightings: [], drops: [], from: undefined, to: undefined, blind: [], macs: [] },
  ...more,
});

/** What each node passes on between c1 on h1 and c2 on h2, from its container outwards. */
const out = (place: 'from' | 'to', more: Partial<ProbePoint> = {}): ProbePoint[] => [
  point(place, 'eth0', true, 'container'),
  point('host', 'wfvx1', true, 'tunnel'),
  point('host', 'eth0', true, 'underlay', more),
];
const into = (place: 'from' | 'to'): ProbePoint[] => [
  ...out(place)
    .toReversed()
    .map((one) => ({ ...one, out: false })),
  point(place, '', false, 'end'),
];

const at = (kind: string, { place, link, out: sent }: ProbePoint, more: Partial<ProbeSighting> = {}) => ({
  ...ProbeSighting.fromPartial({}),
  ...{ place, link, out: sent, kind },
  ...more,
});

const near = (sightings: ProbeSighting[], more: Partial<ProbeView> = {}, last = {}): NodeView => ({
  node: 'h1',
  view: view({ sightings, from: { out: out('from', last), in: into('from'), closed: undefined }, ...more }),
});
const far = (
  sightings: ProbeSighting[],
  more: Partial<ProbeView> = {},
  closed?: ProbeObstacle,
): NodeView => ({
  node: 'h2',
  view: view({ sightings, to: { out: out('to'), in: into('to'), closed }, ...more }),
});

const evidence = (more: Partial<Evidence> & Pick<Evidence, 'near'>): Evidence => ({
  ...{ family: 4, protocol: 'icmp', port: 0, size: 84, refused: '', facts: {} },
  names: { from: 'c1', to: 'c2' },
  ...more,
});

const there = (points: readonly ProbePoint[]): ProbeSighting[] => points.map((one) => at('there', one));
const back = (points: readonly ProbePoint[]): ProbeSighting[] => points.map((one) => at('back', one));
const ALL_NEAR = [...there(out('from')), ...back(into('from'))];
const ALL_FAR = [...there(into('to')), ...back(out('to'))];

test('reached: all points are seen, and one that nobody expected is shown where it was', (t) => {
  const stranger = at('there', point('host', 'bond0', true, 'link'));
  const found = judge(
    evidence({ near: near([...ALL_NEAR.slice(0, 3), stranger, ...ALL_NEAR.slice(3)]), far: far(ALL_FAR) }),
  );
  t.is(found.verdict, 'reached');
  t.deepEqual(
    found.hops.map(({ node, text, seen }) => `${node} ${text} ${seen}`),
    [
      ...['h1 eth0 in c1 true', 'h1 tunnel wfvx1 true', 'h1 underlay eth0 true', 'h1 link bond0 true'],
      ...['h2 underlay eth0 true', 'h2 tunnel wfvx1 true', 'h2 eth0 in c2 true', 'h2 c2 true'],
    ],
  );
  t.true(found.back.every(({ seen }) => seen === true));
});

test('encrypted points are unknown, and those that the packet did not take are left out', (t) => {
  const hidden = { hidden: true };
  const seen = ALL_NEAR.filter(({ link, place }) => link !== 'eth0' || place !== 'host');
  const whole = judge(evidence({ near: near(seen, {}, hidden), far: far(ALL_FAR) }));
  t.deepEqual(
    whole.hops.slice(0, 3).map((hop) => hop.seen),
    [true, true, undefined],
  );
  const plain = ALL_NEAR.filter(({ link }) => link !== 'wfvx1');
  const direct = judge(evidence({ near: near(plain), far: far(ALL_FAR) }));
  t.deepEqual(
    direct.hops.slice(0, 2).map(({ text }) => text),
    ['eth0 in c1', 'underlay eth0'],
  );
});

const RULE: ProbeDrop = { place: 'host', table: 'inet own', chain: 'input', rule: 'udp dport 8472 drop' };

test('a rule that the kernel names comes before all other causes', (t) => {
  const nobody = { reason: 'nobody answers', why: '', fix: '' };
  const found = judge(
    evidence({
      near: near(there(out('from', { obstacle: nobody }))),
      far: far(there(into('to').slice(0, 1)), { drops: [RULE] }),
    }),
  );
  t.like(found, { verdict: 'stopped', node: 'h2', isLost: false });
  t.regex(found.reason ?? '', /udp dport 8472 drop.*table inet own, chain input/);
});

test('counters: one rule that has risen is named, of several none', (t) => {
  const counted = (...rules: string[]) =>
    judge(
      evidence({
        near: near(there(out('from'))),
        far: far(there(into('to').slice(0, 1)), {
          drops: rules.map((rule) => ({ place: 'host', table: '', chain: '', rule })),
        }),
      }),
    ).reason ?? '';
  t.regex(counted('-t filter -A INPUT -j DROP'), /iptables-legacy drops it on node h2: -t filter -A INPUT/);
  t.regex(counted('-t filter -A INPUT -j DROP', '-t filter -A FORWARD -j DROP'), /^one of 2 rules/);
});

test('what weft’s own rules drop is said in the words of networks', (t) => {
  const own = { ...RULE, table: 'ip filter', chain: 'WEFT-FORWARD', rule: 'ip daddr 10.2.0.0/16 drop' };
  const found = judge(
    evidence({
      near: near(there(out('from').slice(0, 1)), { drops: [own] }),
      facts: { apart: ['blue', 'green'] },
    }),
  );
  t.is(found.reason, 'networks blue and green do not reach each other');
  t.regex(found.fix, /weft network route blue green/);
});

test('what policies drop is said with the policy that closes the container', (t) => {
  const rule = 'ip daddr @guarded4 counter drop comment "no policy allows it (01234567)"';
  const own = { ...RULE, table: 'inet weft', chain: 'admission', rule };
  const denied = 'policy db selects the target, and no policy allows it';
  const stopped = (facts: Evidence['facts']) =>
    judge(
      evidence({
        near: near(there(out('from'))),
        far: far(there(into('to').slice(0, 2)), { drops: [own] }),
        facts,
      }),
    );
  t.like(stopped({ denied }), { verdict: 'stopped', node: 'h2', reason: denied });
  t.regex(stopped({ denied }).fix, /weft policy allow/);
  // A record that has changed meanwhile.
  t.is(stopped({}).reason, 'no policy allows it');
  // Another rule has nothing to do with it.
  const other = judge(evidence({ near: near(there(out('from')), { drops: [RULE] }), facts: { denied } }));
  t.notRegex(other.reason ?? '', /policy db/);
});

test('lost between two nodes: a wrong MAC address, else no cause is named', (t) => {
  const lost = (macs: string[], last = {}) =>
    judge(evidence({ near: near(there(out('from')), {}, last), far: far([], { macs }) }));
  const to = {
    nextIp: '192.0.2.12',
    nextMac: '02:00:00:00:00:01',
    detail: 'to 192.0.2.12 (02:00:00:00:00:01)',
  };
  t.like(lost(['02:00:00:00:00:02'], to), { verdict: 'stopped', node: 'h1', isLost: false });
  const plain = lost(['02:00:00:00:00:01'], { ...to, advice: 'Check UDP port 8472.' });
  t.like(plain, { verdict: 'stopped', isLost: true, fix: 'Check UDP port 8472.' });
  t.is(plain.node, undefined);
  t.is(plain.reason, 'the packet is lost between underlay eth0 on h1 and underlay eth0 on h2');
});

test('nobody can look on at the other end: unknown, unless it answers', (t) => {
  const blind = { text: '10.100.43.2', detail: 'a flanneld' };
  const found = judge(evidence({ near: near(there(out('from'))), far: blind }));
  t.like(found, { verdict: 'unknown', node: undefined, why: 'a flanneld' });
  t.deepEqual(
    found.hops.map(({ seen }) => seen),
    [true, true, true, undefined],
  );
  t.is(judge(evidence({ near: near(ALL_NEAR), far: blind })).verdict, 'reached');
});

test('an ICMP error, a refusal of the kernel, and a delivered packet without an answer', (t) => {
  const error = at('error', point('from', 'eth0', false, ''), {
    type: 3,
    code: 13,
    source: '192.0.2.1',
    about: 'there',
  });
  const told = judge(evidence({ near: near([...there(out('from')), error]), far: far([]) }));
  t.is(told.reason, '192.0.2.1 prohibits it');
  const refused = judge(evidence({ near: near([]), far: far([]), refused: 'EPERM' }));
  t.like(refused, { verdict: 'stopped', node: 'h1' });
  t.regex(refused.reason ?? '', /a rule of its own firewall/);
  const silent = judge(evidence({ near: near(there(out('from'))), far: far(there(into('to'))) }));
  t.like(silent, { verdict: 'stopped', node: 'h2', reason: 'c2 has the packet, and does not answer' });
});

test('nobody listens: by the sockets there, by a reset, by an ICMP error', (t) => {
  const closed = { reason: 'nobody listens on TCP port 80 in c2', why: 'no process', fix: 'Start it.' };
  const reset = ALL_FAR.map((one) => (one.kind === 'back' ? { ...one, refused: true } : one));
  const tcp = { protocol: 'tcp', port: 80 } as const;
  t.like(judge(evidence({ ...tcp, near: near(ALL_NEAR), far: far(reset, {}, closed) })), {
    ...{ verdict: 'stopped', node: 'h2', reason: closed.reason },
  });
  const silent = judge(
    evidence({ ...tcp, near: near(there(out('from'))), far: far(there(into('to')), {}, closed) }),
  );
  t.is(silent.reason, closed.reason);
  const error = at('error', point('from', 'eth0', false, ''), { type: 3, code: 3, about: 'there' });
  const blind = { text: '192.0.2.99', detail: 'no node' };
  const udp = judge(
    evidence({ protocol: 'udp', port: 53, near: near([...there(out('from')), error]), far: blind }),
  );
  t.regex(udp.reason ?? '', /nobody listens on UDP port 53/);
  // A rule that drops it on the way is the cause, whoever listens.
  const dropped = judge(
    evidence({ ...tcp, near: near(there(out('from'))), far: far([], { drops: [RULE] }, closed) }),
  );
  t.regex(dropped.reason ?? '', /udp dport 8472 drop/);
});

test('an answer of another than the container is no success', (t) => {
  const found = judge(evidence({ near: near(ALL_NEAR), far: far([]) }));
  t.like(found, { verdict: 'stopped', node: 'h2', reason: 'another than c2 has answered' });
});

// What a trace says of policies: of the packet as it is at the container.

const network = overlay();
const web = endpointOf(network, '10.100.9.2/24', { id: '00000000000000aa', labels: { role: 'web' } });
const db = endpointOf(network, '10.100.5.2/24', { id: '00000000000000bb', labels: { role: 'db' } });

async function setUp() {
  const store = new FakeStore();
  store.putNetwork(network);
  for (const one of [web, db]) store.putRecordOf(one);
  await store.createPolicy(parsePolicy({ name: 'db', from: ['role=web'], to: ['role=db'], ports: ['5432'] }));
  const asked = { to: { name: 'db', endpoints: [db] }, destination: '10.100.5.2', family: 4 } as const;
  return (port: number, more: { destination?: string; port?: number } = {}, source = '10.100.9.2') =>
    deniedBy(
      store,
      {
        ...asked,
        protocol: 'tcp',
        port,
        ...(more.destination !== undefined && { destination: more.destination }),
        ...(more.port !== undefined && { to: { ...asked.to, port: more.port } }),
      },
      source,
    ).denied;
}

test('the policy that closes the target is named, and none where the packet is allowed', async (t) => {
  const denied = await setUp();
  t.is(denied(5432), undefined);
  t.is(denied(80), 'policy db selects the target, and no policy allows it; db allows other ports');
  t.is(denied(5432, {}, '198.51.100.7'), 'policy db selects the target, and no policy allows it');
});

test('behind a published port the container and its own port count', async (t) => {
  const denied = await setUp();
  t.is(denied(8080, { destination: '192.0.2.1', port: 5432 }), undefined);
  t.regex(denied(5432, { destination: '192.0.2.1', port: 80 }) ?? '', /policy db selects/);
});
