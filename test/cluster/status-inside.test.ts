// `weft status` on what breaks inside of containers and beside them, on clocks, and on daemons that hang or were stopped.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

import test from 'ava';

import { bare, Cluster, type EndpointJson } from '../lab/cluster.js';
import { shareAmongTests } from '../lab/fresh.js';
import { WEFT } from '../lab/lab.js';
import type { LabProcess } from '../lab/process.js';

interface ProblemJson {
  what: string;
  why: string;
  fix: string;
}

let lab: Cluster;
let etcd: LabProcess;
let web: EndpointJson;
let db: EndpointJson;

shareAmongTests(
  test,
  async () => {
    lab = await Cluster.create(2);
    await lab.addContainers('c1', 'c2', 'c3');
    etcd = await lab.startEtcd();
    await lab.startController(['--etcd', lab.etcd]);
    await lab.startAgents(['h1', 'h2']);
    await lab.json('h1', 'network', 'create', 'blue', '--subnet', '10.100.0.0/16');
    web = await lab.attach('h1', 'blue', 'c1', '--name', 'web');
    db = await lab.attach('h2', 'blue', 'c2', '--name', 'db');
    await lab.until('they reach each other', () => lab.reaches('c1', bare(db.ip)));
  },
  async () => {
    await lab?.lab.down();
  },
);

/** And warnings. */
const problems = async (host: string): Promise<ProblemJson[]> => {
  const { problems: all, warnings } = await lab.json<Record<'problems' | 'warnings', ProblemJson[]>>(
    host,
    'status',
  );
  return [...all, ...warnings];
};

/** Waits until the status of a host says it, as one problem; returns that. */
const said = (host: string, words: RegExp): Promise<ProblemJson> =>
  lab.until(
    `the status of ${host} says ${words.source}`,
    async () => (await problems(host)).find(({ what, why }) => words.test(`${what}: ${why}`)),
    { timeoutMs: 30_000 },
  );

const gone = (host: string, words: RegExp): Promise<boolean> =>
  lab.until(
    `the status of ${host} no longer says ${words.source}`,
    async () => !(await problems(host)).some(({ what, why }) => words.test(`${what}: ${why}`)),
    { timeoutMs: 30_000 },
  );

test.serial('a route over the network in a container: which container, and what', async (t) => {
  const part = `${bare(db.ip).replace(/\.\d+$/, '.0')}/24`;
  await lab.sh('c1', `ip route add blackhole ${part}`);
  const problem = await said('h1', /container netns:\S*c1 \(endpoint web of network blue\).*drops packets/);
  t.true(problem.why.includes(part));
  t.is((await lab.json<{ health: string }>('h1', 'status')).health, 'degraded');
  await lab.sh('c1', `ip route del blackhole ${part}`);
  await gone('h1', /drops packets/);
  await lab.sh('c1', `ip link set lo up; ip route add ${bare(db.ip)}/32 dev lo`);
  await said('h1', /endpoint web .*the route to \S+\/32 leads to lo/);
  await lab.sh('c1', `ip route del ${bare(db.ip)}/32 dev lo`);
  await gone('h1', /leads to lo/);
});

test.serial('an address that weft did not give: whose it is', async (t) => {
  await lab.sh('c1', `ip addr add ${bare(db.ip)}/32 dev eth0`);
  const problem = await said('h1', /endpoint web .*which weft did not give it/);
  t.regex(problem.why, /is of endpoint db on node h2/);
  await lab.sh('c1', `ip addr del ${bare(db.ip)}/32 dev eth0`);
  await gone('h1', /which weft did not give it/);
  // A container that weft did not attach, on the bridge of the network.
  const link = await lab.sh('h1', `ip -o link show ${web.hostIfname}`);
  const bridge = /master (\S+)/.exec(link)?.[1] ?? '';
  await lab.sh(
    'h1',
    `ip link add byhand type veth peer name byhand2 && ip link set byhand master ${bridge} up`,
  );
  t.regex(
    (await said('h1', /link byhand, a port of/)).why,
    /the bridge of network blue, and weft did not attach/,
  );
  await lab.sh('h1', 'ip link del byhand');
  await gone('h1', /byhand/);
});

