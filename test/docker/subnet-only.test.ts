// --subnet-only with real engines, as flannel's users run Docker: docker0 has the node's subnet.
//
// Where a flanneld exists, a third host has that instead of an agent, and moves to weft in place.
import test from 'ava';

import { Cluster } from '../lab/cluster.js';
import { dockerHosts, type DockerHost } from '../lab/docker.js';
import { FLANNELD, NO_FLANNELD, startFlanneld } from '../lab/flanneld.js';
import { shareAmongTests } from '../lab/fresh.js';
import type { LabProcess } from '../lab/process.js';
import { start } from './cluster.js';

const HOSTS = ['h1', 'h2'];
const FLAGS = ['--subnet-only', 'plain'];

/** The host of the flanneld. */
const OLD = 'h3';

let cluster: Cluster;
let engines: DockerHost[] = [];
let flanneld: LabProcess | undefined;

async function setUp(): Promise<void> {
  const names = FLANNELD === undefined ? HOSTS : [...HOSTS, OLD];
  cluster = await Cluster.create(names.length);
  [engines] = await Promise.all([dockerHosts(cluster, names), cluster.startController()]);
  await cluster.json('h1', ...'network create plain --subnet 10.5.0.0/16'.split(' '));
  await Promise.all([cluster.startAgents(HOSTS, FLAGS), startOld()]);
  await Promise.all(
    engines.map(async (engine) => {
      await restartDocker(engine);
      await start(engine, 'c1', '--restart', 'always');
    }),
  );
}

async function startOld(): Promise<void> {
  if (FLANNELD === undefined) return;
  ({ flanneld } = await startFlanneld(cluster, OLD, 'plain', ['-ip-masq', '-iface=eth0']));
}

/** As a unit of dockerd does with the variables of the file. */
async function restartDocker(engine: DockerHost): Promise<void> {
  const file = engine.name === OLD ? 'flannel/plain.env' : 'run/subnets/plain.env';
  const text = await cluster.until('the env file is there', async () => {
    const { code, stdout } = await cluster.try(engine.name, `cat ${cluster.folder}/${engine.name}/${file}`);
    return code === 0 && stdout;
  });
  const env = (name: string): string => new RegExp(`${name}=(.*)`).exec(text)?.[1] ?? '';
  const version = await engine.ask('version', '-f', '{{.Server.Version}}');
  await engine.dockerd.stop();
  await engine.startDocker([
    ...['--bip', env('FLANNEL_SUBNET'), '--mtu', env('FLANNEL_MTU')],
    `--ip-masq=${env('FLANNEL_IPMASQ') === 'true' ? 'false' : 'true'}`,
    // Since Docker 28 an engine drops packets to its containers that come by another link than its bridge.
    ...(Number.parseInt(version) >= 28 ? ['--allow-direct-routing'] : []),
  ]);
}

shareAmongTests(test, setUp, async () => cluster?.lab.down());

const addressOf = async (engine: DockerHost): Promise<string> =>
  engine.ask('inspect', '-f', '{{.NetworkSettings.Networks.bridge.IPAddress}}', 'c1');

async function reach(from: DockerHost, to: DockerHost): Promise<boolean> {
  const { code } = await from.in('c1', `ping -c 1 -w 5 ${await addressOf(to)}`);
  return code === 0;
}

test.serial('containers of two engines’ own bridges reach each other', async (t) => {
  const [h1, h2] = engines;
  if (h1 === undefined || h2 === undefined) return t.fail();
  t.regex(await addressOf(h1), /^10\.5\.\d+\.\d+$/);
  await cluster.until('they reach each other', () => reach(h1, h2));
  t.true(await reach(h2, h1));
  t.notRegex(await cluster.sh('h1', 'ip link'), /wfbr/);
  const { code } = await h1.in('c1', `ping -c 1 -w 5 ${cluster.ipOf('h2')}`);
  t.is(code, 0, 'masqueraded by weft: the other host knows the network by its tunnel alone');
});

test.serial('after a restart of Docker, and of the agent, too', async (t) => {
  const [h1, h2] = engines;
  if (h1 === undefined || h2 === undefined) return t.fail();
  await restartDocker(h2);
  await cluster.until('Docker is back', () => reach(h1, h2));
  await cluster.process('agent-h2').stop();
  t.true(await reach(h1, h2), 'without the agent');
  await cluster.startAgents(['h2'], FLAGS);
  t.true(await reach(h1, h2));
  t.true(await reach(h2, h1));
});

const moving =
  'a host with a flanneld: the same containers, subnet and addresses under weft, and at most 3 s between';
if (FLANNELD === undefined) test.skip(`${moving} (${NO_FLANNELD})`, () => undefined);
else
  test.serial(moving, async (t) => {
    const [h1, , old] = engines;
    if (h1 === undefined || old === undefined || flanneld === undefined) return t.fail();
    await cluster.until('they reach each other', () => reach(h1, old));
    t.true(await reach(old, h1));
    const before = await addressOf(old);
    const { vni } = await cluster.json<{ vni: number }>('h1', 'network', 'inspect', 'plain');

    const pid = await h1.ask('inspect', '-f', '{{.State.Pid}}', 'c1');
    const pings = cluster.lab.spawn('pings', [
      ...['nsenter', '-t', pid, '-n', 'ping', '-n', '-i', '0.1', '-w', '100', before],
    ]);
    await cluster.says(pings, 'icmp_seq=3 ');
    await flanneld.stop();
    await cluster.startAgents([OLD], FLAGS);
    await cluster.until('the agent names the device in its way', async () => {
      const { problems } = await cluster.json<{ problems: { why: string }[] }>(OLD, 'status');
      return problems.some(({ why }) => why.includes(`flannel.${vni}`));
    });
    await cluster.sh(OLD, `ip link del flannel.${vni}`);
    await cluster.until('traffic flows', () => reach(h1, old));
    t.true(await reach(old, h1));
    await pings.stop();
    const seen = [...pings.log().matchAll(/icmp_seq=(\d+) ttl/g)].map((match) => Number(match[1]));
    const longest = Math.max(...seen.slice(1).map((seq, i) => (seq - (seen[i] ?? 0)) * 0.1));
    t.true(longest <= 3, `${longest} s`);

    t.is(await addressOf(old), before);
    const { leases } = await cluster.json<{ leases: { node: string | null; subnet: string }[] }>(
      'h1',
      ...['network', 'inspect', 'plain'],
    );
    t.is(leases.length, engines.length);
    t.is(leases.find(({ node }) => node === OLD)?.subnet, before.replace(/\.\d+$/, '.0/24'));
    await cluster.until('no problem is left', async () => {
      const { problems } = await cluster.json<{ problems: unknown[] }>(OLD, 'status');
      return problems.length === 0;
    });
  });
