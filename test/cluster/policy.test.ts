// Policies in a cluster of two hosts: every selector and every way that a packet can take, with real traffic.
import { join } from 'node:path';

import test, { type ExecutionContext } from 'ava';

import { bare, Cluster, type EndpointJson } from '../lab/cluster.js';
import { connection as connectionIn, goesOn, serveEcho, talks as talksIn } from '../lab/echo.js';
import { shareAmongTests } from '../lab/fresh.js';
import { CHECKOUT } from '../lab/lab.js';
import type { LabProcess } from '../lab/process.js';
import { monotonic } from '../lab/meter.js';

let lab: Cluster;
const at: Record<string, EndpointJson> = {};

const PORT = 5432;
/** Names of containers, their hosts, networks and labels. */
const CONTAINERS = [
  ['db', 'h1', 'blue', 'role=db', '--publish', `15432:${PORT}`],
  ['web', 'h1', 'blue', 'role=web'],
  ['near', 'h1', 'blue', 'role=none'],
  ['far', 'h2', 'blue', 'role=web'],
  ['rest', 'h2', 'blue', 'role=none'],
  ['green', 'h2', 'green', 'role=none'],
] as const;

async function setUp(): Promise<void> {
  lab = await Cluster.create(2);
  await lab.addContainers(...CONTAINERS.map(([name]) => name));
  await lab.startController();
  await lab.startAgents(['h1', 'h2']);
  await lab.json(
    'h1',
    'network',
    'create',
    'blue',
    '--subnet',
    '10.100.0.0/16',
    '--subnet6',
    'fd42:100::/48',
  );
  await lab.json('h1', 'network', 'create', 'green', '--subnet', '10.101.0.0/16');
  await lab.json('h1', 'network', 'route', 'blue', 'green');
  for (const [name, host, network, label, ...flags] of CONTAINERS)
    at[name] = await lab.attach(host, network, name, '--name', name, '--label', label, ...flags);
  for (const [name] of CONTAINERS) serve(name);
  for (const from of ['web', 'near', 'far', 'rest', 'green'])
    await lab.until(`${from} reaches db`, () => reaches(from, 'db'));
}

shareAmongTests(
  test,
  setUp,
  async () => lab?.lab.down(),
  // Every test begins and ends with everything open.
  async () => {
    const { policies, isolated } = await lab.json<{ policies: { name: string }[]; isolated: string[] }>(
      'h1',
      ...['policy', 'ls'],
    );
    for (const { name } of policies) await lab.json('h1', 'policy', 'rm', name);
    for (const network of isolated) await lab.json('h1', 'policy', 'open', network);
  },
);

const ip = (name: string): string => bare(at[name]?.ip ?? '');
const ip6 = (name: string): string => bare(at[name]?.ip6 ?? '');

const serve = (where: string): void => serveEcho(lab, where, [PORT, PORT + 1]);

const talks = (from: string, to: string, port = PORT, protocol?: 'tcp' | 'udp'): Promise<boolean> =>
  talksIn(lab, from, to, port, protocol);

const reaches = (from: string, to: string, port = PORT): Promise<boolean> => talks(from, ip(to), port);

const weft = <T>(...args: string[]): Promise<T> => lab.json<T>('h1', ...args);

interface PolicyJson {
  name: string;
  pending: { node: string; why: string }[];
}

async function allow(t: ExecutionContext, name: string, ...args: string[]): Promise<void> {
  const made = await weft<PolicyJson>('policy', 'allow', name, ...args);
  t.deepEqual(made.pending, []);
}

/** Who of these reaches db. */
async function whoReaches(...from: string[]): Promise<string[]> {
  const found = await Promise.all(from.map(async (one) => ((await reaches(one, 'db')) ? [one] : [])));
  return found.flat();
}

const ALL = ['web', 'near', 'far', 'rest', 'green', 'h1', 'h2'];

