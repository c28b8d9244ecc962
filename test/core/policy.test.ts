import test from 'ava';

import { IpAddress } from '../../core/address.js';
import {
  allowSame,
  digestOf,
  judge,
  parsePolicy,
  parseSelector,
  PolicyClasses,
  PolicyState,
  textsOf,
  type PolicyTexts,
  type Subject,
} from '../../core/policy/index.js';

const ip = (text: string): IpAddress => IpAddress.parse(text);
const policy = (about: Partial<PolicyTexts>) =>
  parsePolicy({ name: '', from: ['role=web'], to: ['role=db'], ports: [], ...about });

const WEB: Subject = {
  network: 'blue',
  node: 'h1',
  name: 'w1',
  labels: { role: 'web' },
  ips: [ip('10.1.0.2')],
};
const DB: Subject = {
  ...{ network: 'blue', node: 'h2', name: 'd1', labels: { role: 'db', note: 'a,b' } },
  ips: [ip('10.1.1.2'), ip('fd00::2')],
};
const HOST: Subject = { host: true, node: 'h1', ips: [ip('10.1.0.1')] };

const worldOf = (policies: ReturnType<typeof policy>[], isolated: string[] = []) => {
  const all = [WEB, DB, HOST];
  return {
    ...{ policies, isolated: new Set(isolated) },
    subjectOf: (address: IpAddress) => all.find(({ ips }) => ips.some((one) => one.equals(address))),
  };
};

test('a selector is read in any order of its terms, and written in one', (t) => {
  t.is(parseSelector('network=blue,role=db').text, 'network=blue,role=db');
  t.is(parseSelector('role=db,network=blue,role=db').text, 'network=blue,role=db');
  t.is(parseSelector('cidr=10.1.0.2').text, 'cidr=10.1.0.2/32');
  t.is(parseSelector(String.raw`note=a\,b`).text, String.raw`note=a\,b`);
  t.is(parseSelector('label:name=x').text, 'label:name=x');
});

for (const [text, why] of [
  ['', /no term/],
  ['role', /no term/],
  ['role=db,', /no term/],
  ['-x=1', /no key of a label/],
  ['name=a b', /name/],
  ['network=a.b', /network/],
  ['cidr=10.1.0.1/16', /host bits/],
] as const)
  test(`the selector "${text}" is refused`, (t) => {
    t.throws(() => parseSelector(text), { message: why });
  });

test('a policy says what is wrong with it', (t) => {
  t.throws(() => policy({ from: [] }), { message: /from: no selector/ });
  for (const port of ['0', '65536', '9-8', 'sctp/1', 'tcp/1/udp', 'x'])
    t.throws(() => policy({ ports: [port] }), { message: /is no port/ });
});

test('a policy without a name is named after what it says', (t) => {
  const [one, other] = [policy({ ports: ['5432'] }), policy({ ports: ['5432/tcp', 'tcp/5432'] })];
  t.regex(one.name, /^policy-[0-9a-f]{8}$/);
  t.is(one.name, other.name);
  t.true(allowSame(one, other));
  t.deepEqual(textsOf(one).ports, ['tcp/5432']);
  t.not(policy({}).name, one.name);
  t.is(digestOf([one, policy({})]), digestOf([policy({}), other]));
});

test('a target is open until a policy selects it or its network is isolated', (t) => {
  const packet = { from: ip('10.1.0.1'), to: ip('10.1.1.2'), protocol: 'tcp', port: 5432 } as const;
  t.like(judge(worldOf([]), packet), { verdict: 'allowed', policy: null });
  t.like(judge(worldOf([policy({ name: 'p' })]), packet), { verdict: 'denied', policy: 'p' });
  const isolated = judge(worldOf([], ['blue']), packet);
  t.like(isolated, { verdict: 'denied', policy: null });
  t.regex(isolated.why, /network blue is isolated/);
  t.like(judge(worldOf([], ['green']), packet), { verdict: 'allowed' });
});

test('what a policy allows is allowed by its name, and other ports are hinted at', (t) => {
  const world = worldOf([policy({ name: 'p', ports: ['5432'] })], ['blue']);
  const packet = { from: ip('10.1.0.2'), to: ip('10.1.1.2'), protocol: 'tcp', port: 5432 } as const;
  t.deepEqual(judge(world, packet), { verdict: 'allowed', policy: 'p', why: 'policy p allows it' });
  t.regex(judge(world, { ...packet, port: 80 }).why, /p allows other ports/);
  t.like(judge(world, { ...packet, protocol: 'udp' }), { verdict: 'denied' });
});

test('a node is meant by host, and not by node or any label alone', (t) => {
  const packet = { from: ip('10.1.0.1'), to: ip('10.1.1.2') };
  for (const [from, verdict] of [
    ['node=h1', 'denied'],
    ['host', 'allowed'],
    ['host,node=h1', 'allowed'],
    ['host,node=h2', 'denied'],
    ['any', 'allowed'],
    ['cidr=10.1.0.0/24', 'allowed'],
    ['cidr=10.1.0.0/24,network=blue', 'denied'],
  ] as const)
    t.is(judge(worldOf([policy({ from: [from] })]), packet).verdict, verdict, from);
});

