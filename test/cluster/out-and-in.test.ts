// Routing out of and between networks on a cluster of three hosts.
//
// Masquerading turned off and on, internal networks, networks routed with each other and hosts that are on only one of
// them, and packets for networks on other hosts.
import test, { type ExecutionContext } from 'ava';

import { bare, Cluster, type EndpointJson } from '../lab/cluster.js';
import { shareAmongTests } from '../lab/fresh.js';
import { OUTSIDE } from '../lab/lab.js';

interface NetworkJson {
  name: string;
  masquerade: boolean;
  routes: string[];
  leases: { node: string }[];
}

let lab: Cluster;
const at: Record<string, EndpointJson> = {};

async function setUp(): Promise<void> {
  lab = await Cluster.create(3);
  await lab.addContainers('blue1', 'blue2', 'red1', 'red2', 'red3', 'safe1', 'safe2', 'green1');
  await lab.startController();
  await lab.startAgents(['h1', 'h2', 'h3']);
  for (const [i, name] of ['blue', 'red', 'green'].entries()) {
    const subnets = ['--subnet', `10.10${i}.0.0/16`, '--subnet6', `fd42:10${i}::/48`];
    await lab.json('h1', 'network', 'create', name, ...subnets);
  }
  await lab.json('h1', 'network', 'create', 'safe', '--subnet', '10.110.0.0/16', '--internal');
  for (const [host, network, name] of [
    ['h1', 'blue', 'blue1'],
    ['h2', 'blue', 'blue2'],
    ['h1', 'red', 'red1'],
    ['h2', 'red', 'red2'],
    ['h3', 'red', 'red3'],
    ['h1', 'safe', 'safe1'],
    ['h2', 'safe', 'safe2'],
    ['h3', 'green', 'green1'],
  ] as const)
    at[name] = await lab.attach(host, network, name);
  // The outside has a route back, so that only rules can stop an answer.
  await lab.sh('outside', 'ip route add 10.0.0.0/8 via 192.0.2.11');
}

shareAmongTests(test, setUp, async () => lab?.lab.down());

const ip = (name: string): string => bare(at[name]?.ip ?? '');
const ip6 = (name: string): string => bare(at[name]?.ip6 ?? '');

const inspect = (name: string): Promise<NetworkJson> => lab.json('h1', 'network', 'inspect', name);

async function refused(
  t: ExecutionContext,
  args: string[],
  code: string,
  words: RegExp,
  exit = 1,
): Promise<void> {
  const outcome = await lab.weft('h1', ...args, '-o', 'json');
  t.is(outcome.code, exit, outcome.stderr);
  t.regex(outcome.stderr, words);
  t.like(JSON.parse(outcome.stdout), { error: { code } });
}

test.serial('every host follows masquerading being turned off and on', async (t) => {
  t.true(await lab.reaches('blue1', OUTSIDE.ip));
  // Without a route back only masqueraded packets are answered.
  await lab.sh('outside', 'ip route del 10.0.0.0/8');
  t.true(await lab.reaches('blue1', OUTSIDE.ip));
  t.true(await lab.reaches('blue2', OUTSIDE.ip));
  const changed = await lab.json<NetworkJson>('h1', 'network', 'update', 'blue', '--no-masquerade');
  t.false(changed.masquerade);
  await lab.until('h1 no longer does', async () => !(await lab.reaches('blue1', OUTSIDE.ip)));
  await lab.until('nor does h2', async () => !(await lab.reaches('blue2', OUTSIDE.ip)));
  t.true(await lab.reaches('red1', OUTSIDE.ip), 'another network does');
  t.true(await lab.reaches('blue1', ip('blue2')), 'inside all is as it was');
  await lab.sh('outside', `ip route add ${ip('blue1')}/32 via 192.0.2.11`);
  t.true(await lab.reaches('blue1', OUTSIDE.ip), 'under its own address');
  t.true(await lab.reaches('outside', ip('blue1')));
  await lab.json('h1', 'network', 'update', 'blue', '--masquerade');
  await lab.until('both masquerade again', () => lab.reaches('blue2', OUTSIDE.ip));
  t.true((await inspect('blue')).masquerade);
  await lab.sh('outside', `ip route del ${ip('blue1')}/32; ip route add 10.0.0.0/8 via 192.0.2.11`);
  await refused(t, ['network', 'update', 'nope', '--masquerade'], 'NOT_FOUND', /network nope/);
  await refused(t, ['network', 'update', 'blue'], 'INVALID_ARGUMENT', /nothing is to be changed/, 2);
  await refused(t, ['network', 'update', 'safe', '--masquerade'], 'FAILED_PRECONDITION', /safe is internal/);
});

