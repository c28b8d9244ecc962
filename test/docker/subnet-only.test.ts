// --subnet-only with real engines, as flannel's users run Docker: docker0 has the node's subnet.
import test from 'ava';

import { Cluster } from '../lab/cluster.js';
import { dockerHosts, IMAGE, type DockerHost } from '../lab/docker.js';
import { shareAmongTests } from '../lab/fresh.js';

const HOSTS = ['h1', 'h2'];
const FLAGS = ['--subnet-only', 'plain'];

let cluster: Cluster;
let engines: DockerHost[] = [];

async function setUp(): Promise<void> {
  cluster = await Cluster.create(HOSTS.length);
  [engines] = await Promise.all([dockerHosts(cluster, HOSTS), cluster.startController()]);
  await cluster.json('h1', ...'network create plain --subnet 10.5.0.0/16'.split(' '));
  await cluster.startAgents(HOSTS, FLAGS);
  await Promise.all(
    engines.map(async (engine) => {
      await restartDocker(engine);
      await engine.ask('run', '-d', '--restart', 'always', '--name', 'c1', IMAGE, 'sleep', 'infinity');
    }),
  );
}

/** As a unit of dockerd does with the variables of the file. */
async function restartDocker(engine: DockerHost): Promise<void> {
  const text = await cluster.until('the env file is there', async () => {
    const { code, stdout } = await cluster.try(
      engine.name,
      `cat ${cluster.folder}/${engine.name}/run/subnets/plain.env`,
    );
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