test.serial('an interface that is down inside is put right, and told', async (t) => {
  await lab.sh('c1', 'ip link set eth0 down');
  await lab.until('they reach each other', async () => {
    await problems('h1');
    return await lab.reaches('c1', bare(db.ip));
  });
  const told = await lab.until('it is told', async () => {
    const { stdout } = await lab.weft('h1', 'events', '-o', 'json', '--for', 'endpoint/web.blue');
    return /"reason":"repaired".*eth0/.exec(stdout)?.[0];
  });
  t.truthy(told);
});

test.serial('nobody listens behind a published port, or at the loopback alone', async (t) => {
  await lab.attach('h1', 'blue', 'c3', '--name', 'shop', '--publish', '8080:80');
  await said('h1', /endpoint shop .*no process in it listens at its published port 80\/tcp/);
  const listen = (name: string, ip: string): LabProcess =>
    lab.spawn(name, 'c3', [process.execPath, '-e', `require('net').createServer().listen(80, '${ip}')`]);
  await lab.sh('c3', 'ip link set lo up');
  const loopback = listen('loopback', '127.0.0.1');
  await said('h1', /endpoint shop .*80\/tcp listens at the container’s loopback address only/);
  await loopback.kill();
  const server = listen('server', '0.0.0.0');
  await gone('h1', /endpoint shop/);
  await server.kill();
  await lab.weft('h1', 'detach', 'blue', lab.ns('c3'));
  await gone('h1', /endpoint shop/);
  t.pass();
});

test.serial('DNS dropped on the host is found from the container’s side', async (t) => {
  await lab.sh('h1', 'iptables -I INPUT -p udp --dport 53 -j DROP');
  const problem = await said('h1', /name server of this node .*asked from container .*get no answer/);
  t.regex(problem.what, /network blue/);
  await lab.sh('h1', 'iptables -D INPUT -p udp --dport 53 -j DROP');
  await gone('h1', /get no answer/);
});

test.serial('a clock that is two hours off the controller’s', async (t) => {
  const early = join(lab.folder, 'early.mjs');
  writeFileSync(early, 'const now = Date.now; Date.now = () => now() - 2 * 3_600_000;\n');
  await lab.process('agent-h2').stop();
  const agent = lab.spawn('agent-h2', 'h2', [
    ...['env', `NODE_OPTIONS=--import=${early}`, WEFT, 'agent', ...lab.agentFlags('h2')],
  ]);
  await lab.says(agent, 'the agent serves');
  const problem = await said('h2', /the clock of this host: it is 2 h behind that of the controller at/);
  t.regex(problem.fix, /timedatectl/);
  await agent.stop();
  await lab.startAgents(['h2']);
  await gone('h2', /the clock of this host/);
});

test.serial(
  'an agent that hangs, one that died, one that was stopped, and a stalled etcd are told apart',
  async (t) => {
    const why = async (): Promise<string> =>
      (await lab.json<{ why: string | null }>('h1', 'node', 'inspect', 'h2')).why ?? '';
    const says = (words: RegExp): Promise<boolean> =>
      lab.until(`h2: ${words.source}`, async () => words.test(await why()), { timeoutMs: 30_000 });
    const agent = lab.process('agent-h2');
    agent.signal('SIGSTOP');
    await says(/does not answer: it hangs, or its host is off or cut off/);
    const { code, stdout } = await lab.weft('h2', 'status', '-o', 'json');
    t.is(code, 1);
    t.regex(stdout, /did not answer in time: it hangs, is stopped/);
    agent.signal('SIGCONT');
    await says(/^$/);
    await agent.kill();
    await says(/crashed or was killed/);
    await lab.startAgents(['h2']);
    await says(/^$/);
    await lab.process('agent-h2').stop();
    await says(/its agent was stopped/);
    await lab.startAgents(['h2']);
    await says(/^$/);

    etcd.signal('SIGSTOP');
    await lab.until(
      'lists say as of when they are',
      async () => {
        const { code: listed, stdout: list, stderr } = await lab.weft('h1', 'node', 'ls', '-o', 'json');
        return (
          listed === 0 &&
          JSON.parse(list) !== null &&
          /does not reach etcd: this is as of \d{4}-/.test(stderr)
        );
      },
      { timeoutMs: 30_000 },
    );
    await said('h1', /etcd at .* does not answer/);
    etcd.signal('SIGCONT');
    await gone('h1', /etcd at .* does not answer/);
    const { stdout: told } = await lab.weft('h1', 'events', '-o', 'json', '--for', 'node/h1');
    for (const reason of ['etcd-away', 'etcd-back']) t.true(told.includes(`"reason":"${reason}"`), told);
  },
);
