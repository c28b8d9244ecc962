// Policies whose target is a host, in a cluster of two: what containers send there, to their own host and to another one.
import test, { type ExecutionContext } from 'ava';

import { bare, Cluster, type EndpointJson } from '../lab/cluster.js';
import { connection, goesOn, serveEcho, talks } from '../lab/echo.js';
import { shareAmongTests } from '../lab/fresh.js';

let lab: Cluster;
const at: Record<string, EndpointJson> = {};

const PORT = 9100;
const PUBLISHED = 18_080;
const CONTAINERS = [
  ['mon', 'h1', 'role=monitor'],
  ['web', 'h1', 'role=web', '--publish', `${PUBLISHED}:${PORT}`],
  ['far', 'h2', 'role=web', '--publish', `${PUBLISHED}:${PORT}`],
] as const;

async function setUp(): Promise<void> {
  lab = await Cluster.create(2);
  await lab.addContainers(...CONTAINERS.map(([name]) => name));
  await lab.startController();
  await lab.startAgents(['h1', 'h2']);
  const subnets = ['--subnet', '10.100.0.0/16', '--subnet6', 'fd42:100::/48'];
  await lab.json('h1', 'network', 'create', 'blue', ...subnets);
  for (const [name, host, label, ...flags] of CONTAINERS)
    at[name] = await lab.attach(host, 'blue', name, '--name', name, '--label', label, ...flags);
  for (const where of ['h1', 'h2', ...CONTAINERS.map(([name]) => name)])
    serveEcho(lab, where, [PORT, PORT + 1]);
  for (const from of ['mon', 'web', 'far']) for (const to of allOfHosts()) await comesTo(from, to);
}

shareAmongTests(
  test,
  setUp,
  async () => lab?.lab.down(),
  async () => {
    const { policies } = await lab.json<{ policies: { name: string }[] }>('h1', 'policy', 'ls');
    for (const { name } of policies) await lab.json('h1', 'policy', 'rm', name);
    await lab.json('h1', 'policy', 'open', 'blue');
  },
);

const gateway = (name: string): string => at[name]?.gateway ?? '';

/** Addresses of both hosts: on the underlay, and their gateways. */
const ofHost = (host: 'h1' | 'h2'): string[] => [
  lab.lab.host(Number(host.slice(1))).ip,
  lab.lab.host(Number(host.slice(1))).ip6,
  gateway(host === 'h1' ? 'web' : 'far'),
];
const allOfHosts = (): string[] => [...ofHost('h1'), ...ofHost('h2')];

async function allow(t: ExecutionContext, ...args: string[]): Promise<void> {
  const made = await lab.json<{ pending: unknown[] }>('h1', 'policy', 'allow', ...args);
  t.deepEqual(made.pending, []);
}

/** Whether it reaches these addresses of hosts, and no others of them. What is open is asked again: the machine may be busy. */
async function reaches(
  t: ExecutionContext,
  from: string,
  open: readonly string[],
  { port = PORT, among = allOfHosts() } = {},
): Promise<void> {
  await Promise.all(
    among.map(async (to) => {
      if (open.includes(to)) await lab.until(`${from} reaches ${to}`, () => talks(lab, from, to, port));
      else t.false(await talks(lab, from, to, port), `${from} reaches ${to}`);
    }),
  );
}

/** Waits until it does. */
const comesTo = (from: string, to: string, port = PORT): Promise<true> =>
  lab.until(`${from} reaches ${to}`, () => talks(lab, from, to, port));