test.serial(
  'a target that a policy selects admits what it allows: neighbours, other nodes, both families',
  async (t) => {
    await allow(t, 'db', '--from', 'role=web', '--to', 'role=db', '--port', `${PORT}`);
    t.deepEqual(await whoReaches(...ALL), ['web', 'far']);
    for (const [from, is] of [
      ['web', true],
      ['far', true],
      ['near', false],
      ['rest', false],
    ] as const)
      t.is(await talks(from, ip6('db')), is, `${from} by IPv6`);
    for (const from of ['web', 'far']) {
      t.false(await reaches(from, 'db', PORT + 1), `${from} at another port`);
      t.false(await talks(from, ip('db'), PORT, 'udp'), `${from} by UDP`);
      t.false(await lab.reaches(from, ip('db')), `${from} by ICMP`);
    }
    for (const from of ['near', 'rest']) {
      const { stdout } = await lab.weft('h1', 'trace', from, 'db', '--tcp', `${PORT}`, '-o', 'json');
      const reason = 'policy db selects the target, and no policy allows it';
      t.like(JSON.parse(stdout), { verdict: 'stopped', reason }, from);
    }
    // What it begins itself is answered, by neighbours and others; and names.
    for (const to of ['near', 'far', 'green']) {
      t.true(await reaches('db', to), `db to ${to}`);
      t.true(await talks('db', ip(to), PORT, 'udp'), `db to ${to} by UDP`);
      t.true(await lab.reaches('db', ip(to)), `db to ${to} by ICMP`);
    }
    t.true(await talks('db', ip6('near')), 'db to near by IPv6');
    t.true(await lab.reaches('db', at['db']?.gateway ?? ''));
    const question = `const d = require('dns'); const r = new d.Resolver(); r.setServers(['${at['db']?.gateway}']); r.resolve4('far.blue', (e, a) => { console.log(e ? e.code : a.join()); });`;
    t.is((await lab.place('db').must([process.execPath, '-e', question])).trim(), ip('far'));
    // Others are as open as before.
    t.true(await reaches('near', 'web'));
    t.true(await reaches('near', 'far'));
  },
);

test.serial('each selector means what it says', async (t) => {
  const cases: [selector: string, reach: string[]][] = [
    ['role=web,network=blue', ['web', 'far']],
    ['node=h2', ['far', 'rest', 'green']],
    ['name=rest', ['rest']],
    ['network=green', ['green']],
    ['network=blue,node=h1', ['web', 'near']],
    [`cidr=${ip('near')}`, ['near']],
    ['cidr=10.101.0.0/16', ['green']],
    ['host', ['h1', 'h2']],
    ['host,node=h2', ['h2']],
    ['any', ALL],
  ];
  for (const [selector, reach] of cases) {
    await allow(t, 'one', '--from', selector, '--to', 'name=db,network=blue');
    t.deepEqual(await whoReaches(...ALL), reach, selector);
    await weft('policy', 'rm', 'one');
  }
  await allow(t, 'two', '--from', 'name=near', 'network=green', '--to', `cidr=${ip('db')}`);
  t.deepEqual(await whoReaches(...ALL), ['near', 'green']);
});

test.serial(
  'an isolated network admits nothing, not even its own, but answers; and opens again',
  async (t) => {
    await weft('policy', 'isolate', 'blue');
    t.like(await weft('network', 'inspect', 'blue'), { isolated: true });
    t.deepEqual(await whoReaches(...ALL), []);
    t.false(await reaches('web', 'near'));
    t.true(await reaches('db', 'green'));
    await allow(t, 'inside', '--from', 'network=blue', '--to', 'network=blue');
    t.deepEqual(await whoReaches(...ALL), ['web', 'near', 'far', 'rest']);
    await weft('policy', 'rm', 'inside');
    await weft('policy', 'open', 'blue');
    t.deepEqual(await whoReaches(...ALL), ALL);
  },
);

