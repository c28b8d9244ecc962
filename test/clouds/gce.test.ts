// The backend gce on two instances: a stand-in is the Compute API, and the underlay's router the VPC network's.
import test from 'ava';

import { bare, Cluster, ETCD, INFRA, INFRA_IP, type EndpointJson } from '../lab/cluster.js';
import { shareAmongTests } from '../lab/fresh.js';
import { TOKEN, type GceProject } from '../lab/gce.js';
import { CHECKOUT } from '../lab/lab.js';

const HOSTS = ['h1', 'h2'];
const API = `${INFRA_IP}:5100`;
const ZONE = 'europe-west1-b';
const SCRIPT = `${CHECKOUT}/build/test/lab/gce.js`;

let lab: Cluster;
const ends = new Map<string, EndpointJson>();

async function setUp(): Promise<void> {
  lab = await Cluster.create(HOSTS.length);
  const project: GceProject = {
    ...{ project: 'lab', networks: ['default'], quota: 250, denied: [], throttled: 0, looks: 2 },
    instances: Object.fromEntries(
      [INFRA, ...HOSTS].map((name) => [name, { zone: ZONE, canIpForward: true }]),
    ),
  };
  const serves = async (name: string, where: string, ...argv: string[]): Promise<void> => {
    const argument = [process.execPath, SCRIPT, ...argv];
    await lab.says(lab.spawn(name, where, argument), 'serves');
  };
  await serves('compute', INFRA, 'compute', API, JSON.stringify(project));
  for (const name of [INFRA, ...HOSTS]) {
    await lab.sh(name, 'ip address add 169.254.169.254/32 dev lo');
    const machine = { project: 'lab', zone: ZONE, name, ip: lab.ipOf(name), network: 'default' };
    await serves(`metadata-${name}`, name, 'metadata', '169.254.169.254:80', JSON.stringify(machine));
  }
  // In a cloud's network nobody is told of a shorter way.
  await lab.sh(
    'outside',
    'sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.eth0.send_redirects=0',
  );
  await lab.addContainers('c1', 'c2');
  await lab.startEtcd();
  await lab.startController(['--etcd', ETCD, '--gce-endpoint', `http://${API}`]);
  await lab.startAgents(HOSTS, ['--gce-endpoint', `http://${API}`]);
  await lab.json('h1', ...'network create sky --subnet 10.120.0.0/16 --backend gce'.split(' '));
  await Promise.all(HOSTS.map(async (host, i) => ends.set(host, await lab.attach(host, 'sky', `c${i + 1}`))));
  await routesAre(...HOSTS);
  for (const [host, { gateway }] of ends)
    await lab.sh('outside', `ip route add ${subnetOf(gateway)} via ${lab.ipOf(host)}`);
}

shareAmongTests(test, setUp, async () => lab?.lab.down());

const subnetOf = (gateway: string): string => `${bare(gateway).replace(/\.1$/, '.0')}/24`;
const nameOf = (host: string): string =>
  `flannel-${subnetOf(ends.get(host)?.gateway ?? '').replaceAll(/[./]/g, '-')} ${host}`;

const compute = (path: string): Promise<string> =>
  lab.sh(INFRA, `curl -s -H 'Authorization: Bearer ${TOKEN}' http://${API}/compute/v1/projects/lab/${path}`);

/** `NAME INSTANCE` of each route, sorted. */
async function routes(): Promise<string[]> {
  const found: string[] = [];
  for (let token: string | undefined = ''; token !== undefined;) {
    const page = JSON.parse(await compute(`global/routes?pageToken=${token}`)) as {
      items: { name: string; nextHopInstance: string }[];
      nextPageToken?: string;
    };
    found.push(
      ...page.items.map(({ name, nextHopInstance }) => `${name} ${nextHopInstance.split('/').at(-1)}`),
    );
    token = page.nextPageToken;
  }
  return found.toSorted();
}

const routesAre = (...hosts: readonly string[]): Promise<true> =>
  lab.until(
    `there are routes to ${hosts.join(' and ')}`,
    async () => (await routes()).join() === hosts.map(nameOf).toSorted().join(),
    { timeoutMs: 90_000 },
  );

/** Changes what the project is from now on. */
const become = (state: Partial<GceProject>): Promise<string> =>
  lab.sh(INFRA, `curl -s --data '${JSON.stringify(state)}' http://${API}/state`);

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
    await become({ quota: 2, denied: [] });
    await lab.json('h1', ...'network create full --subnet 10.121.0.0/16 --backend gce'.split(' '));
    await lab.addContainers('full1');
    await lab.attach('h1', 'full', 'full1');
    await lab.until('the quota is named', async () =>
      /compute\.routes\.insert of flannel-10-121-[^(]*\(QUOTA_EXCEEDED\): Quota 'ROUTES' exceeded/.test(
        await problemsOf('h1'),
      ),
    );
    await become({ quota: 250, denied: ['compute.routes.create'] });
    // A changed record is a reason to look at once.
    await lab.json('h1', ...'network update full --no-masquerade'.split(' '));
    await lab.until(
      'the permission is named',
      async () => /Allow compute\.routes\.create to the service account/.test(await problemsOf('h1')),
      { timeoutMs: 90_000 },
    );
    await become({ denied: [] });
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
  await lab.startAgents(['h2'], ['--gce-endpoint', `http://${API}`]);
});

test.serial('--cleanup takes the node’s own route along', async (t) => {
  await lab.process('agent-h1').stop();
  const argv = ['agent', ...lab.agentFlags('h1'), '--gce-endpoint', `http://${API}`, '--cleanup'];
  const { code, stderr, stdout } = await lab.weft('h1', ...argv);
  t.is(code, 0, `${stdout}${stderr}`);
  await lab.until('it is gone', async () => !(await routes()).some((route) => route.endsWith(' h1')));
});