test('a node is a target by host alone, and only of what containers send', (t) => {
  const packet = { from: ip('10.1.0.2'), to: ip('10.1.0.1'), protocol: 'tcp', port: 22 } as const;
  for (const [to, verdict] of [
    ['any', 'allowed'],
    ['node=h1', 'allowed'],
    ['cidr=10.1.0.0/24', 'allowed'],
    ['host', 'denied'],
    ['host,node=h1', 'denied'],
    ['host,node=h2', 'allowed'],
  ] as const)
    t.is(judge(worldOf([policy({ from: ['role=lb'], to: [to] })]), packet).verdict, verdict, to);
  const closed = worldOf([policy({ name: 'p', to: ['host'], ports: ['22'] })], ['blue']);
  t.like(judge(closed, packet), { verdict: 'allowed', policy: 'p' });
  t.like(judge(closed, { ...packet, port: 80 }), { verdict: 'denied', policy: 'p' });
  t.like(judge(closed, { ...packet, from: ip('10.1.1.2') }), { verdict: 'denied' });
  for (const from of ['198.51.100.1', '10.1.0.1'])
    t.like(judge(closed, { ...packet, from: ip(from) }), { verdict: 'allowed', policy: null });
  t.like(judge(worldOf([], ['blue']), packet), { verdict: 'allowed' }, 'isolation closes no node');
});

test('a class has its number from what it is: the same whatever else there is', (t) => {
  const one = new PolicyClasses([policy({ name: 'p' })], new Set());
  const more = new PolicyClasses(
    [policy({ name: 'a', from: ['env=x'], to: ['env=y'] }), policy({ name: 'p' })],
    new Set(),
  );
  const [address] = DB.ips;
  if (address === undefined) return t.fail();
  t.is(one.targetOf(DB, address), more.targetOf(DB, address));
  t.is(one.peerOf(WEB, ip('10.1.0.2')), more.peerOf(WEB, ip('10.1.0.2')));
  for (const number of [one.targetOf(DB, address), one.peerOf(WEB, ip('10.1.0.2'))]) {
    t.true((number ?? 0) >>> 16 > 0);
    t.true(((number ?? 0) & 0xffff) > 0);
  }
});

test('a container costs its own items: others stay as they are', (t) => {
  const state = new PolicyState(new PolicyClasses([policy({})], new Set()));
  state.set('db', { subject: DB, local: {} });
  const [change, ...verdicts] = state.set('web', { subject: WEB });
  t.is(change?.[0], 'address 10.1.0.2');
  t.is(verdicts.length, 1);
  const second = state.set('web2', { subject: { ...WEB, ips: [ip('10.1.0.3')] } });
  t.is(second.length, 1);
  t.is(state.set('web', undefined).length, 1);
  t.is(state.set('web2', undefined).length, 2);
});

test('what is set as it is changes nothing', (t) => {
  const state = new PolicyState(new PolicyClasses([policy({})], new Set()));
  const entry = { subject: DB, local: { port: { link: 'wfepdb', gateway: '02:00:00:00:00:01' } } };
  t.true(state.set('db', entry).length > 0);
  t.deepEqual(state.set('db', { subject: { ...DB }, local: { port: { ...entry.local.port } } }), []);
  const moved = { ...entry, local: { port: { ...entry.local.port, link: 'wfepdc' } } };
  t.deepEqual(
    state.set('db', moved).map(([key, item]) => [key, item !== undefined]),
    [
      ['port wfepdb', false],
      ['port wfepdc', true],
    ],
  );
});

test('of two nodes behind one address the first by its key counts', (t) => {
  const state = new PolicyState(
    new PolicyClasses([policy({ from: ['host,node=h1', 'host,node=h2'] })], new Set()),
  );
  const behind = (node: string) => ({ subject: { host: true, node, ips: [ip('192.0.2.1')] } }) as const;
  state.set('node h2', behind('h2'));
  const before = state.items.get('address 192.0.2.1');
  state.set('node h1', behind('h1'));
  t.notDeepEqual(state.items.get('address 192.0.2.1'), before);
  state.set('node h1', undefined);
  t.deepEqual(state.items.get('address 192.0.2.1'), before);
});

test('a record of another node with the address of a closed container does not open it', (t) => {
  for (const order of [
    ['mine', 'a-other'],
    ['a-other', 'mine'],
  ]) {
    const state = new PolicyState(new PolicyClasses([policy({})], new Set()));
    for (const key of order)
      state.set(key, key === 'mine' ? { subject: DB, local: {} } : { subject: { ...WEB, ips: DB.ips } });
    const item = state.items.get(`address ${DB.ips[0]?.toString()}`);
    t.true(item?.policy === 'address' && item.target !== undefined, order.join());
  }
});