test.serial('unknown fields of a config are kept', async (t) => {
  const key = '/weft/networks/green/config';
  const config = JSON.parse((await lab.etcdctl('get', key, '--print-value-only')).trim()) as object;
  await lab.etcdctl('put', key, JSON.stringify({ ...config, Theirs: { a: [1, 2] } }));
  await lab.json('h1', 'network', 'update', 'green', '--no-masquerade');
  const after = JSON.parse((await lab.etcdctl('get', key, '--print-value-only')).trim()) as Record<
    string,
    unknown
  >;
  t.deepEqual(after['Theirs'], { a: [1, 2] });
  t.like(after, { ...config, Weft: { Masquerade: false } });
  await lab.json('h1', 'network', 'update', 'green', '--masquerade');
});

test.serial('internal networks reach nothing outside, and nothing outside reaches them', async (t) => {
  t.true(await lab.reaches('safe1', ip('safe2')), 'but themselves, on all hosts');
  t.true(await lab.reaches('safe1', at['safe1']?.gateway ?? ''));
  // A route set by hand does not help.
  await lab.sh('safe1', `ip route add default via ${at['safe1']?.gateway}`);
  for (const to of [
    OUTSIDE.ip,
    lab.ipOf('h1'),
    lab.ipOf('h2'),
    ip('blue1'),
    ip('red2'),
    at['blue1']?.gateway ?? '',
  ])
    t.false(await lab.reaches('safe1', to), to);
  await lab.sh('blue1', `ip route replace 10.110.0.0/16 via ${at['blue1']?.gateway}`);
  for (const from of ['blue1', 'red1', 'outside', 'h2']) {
    const own = from === 'h2' ? ip('safe1').replace(/\d+$/, '99') : ip('safe1');
    t.false(await lab.reaches(from, own), from);
  }
});

test.serial('packets for a network that the host is not on are dropped, not sent out', async (t) => {
  // h1 is not on green; the outside would answer for its addresses.
  await lab.sh('outside', `ip address add ${ip('green1')}/32 dev lo`);
  t.true(await lab.reaches('h2', '192.0.2.1'));
  t.false(await lab.reaches('blue1', ip('green1')), 'not by the default route');
  t.false(await lab.reaches('blue2', ip('green1')));
  t.true(await lab.reaches('h1', ip('green1')), 'which the host itself may use');
  await lab.sh('outside', `ip address del ${ip('green1')}/32 dev lo`);
});

