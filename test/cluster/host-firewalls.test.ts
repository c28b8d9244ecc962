// Hosts with a firewall of their own: firewalld, ufw, and rules in DOCKER-USER.
//
// One problem says what to run, and then names, ports and forwarding work, whatever the firewall does later.
import { existsSync } from 'node:fs';
import { join } from 'node:path';

import test, { type ExecutionContext } from 'ava';

import { bare, Cluster, type EndpointJson } from '../lab/cluster.js';
import { shareAmongTests } from '../lab/fresh.js';
import { HostFirewall, type FirewallProgram } from '../lab/host-firewall.js';
import { CHECKOUT, OUTSIDE } from '../lab/lab.js';
import { addressesOf } from '../lab/names.js';

interface ProblemJson {
  what: string;
  why: string;
  fix: string;
}

let lab: Cluster;
let c1: EndpointJson;
let c2: EndpointJson;
const PORT = 8080;

async function setUp(): Promise<void> {
  lab = await Cluster.create(2);
  await lab.addContainers('c1', 'c2');
  await lab.startController();
  await lab.startAgents(['h1', 'h2']);
  const subnets = ['--subnet', '10.100.0.0/16', '--subnet6', 'fd42:100::/48'];
  await lab.json('h1', 'network', 'create', 'blue', ...subnets);
  c1 = await lab.attach('h1', 'blue', 'c1', '--name', 'one', '--publish', `${PORT}:${PORT}`);
  c2 = await lab.attach('h2', 'blue', 'c2', '--name', 'two', '--publish', `${PORT}:${PORT}`);
  for (const name of ['c1', 'c2']) {
    const program = join(CHECKOUT, 'build/test/lab/echo-server.js');
    const server = lab.spawn(`server-${name}`, name, [process.execPath, program, `${PORT}`]);
    await lab.says(server, 'ready');
  }
}

shareAmongTests(test, setUp, async () => lab?.lab.down());

const problemsOf = async (host: string): Promise<ProblemJson[]> =>
  (JSON.parse((await lab.weft(host, 'status', '-o', 'json')).stdout) as { problems: ProblemJson[] }).problems;

const opens = async (from: string, url: string): Promise<boolean> =>
  (await lab.try(from, `curl -sf --max-time 2 ${url}`)).code === 0;

/** Names, ports and forwarding of the container on h1, in both families. */
async function everythingWorks(t: ExecutionContext): Promise<void> {
  for (const [from, to] of [
    ['c1', c2],
    ['c2', c1],
  ] as const) {
    for (const ip of [to.ip, to.ip6 ?? '']) {
      const url = `http://${ip.includes(':') ? `[${bare(ip)}]` : bare(ip)}:${PORT}/`;
      await lab.until(`${from} reaches ${ip}`, () => opens(from, url), { timeoutMs: 15_000 });
    }
  }
  t.deepEqual(await addressesOf(lab, 'c1', 'two', `@${c1.gateway}`), [bare(c2.ip)]);
  t.deepEqual(await addressesOf(lab, 'c1', '+tcp', 'two', `@${c1.gateway}`), [bare(c2.ip)]);
  t.true(await opens('outside', `http://${lab.ipOf('h1')}:${PORT}/`), 'the published port');
  t.true(await opens('h1', `http://127.0.0.1:${PORT}/`), 'the published port, on the host itself');
  t.true(await lab.reaches('c1', OUTSIDE.ip), 'the way out');
}

async function activeOn(t: ExecutionContext, program: FirewallProgram): Promise<HostFirewall> {
  await everythingWorks(t);
  const firewall = await HostFirewall.start(lab, 'h1', program);
  const [problem] = await lab.until('the problem', async () => {
    const problems = await problemsOf('h1');
    return problems.some(({ what }) => what === program) && problems;
  });
  t.deepEqual(
    (await problemsOf('h1')).map(({ what }) => what),
    [program],
    'it is one',
  );
  t.regex(problem?.why ?? '', /port 53.*UDP port 8472/);
  const command = /^Run: (.*)$/.exec(problem?.fix ?? '')?.[1] ?? 'false';
  await firewall.must(command);
  await lab.until('no problem is left', async () => (await problemsOf('h1')).length === 0);
  await everythingWorks(t);
  return firewall;
}

