// The backend gce on two instances: a stand-in is the Compute API, and the underlay's router the VPC network's.
import test from 'ava';

import { bare, Cluster, ETCD, type EndpointJson } from '../lab/cluster.js';
import { shareAmongTests } from '../lab/fresh.js';
import { TOKEN } from '../lab/gce.js';
import { GceLab } from '../lab/gce-lab.js';

const HOSTS = ['h1', 'h2'];
let lab: Cluster;
let gce: GceLab;
const ends = new Map<string, EndpointJson>();

async function setUp(): Promise<void> {
  lab = await Cluster.create(HOSTS.length);
  gce = await GceLab.start(lab, HOSTS);
  await lab.addContainers('c1', 'c2');
  await lab.startEtcd();
  await lab.startController(['--etcd', ETCD, ...gce.flags]);
  await lab.startAgents(HOSTS, gce.flags);
  await lab.json('h1', ...'network create sky --subnet 10.120.0.0/16 --backend gce'.split(' '));
  await Promise.all(HOSTS.map(async (host, i) => ends.set(host, await lab.attach(host, 'sky', `c${i + 1}`))));
  await routesAre(...HOSTS);
  await gce.forward();
}

shareAmongTests(test, setUp, async () => lab?.lab.down());

const subnetOf = (gateway: string): string => `${bare(gateway).replace(/\.1$/, '.0')}/24`;
const nameOf = (host: string): string =>
  `flannel-${subnetOf(ends.get(host)?.gateway ?? '').replaceAll(/[./]/g, '-')} ${host}`;

const routesAre = (...hosts: readonly string[]): Promise<true> =>
  lab.until(
    `there are routes to ${hosts.join(' and ')}`,
    async () => (await gce.shown()).join() === hosts.map(nameOf).toSorted().join(),
    { timeoutMs: 90_000 },
  );

const problemsOf = async (host: string): Promise<string> =>
  JSON.stringify((await lab.json<{ problems: unknown[] }>(host, 'status')).problems);

test.serial('containers reach each other by the routes of the VPC network', async (t) => {
  for (const [from, to] of [
    ['c1', 'h2'],
    ['c2', 'h1'],
  ] as const)
    await lab.until(`${from} reaches ${to}`, () => lab.reaches(from, bare(ends.get(to)?.ip ?? '')));
  // Before the routes were there, the nodes did not answer each other.
  await lab.until('no problem is left', async () => (await problemsOf('h1')) === '[]');
  const lines = await lab.etcdctl('get', '--prefix', '--print-value-only', '/weft/networks/sky/subnets/');
  for (const line of lines.split('\n').filter((one) => one !== ''))
    t.deepEqual(Object.keys(JSON.parse(line)).toSorted(), ['PublicIP', 'PublicIPv6', 'Weft']);
});

test.serial(
  'a quota and a missing permission are problems that name the call, and go when they are lifted',
  async (t) => {
    await gce.become({ quota: 2, denied: [] });
    await lab.json('h1', ...'network create full --subnet 10.121.0.0/16 --backend gce'.split(' '));
    await lab.addContainers('full1');
    await lab.attach('h1', 'full', 'full1');
    await lab.until('the quota is named', async () =>
      /compute\.routes\.insert of flannel-10-121-[^(]*\(QUOTA_EXCEEDED\): Quota 'ROUTES' exceeded/.test(
        await problemsOf('h1'),
      ),
    );
    await gce.become({ quota: 250, denied: ['compute.routes.create'] });
    // A changed record is a reason to look at once.
    await lab.json('h1', ...'network update full --no-masquerade'.split(' '));
    await lab.until(
      'the permission is named',
      async () => /Allow compute\.routes\.create to the service account/.test(await problemsOf('h1')),
      { timeoutMs: 90_000 },
    );
    await gce.become({ denied: [] });
    await lab.json('h1', ...'network update full --masquerade'.split(' '));
    await lab.until('the problem is over', async () => (await problemsOf('h1')) === '[]', {
      timeoutMs: 90_000,
    });
    await lab.json('h1', 'network', 'rm', 'full', '--force');
    await routesAre(...HOSTS);
    t.pass();
  },
);

test.serial('the route of a node that is gone is deleted by the leader; no secret is in a log', async (t) => {
  await lab.process('agent-h2').kill();
  await lab.until('it is down', async () => (await lab.weft('h1', 'node', 'rm', 'h2', '--force')).code === 0);
  await routesAre('h1');
  t.regex(lab.process('controller').log(), /deleted a route of the cloud to a node that is gone/);
  for (const name of ['agent-h1', 'controller']) t.false(lab.process(name).log().includes(TOKEN));
  await lab.startAgents(['h2'], gce.flags);
});

test.serial('--cleanup takes the node’s own route along', async (t) => {
  await lab.process('agent-h1').stop();
  const argv = ['agent', ...lab.agentFlags('h1'), ...gce.flags, '--cleanup'];
  const { code, stderr, stdout } = await lab.weft('h1', ...argv);
  t.is(code, 0, `${stdout}${stderr}`);
  await lab.until('it is gone', async () => !(await gce.shown()).some((route) => route.endsWith(' h1')));
});