test.serial('two routed networks reach each other on every host, and no third one', async (t) => {
  for (const [from, to] of [
    ['blue1', 'red1'],
    ['blue1', 'red2'],
    ['red3', 'blue1'],
  ] as const)
    t.false(await lab.reaches(from, ip(to)), `${from} to ${to}`);
  const routed = await lab.json<NetworkJson[]>('h1', 'network', 'route', 'blue', 'red');
  t.deepEqual(
    routed.map(({ name, routes }) => [name, routes]),
    [
      ['blue', ['red']],
      ['red', ['blue']],
    ],
  );
  t.deepEqual((await inspect('red')).routes, ['blue'], 'seen from both');
  t.regex((await lab.weft('h1', 'network', 'inspect', 'red')).stdout, /Routed with: +blue/);
  // h3 has red containers only: it joins blue, because their packets take its tunnels.
  await lab.until('h3 is on both', async () =>
    (await inspect('blue')).leases.some(({ node }) => node === 'h3'),
  );
  const pairs = ['blue1', 'blue2'].flatMap((a) =>
    ['red1', 'red2', 'red3'].flatMap(
      (b) =>
        [
          [a, b],
          [b, a],
        ] as const,
    ),
  );
  for (const [from, to] of pairs) {
    await lab.until(`${from} reaches ${to}`, () => lab.reaches(from, ip(to)));
    await lab.until(`${from} reaches ${to} by IPv6`, () => lab.reaches(from, ip6(to)));
  }
  // Under its own address; otherwise the other side would see its host's.
  await lab.sh('red2', `ip route del default; ip route add ${ip('blue1')}/32 via ${at['red2']?.gateway}`);
  t.true(await lab.reaches('blue1', ip('red2')));
  await lab.sh('red2', `ip route add default via ${at['red2']?.gateway}`);
  t.false(await lab.reaches('blue1', ip('green1')));
  t.false(await lab.reaches('green1', ip('red1')));
  t.false(await lab.reaches('blue1', ip('safe1')));
  const again = await lab.json<NetworkJson[]>('h1', 'network', 'route', 'red', 'blue');
  t.deepEqual(
    again.map(({ name, routes }) => [name, routes]),
    [
      ['red', ['blue']],
      ['blue', ['red']],
    ],
  );
});

test.serial('strict reverse path filters of a host do no harm', async (t) => {
  for (const host of ['h1', 'h2', 'h3']) await lab.sh(host, 'echo 1 > /proc/sys/net/ipv4/conf/all/rp_filter');
  t.true(await lab.reaches('blue1', ip('red3')));
  t.true(await lab.reaches('red3', ip('blue2')));
  for (const host of ['h1', 'h2', 'h3']) await lab.sh(host, 'echo 0 > /proc/sys/net/ipv4/conf/all/rp_filter');
});

test.serial('a route survives restarts of agents, and is deleted', async (t) => {
  lab.process('agent-h3').signal('SIGKILL');
  await lab.process('agent-h3').ended;
  t.true(await lab.reaches('blue1', ip('red3')));
  await lab.startAgents(['h3']);
  t.true(await lab.reaches('blue1', ip('red3')));
  await lab.json('h1', 'network', 'route', 'red', 'blue', '--remove');
  for (const [from, to] of [
    ['blue1', 'red1'],
    ['blue1', 'red2'],
    ['red3', 'blue1'],
    ['blue2', 'red3'],
  ] as const)
    await lab.until(`${from} no longer reaches ${to}`, async () => !(await lab.reaches(from, ip(to))));
  t.deepEqual((await inspect('blue')).routes, []);
  t.deepEqual((await inspect('red')).routes, []);
  t.true(await lab.reaches('blue1', ip('blue2')));
});

test.serial('impossible routes are refused; a route ends with its network', async (t) => {
  await refused(t, ['network', 'route', 'blue', 'blue'], 'INVALID_ARGUMENT', /reaches itself anyway/, 2);
  await refused(t, ['network', 'route', 'blue', 'nope'], 'NOT_FOUND', /network nope/);
  await refused(t, ['network', 'route', 'safe', 'blue'], 'FAILED_PRECONDITION', /safe is internal/);
  await refused(t, ['network', 'route', 'blue', 'safe'], 'FAILED_PRECONDITION', /safe is internal/);
  await lab.json('h1', 'network', 'create', 'brief', '--subnet', '10.120.0.0/16');
  await lab.json('h1', 'network', 'route', 'blue', 'brief');
  await lab.json('h1', 'network', 'rm', 'brief');
  t.deepEqual((await inspect('blue')).routes, []);
  await lab.json('h1', 'network', 'create', 'brief', '--subnet', '10.120.0.0/16');
  t.deepEqual((await inspect('brief')).routes, [], 'another network of its name');
});