test.serial('firewalld', async (t) => {
  const firewall = await activeOn(t, 'firewalld');
  for (const reload of ['--reload', '--complete-reload']) {
    await firewall.must(`firewall-cmd ${reload}`);
    await everythingWorks(t);
  }
  t.deepEqual(await problemsOf('h1'), []);
  // What its operator forbids stays forbidden.
  await firewall.must(
    `firewall-cmd --direct --add-rule ipv4 filter FORWARD 0 -o wf+ -p tcp --dport ${PORT} -i eth0 -j DROP`,
  );
  await lab.until(
    'the port is closed',
    async () => !(await opens('outside', `http://${lab.ipOf('h1')}:${PORT}/`)),
  );
  await lab.process('h1-firewalld').kill();
  await lab.sh('h1', 'nft delete table inet firewalld; iptables -F FORWARD; iptables -F INPUT');
  await everythingWorks(t);
});

test.serial(
  'Docker on iptables-legacy is restarted: the accept is behind its chain within ten seconds',
  async (t) => {
    const legacy = (...rules: string[]): Promise<string> =>
      lab.sh('h2', rules.map((rule) => `iptables-legacy -w 5 ${rule}`).join(' && '));
    await legacy(
      '-N DOCKER-USER',
      '-A DOCKER-USER -j RETURN',
      '-I FORWARD -j DOCKER-USER',
      '-P FORWARD DROP',
    );
    // The kernel tells of no change there: the comparison finds it.
    const behind = (what: string): Promise<unknown> =>
      lab.until(
        what,
        async () => /-j DOCKER-USER\n-A FORWARD -j WEFT-ACCEPT\n/.test(await legacy('-S FORWARD')),
        { timeoutMs: 12_000 },
      );
    await behind('the accept');
    await everythingWorks(t);
    await legacy('-D FORWARD -j DOCKER-USER', '-I FORWARD -o docker0 -j DROP', '-I FORWARD -j DOCKER-USER');
    t.true(await lab.reaches('c2', bare(c1.ip)), 'further down it accepts as before');
    await behind('it is put back');
    await everythingWorks(t);
    await legacy('-P FORWARD ACCEPT', '-D FORWARD -j DOCKER-USER', '-F DOCKER-USER', '-X DOCKER-USER');
  },
);

// ufw is installed with what the tests need, unless the machine's own rules are kept by iptables-persistent.
const hasUfw = existsSync('/usr/sbin/ufw');
const withUfw = hasUfw ? test.serial : test.serial.skip;

withUfw(
  hasUfw ? 'ufw' : 'ufw (not run: it is not installed, and excludes iptables-persistent)',
  async (t) => {
    const firewall = await activeOn(t, 'ufw');
    await firewall.must('ufw reload');
    await everythingWorks(t);
    const jump = async (): Promise<string> =>
      (await lab.sh('h1', 'iptables -S FORWARD')).trim().split('\n').at(-1) ?? '';
    await lab.until("weft's jump is the last", async () => (await jump()) === '-A FORWARD -j WEFT-ACCEPT');
    t.deepEqual(await problemsOf('h1'), []);
    // What its operator forbids stays forbidden.
    await firewall.must(`ufw route deny in on eth0 out on wf+ to any port ${PORT} proto tcp`);
    t.false(await opens('outside', `http://${lab.ipOf('h1')}:${PORT}/`));
    await firewall.must(`ufw route delete deny in on eth0 out on wf+ to any port ${PORT} proto tcp`);
    // A policy that rejects, and not only drops, is before weft's accept.
    await firewall.must('ufw default reject routed');
    const [problem] = await lab.until('the problem', async () => {
      const problems = await problemsOf('h1');
      return problems.length > 0 && problems;
    });
    t.regex(problem?.why ?? '', /`-A ufw-reject-forward -j REJECT .*`/);
    await firewall.must(/^Run: (.*)$/.exec(problem?.fix ?? '')?.[1] ?? 'false');
    await lab.until('no problem is left', async () => (await problemsOf('h1')).length === 0);
    await everythingWorks(t);
    await firewall.must('ufw --force disable');
    await lab.process('h1-ufw').kill();
    await everythingWorks(t);
  },
);
