// What is made of the evidence of both nodes.
import test from 'ava';

import { judge, type Evidence } from '../../../controller/trace/judge.js';
import type { NodeView } from '../../../controller/trace/hops.js';
import {
  ProbePoint,
  ProbeSighting,
  type ProbeDrop,
  type ProbeObstacle,
  type ProbeView,
} from '../../../proto/gen/weft/v1/trace.js';

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