test.serial('policies hold for published ports, by the address that a client really has', async (t) => {
  const published = (): Promise<boolean> => talks('outside', lab.ipOf('h1'), 15_432);
  t.true(await published());
  await allow(t, 'db', '--from', 'role=web', '--to', 'role=db');
  t.false(await published());
  await allow(t, 'out', '--from', `cidr=${lab.lab.outside.ip}`, '--to', 'role=db', '--port', `${PORT}`);
  t.true(await published());
  t.true(await talks('web', lab.ipOf('h1'), 15_432), 'a container, by the port of the host');
  t.false(await talks('near', lab.ipOf('h1'), 15_432));
});

const connection = (t: ExecutionContext, from: string, to: string): Promise<LabProcess> =>
  connectionIn(lab, t, from, to, PORT);

test.serial('a policy ends the connections that it does not allow, and no others', async (t) => {
  const [allowed, distant, denied, other] = await Promise.all(
    ['web', 'far', 'near', 'rest'].map((from) => connection(t, from, ip('db'))),
  );
  const [toNear, toFar] = await Promise.all(['near', 'far'].map((to) => connection(t, 'db', ip(to))));
  await allow(t, 'db', '--from', 'role=web', '--to', 'role=db');
  const all = [allowed, distant, denied, other, toNear, toFar];
  const found = await Promise.all(all.map(async (one) => one && (await goesOn(one))));
  t.deepEqual(found, [true, true, false, false, true, true]);
});

test.serial('labels are followed on every node, also where they change all the time', async (t) => {
  await allow(t, 'db', '--from', 'role=web', '--to', 'role=db');
  t.false(await reaches('rest', 'db'));
  t.like(await weft('endpoint', 'update', at['rest']?.id ?? '', '--label', 'role=web', '--label', 'tier=x'), {
    labels: { role: 'web', tier: 'x' },
  });
  await lab.until('rest is let in', () => reaches('rest', 'db'));
  t.like(await weft('endpoint', 'update', at['rest']?.id ?? '', '--label', 'role-', '--label', 'tier-'), {
    labels: {},
  });
  await lab.until('rest is kept out', async () => !(await reaches('rest', 'db')));
  const steady = await connection(t, 'far', ip('db'));
  for (let i = 0; i < 10; i++)
    await weft('endpoint', 'update', at['rest']?.id ?? '', '--label', `role=${i % 2 === 0 ? 'web' : 'none'}`);
  t.true(await goesOn(steady));
  await lab.until('the last label counts', async () => !(await reaches('rest', 'db')));
});

test.serial('what was flushed is repaired, and drops are counted by policy', async (t) => {
  await allow(t, 'db', '--from', 'role=web', '--to', 'role=db');
  t.false(await reaches('near', 'db'));
  const metrics = await lab.sh('h1', 'curl -s http://127.0.0.1:7402/metrics');
  t.regex(metrics, /weft_policy_drops_total\{policy="db",network="blue"\} [1-9]/);
  const shown = await weft<{ drops: { reason: string; packets: number }[] }>(
    'endpoint',
    'inspect',
    at['db']?.id ?? '',
  );
  t.true(
    shown.drops.some(({ reason, packets }) => reason === 'policy db' && packets > 0),
    JSON.stringify(shown.drops),
  );
  await lab.sh(
    'h1',
    'nft flush table inet weft; nft flush map inet weft verdicts; nft delete table bridge weft',
  );
  await lab.until('it is closed again', async () => !(await reaches('near', 'db')));
  await lab.until('and open to web', () => reaches('web', 'db'));
});

test.serial(
  'policies hold without etcd and the controller, and for containers that start meanwhile',
  async (t) => {
    await allow(t, 'db', '--from', 'role=web', '--to', 'role=db');
    await lab.process('controller').stop();
    t.deepEqual(await whoReaches(...ALL), ['web', 'far']);
    await lab.process('agent-h1').stop();
    t.deepEqual(await whoReaches(...ALL), ['web', 'far']);
    const started = lab.spawn('agent-h1', 'h1', [
      join(CHECKOUT, 'bin/weft'),
      'agent',
      ...lab.agentFlags('h1'),
    ]);
    await lab.says(started, 'the agent serves');
    t.deepEqual(await whoReaches(...ALL), ['web', 'far']);
    await lab.addContainers('late');
    serve('late');
    const late = await lab.attach('h1', 'blue', 'late', '--name', 'late', '--label', 'role=db');
    t.teardown(async () => {
      await lab.json('h1', 'detach', 'blue', lab.ns('late'));
      await lab.removeContainer('late');
    });
    await lab.until('web reaches late', () => talks('web', bare(late.ip)));
    for (const from of ['near', 'rest']) t.false(await talks(from, bare(late.ip)), from);
    await lab.startController();
    await lab.until(
      'the nodes are back',
      async () => (await weft<PolicyJson>('policy', 'inspect', 'db')).pending.length === 0,
    );
  },
);