test.serial('a closed host admits of containers what a policy allows: its own ones and others', async (t) => {
  await allow(t, 'hosts', '--from', 'role=monitor', '--to', 'host', '--port', `${PORT}`);
  await reaches(t, 'mon', allOfHosts());
  await reaches(t, 'mon', [], { port: PORT + 1 });
  for (const from of ['web', 'far']) await reaches(t, from, []);
  t.false(await talks(lab, 'web', lab.ipOf('h2'), PORT, 'udp'));
  for (const to of [gateway('web'), lab.ipOf('h2')]) t.false(await lab.reaches('web', to), `ping ${to}`);
  // What is no container is nobody's business here, and answers are always let in.
  await reaches(t, 'h2', ofHost('h1'), { among: ofHost('h1') });
  const both = [lab.ipOf('h1'), lab.ipOf('h2')];
  await reaches(t, 'outside', both, { among: both });
  for (const from of ['h1', 'h2'])
    for (const to of ['web', 'far']) await comesTo(from, bare(at[to]?.ip ?? ''));
  // Containers are as open as before, and their published ports.
  await comesTo('web', bare(at['far']?.ip6 ?? ''));
  for (const from of ['mon', 'web', 'far'])
    for (const host of ['h1', 'h2']) await comesTo(from, lab.ipOf(host), PUBLISHED);
  const question = `const d = require('dns'); const r = new d.Resolver(); r.setServers(['${gateway('web')}']); r.resolve4('far.blue', (e, a) => { console.log(e ? e.code : a.join()); });`;
  t.is((await lab.place('web').must([process.execPath, '-e', question])).trim(), bare(at['far']?.ip ?? ''));
  // Policies of the containers that are published hold beside.
  await allow(t, 'web', '--from', 'role=monitor', '--to', 'name=web');
  await comesTo('mon', lab.ipOf('h1'), PUBLISHED);
  t.false(await talks(lab, 'far', lab.ipOf('h1'), PUBLISHED));
});

test.serial('one host is closed, and the other is not; without the policy both are open', async (t) => {
  await allow(t, 'h2', '--from', 'role=monitor', '--to', 'host,node=h2');
  for (const from of ['web', 'far']) await reaches(t, from, ofHost('h1'));
  await reaches(t, 'mon', allOfHosts(), { port: PORT + 1 });
  await lab.json('h1', 'policy', 'rm', 'h2');
  for (const from of ['web', 'far']) await reaches(t, from, allOfHosts());
});

test.serial(
  'a policy ends the connections to hosts that it does not allow, and none that a host began',
  async (t) => {
    const to = (from: string, ip: string) => connection(lab, t, from, ip, PORT);
    const all = await Promise.all([
      ...[lab.ipOf('h1'), lab.ipOf('h2')].flatMap((ip) => [to('web', ip), to('mon', ip)]),
      ...['h1', 'h2'].map((host) => to(host, bare(at['web']?.ip ?? ''))),
    ]);
    await allow(t, 'hosts', '--from', 'role=monitor', '--to', 'host');
    t.deepEqual(await Promise.all(all.map(goesOn)), [false, true, false, true, true, true]);
  },
);

test.serial('any target is no host, nor is one an isolated network', async (t) => {
  await allow(t, 'any', '--from', 'role=monitor', '--to', 'any');
  await lab.json('h1', 'policy', 'isolate', 'blue');
  await reaches(t, 'web', allOfHosts());
});

test.serial('test and trace say what would happen to a host, and drops are counted', async (t) => {
  await allow(t, 'hosts', '--from', 'role=monitor', '--to', 'host', '--port', `${PORT}`);
  for (const [a, b, port, code, answer] of [
    ['web', 'host', PORT, 1, { verdict: 'denied', policy: 'hosts' }],
    ['mon', 'host', PORT, 0, { verdict: 'allowed', policy: 'hosts' }],
    ['mon', 'h2', PORT + 1, 1, { verdict: 'denied', policy: 'hosts' }],
    ['host', 'web', PORT, 0, { verdict: 'allowed', policy: null }],
    ['h2', 'h1', PORT, 0, { verdict: 'allowed', policy: null }],
  ] as const) {
    const tested = await lab.weft('h1', 'policy', 'test', a, b, '--tcp', `${port}`, '-o', 'json');
    t.is(tested.code, code, `${a} ${b}: ${tested.stderr}`);
    t.like(JSON.parse(tested.stdout), answer, `${a} ${b}`);
  }
  for (const to of [lab.ipOf('h1'), lab.ipOf('h2')]) {
    const { stdout } = await lab.weft('h1', 'trace', 'web', to, '--tcp', `${PORT}`, '-o', 'json');
    const reason = 'policy hosts selects the target, and no policy allows it';
    t.like(JSON.parse(stdout), { verdict: 'stopped', reason }, to);
  }
  const metrics = await lab.sh('h1', 'curl -s http://127.0.0.1:7402/metrics');
  t.regex(metrics, /weft_policy_drops_total\{policy="hosts",network=""\} [1-9]/);
});
