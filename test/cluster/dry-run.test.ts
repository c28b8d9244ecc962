// `weft agent --dry-run`: the steps of a start, told on a fresh host and beside a running agent, with nothing changed.
import test, { type ExecutionContext } from 'ava';

import { Cluster, INFRA_IP } from '../lab/cluster.js';
import type { Outcome } from '../lab/exec.js';
import { shareAmongTests } from '../lab/fresh.js';
import { WEFT } from '../lab/lab.js';

let lab: Cluster;

async function setUp(): Promise<void> {
  lab = await Cluster.create(2);
  await lab.addContainers('c1');
  await lab.startController();
  // It is stopped for a while, and nothing in etcd may end meanwhile.
  await lab.startAgents(['h1'], ['--node-ttl', '60s']);
  await lab.json('h1', 'network', 'create', 'blue', '--subnet', '10.100.0.0/16', '--vni', '4097');
  await lab.attach('h1', 'blue', 'c1');
  await lab.until('the agent has told etcd', async () => (await dryRun('h1')).stdout === 'nothing to do\n');
}

shareAmongTests(test, setUp, async () => lab?.lab.down());

const SHOW =
  'ip -d link; ip addr | grep -v valid_lft; ip route; ip -6 route; ip neigh show nud permanent; bridge fdb; nft -s list ruleset; cat /proc/sys/net/ipv4/ip_forward; ss -lntuxH | wc -l';

/** All that a dry run could have changed: the host, a container, the state directory, etcd. */
async function everything(host: string): Promise<string> {
  const { stateDir, runDir } = lab.lab.host(Number(host.slice(1)));
  const files = `for d in ${stateDir} ${runDir}; do find $d -type f -printf '%p %T@ ' -exec cat {} \\; -o -printf '%p\\n'; done 2>&1`;
  const all = [
    await lab.sh(host, SHOW),
    await lab.sh('c1', 'ip -d link; ip addr | grep -v valid_lft; ip route'),
    await lab.sh(host, files),
    (JSON.parse(await lab.etcdctl('get', '/', '-w', 'json')) as { header: { revision: number } }).header
      .revision,
  ];
  // What the kernel counts by itself, and duplicate address detection, which ends by itself.
  return all.join('\n').replaceAll(/ \w+_timer +[\d.]+| tentative/g, '');
}

/** On a machine that is busy enough etcd takes its time, too. */
const quiet = (stderr: string): string => stderr.replace('weft agent: waiting for etcd\n', '');

/** @param words flags that come last, and win */
function dryRun(host: string, ...words: string[]): Promise<Outcome> {
  return lab.place(host).exec([WEFT, 'agent', ...lab.agentFlags(host), '--dry-run', ...words]);
}

/** A dry run that must change nothing. */
async function told(t: ExecutionContext, host: string, ...words: string[]): Promise<Outcome> {
  const before = await everything(host);
  const outcome = await dryRun(host, ...words);
  t.is(await everything(host), before);
  return outcome;
}

test.serial('a fresh host: the subnet that it would take, and nothing is there afterwards', async (t) => {
  const none = await told(t, 'h2');
  t.deepEqual([none.code, none.stdout, quiet(none.stderr)], [0, 'nothing to do\n', '']);
  const { code, stdout, stderr } = await told(t, 'h2', '--join', 'blue');
  t.deepEqual([code, quiet(stderr)], [0, '']);
  t.regex(stdout, /^node\n {2}acquire {2}a subnet of network blue\n/);
  t.regex(stdout, /\n\d+ steps?\n$/);
  const { stateDir } = lab.lab.host(2);
  t.not((await lab.try('h2', `ls ${stateDir}/instance`)).code, 0);
});

test.serial('beside a running agent: nothing to do, and the repair of what is damaged', async (t) => {
  const beside = await told(t, 'h1');
  t.deepEqual([beside.code, beside.stdout, quiet(beside.stderr)], [0, 'nothing to do\n', '']);

  // The agent would be faster than its audience.
  const agent = lab.process('agent-h1');
  agent.signal('SIGSTOP');
  t.teardown(() => agent.signal('SIGCONT'));
  const gateway = (
    await lab.sh('h1', "ip -4 -o addr show dev wfbr4097 scope global | awk '{print $4}'")
  ).trim();
  await lab.sh('h1', `ip addr del ${gateway} dev wfbr4097; nft delete table inet weft`);
  await lab.sh('c1', 'ip route del default');
  const { code, stdout, stderr } = await told(t, 'h1');
  t.deepEqual([code, quiet(stderr)], [0, ''], stdout);
  const target = `netns:/run/netns/${lab.ns('c1')}`;
  const address = `  create   address ${gateway} dev wfbr4097`;
  const route = `  create   route 0.0.0.0/0 via ${gateway.split('/')[0]} dev eth0`;
  const lines = stdout.split('\n');
  for (const line of ['node', address, target, route, 'firewall', '  create   table inet weft'])
    t.true(lines.includes(line), `${line}\n${stdout}`);
  t.true(lines.indexOf('node') < lines.indexOf(target) && lines.indexOf(target) < lines.indexOf('firewall'));

  const json = await told(t, 'h1', '-o', 'json');
  t.is(json.code, 0);
  const { steps } = JSON.parse(json.stdout) as { steps: object[] };
  t.is(lines.at(-2), `${steps.length} steps`);
  t.deepEqual(
    steps.find((step) => 'target' in step && step.target === target),
    { target, verb: 'create', what: route.slice('  create   '.length) },
  );
  agent.signal('SIGCONT');
  await lab.until('the agent has done it', async () => (await dryRun('h1')).stdout === 'nothing to do\n');
});

test.serial('what could not be found out, and what it was not asked rightly', async (t) => {
  const { etcd } = lab;
  lab.etcd = `http://${INFRA_IP}:1`;
  const away = await told(t, 'h1');
  lab.etcd = etcd;
  t.deepEqual([away.code, away.stdout], [0, 'nothing to do\n']);
  t.regex(
    away.stderr,
    /^weft agent: waiting for etcd\nweft agent: etcd has not answered within 5 s: .*state directory alone/,
  );
  const broken = await dryRun('h1', '--state-dir', '/etc/passwd');
  t.is(broken.code, 1, broken.stderr);
  t.regex(
    broken.stderr,
    /^weft agent: the state folder \/etc\/passwd\/\w+ cannot be read: [^\n]+\n[^\n]+\n$/,
  );
  t.is((await dryRun('h1', '--etcd', 'nowhere')).code, 2);
  t.is((await dryRun('h1', '--cleanup')).code, 2);
  t.is((await dryRun('h1', '-o', 'yaml')).code, 2);
});