test.serial('who has not taken a change over is named, and test says what would happen', async (t) => {
  await allow(t, 'db', '--from', 'role=web', '--to', 'role=db', '--port', `${PORT}`);
  for (const [a, b, flags, code, answer] of [
    ['web', 'db', ['--tcp', `${PORT}`], 0, { verdict: 'allowed', policy: 'db' }],
    ['web', 'db', ['--tcp', '80'], 1, { verdict: 'denied', policy: 'db' }],
    ['near.blue', ip('db'), [], 1, { verdict: 'denied', policy: 'db' }],
    ['h2', 'db.blue', ['--tcp', `${PORT}`], 1, { verdict: 'denied', policy: 'db' }],
    ['198.51.100.1', 'web', [], 0, { verdict: 'allowed', policy: null }],
  ] as const) {
    const tested = await lab.weft('h1', 'policy', 'test', a, b, ...flags, '-o', 'json');
    t.is(tested.code, code, `${a} ${b}: ${tested.stderr}`);
    t.like(JSON.parse(tested.stdout), answer);
  }
  t.is((await lab.weft('h1', 'policy', 'test', 'nobody', 'db')).code, 1);
  t.is((await lab.weft('h1', 'policy', 'test', 'web', 'db', '--tcp', '1', '--udp', '1')).code, 2);
  const again = await lab.weft('h1', 'policy', 'allow', 'db', '--from', 'role=web', '--to', 'role=db');
  t.is(again.code, 1);
  t.regex(again.stderr, /allows something else/);
  const agent = lab.process('agent-h2');
  agent.signal('SIGSTOP');
  t.teardown(() => agent.signal('SIGCONT'));
  const { pending } = await weft<PolicyJson>('policy', 'rm', 'db');
  t.deepEqual(
    pending.map(({ node }) => node),
    ['h2'],
  );
  agent.signal('SIGCONT');
  await lab.until(
    'h2 has followed',
    async () => (await weft<PolicyJson>('policy', 'ls')).pending.length === 0,
  );
  t.deepEqual(await whoReaches(...ALL), ALL);
});

test.serial('a label is on the other node within a quarter of a second', async (t) => {
  await allow(t, 'db', '--from', 'role=web', '--to', 'role=db');
  const peers = (): Promise<string> => lab.sh('h1', 'nft list map inet weft peers4');
  const times: number[] = [];
  for (const label of ['role=web', 'role=none', 'role=web', 'role=none', 'role=web']) {
    const change = weft('endpoint', 'update', at['rest']?.id ?? '', '--label', label);
    const isIn = label === 'role=web';
    // The command itself takes longer than the change: the clock starts when the node has it.
    await lab.until(
      'its own node has it',
      async () => {
        const own = await lab.sh('h2', 'nft list map inet weft peers4');
        return own.includes(`${ip('rest')} :`) === isIn;
      },
      { everyMs: 1 },
    );
    const from = monotonic();
    await lab.until('h1 has it', async () => (await peers()).includes(`${ip('rest')} :`) === isIn, {
      everyMs: 1,
    });
    times.push(monotonic() - from);
    await change;
  }
  const median = times.toSorted((a, b) => a - b)[2] ?? Infinity;
  t.log(`median ${median.toFixed(0)} ms`);
  t.true(median <= 250, `${times.map((ms) => ms.toFixed(0)).join(', ')} ms`);
});
