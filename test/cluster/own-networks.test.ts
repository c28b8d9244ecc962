// What a node sees and does of networks that it is not on, whose containers it does not follow.
//
// h1 is on blue, h2 on red; h3 is on none, until a test attaches a container there.
import test from 'ava';

import { bare, Cluster, type EndpointJson } from '../lab/cluster.js';
import { shareAmongTests } from '../lab/fresh.js';

let lab: Cluster;
let db: EndpointJson;
let web: EndpointJson;

async function setUp(): Promise<void> {
  lab = await Cluster.create(3);
  await lab.addContainers('c1', 'c2', 'c3');
  await lab.startController();
  await lab.startAgents(['h1', 'h2', 'h3']);
  await lab.json('h3', 'network', 'create', 'blue', '--subnet', '10.100.0.0/16');
  await lab.json('h3', 'network', 'create', 'red', '--subnet', '10.101.0.0/16');
  db = await lab.attach('h1', 'blue', 'c1', '--name', 'db', '--label', 'app=db');
  web = await lab.attach('h2', 'red', 'c2', '--name', 'web', '--label', 'app=web');
}

const ROUTED = 'ip route; bridge fdb show | grep dst | sort';

shareAmongTests(test, setUp, async () => lab?.lab.down());

interface NameJson {
  name: string;
  network: string;
}
interface LookupJson {
  answers: { data: string }[];
  source: string;
}

const leave = async (host: string, network: string, container: string): Promise<void> =>
  void (await lab.weft(host, 'detach', network, lab.ns(container)));

async function refusedBy(host: string, ...args: string[]): Promise<string> {
  const { code, stderr, stdout } = await lab.weft(host, ...args);
  if (code !== 1) throw new Error(`exit ${code}: ${stdout}${stderr}`);
  return stderr;
}

test.serial('a host that is on no network answers for all of them', async (t) => {
  const json = <T>(...args: string[]): Promise<T> => lab.json<T>('h3', ...args);
  const named = (all: readonly { name: string }[]): string[] => all.map(({ name }) => name).toSorted();
  t.deepEqual(named(await json('network', 'ls')), ['blue', 'red']);
  const inspected = async () =>
    json<{ leases: { node: string }[]; endpoints: number }>('network', 'inspect', 'blue');
  await lab.until('the container is known', async () => (await inspected()).endpoints === 1);
  t.deepEqual(
    (await inspected()).leases.map(({ node }) => node),
    ['h1'],
  );
  await lab.until('so is the other', async () => (await json<unknown[]>('endpoint', 'ls')).length === 2);
  t.is((await json<EndpointJson>('endpoint', 'inspect', db.id)).node, 'h1');
  t.like(await json('policy', 'test', 'db.blue', 'web.red'), { verdict: 'allowed' });
  const traced = await lab.weft('h3', 'trace', 'db.blue', 'web.red', '-o', 'json');
  t.is((JSON.parse(traced.stdout) as { verdict: string }).verdict, 'stopped');
  const status = await json<{ health: string; problems: unknown[] }>('status');
  t.deepEqual([status.health, status.problems], ['ok', []]);
  t.true((await json<{ ok: boolean }>('ipam', 'check')).ok);
  for (const [network, name] of [
    ['blue', 'db'],
    ['red', 'web'],
  ] as const)
    t.deepEqual(
      (await json<NameJson[]>('dns', 'ls', '--network', network)).map((one) => [one.network, one.name]),
      [[network, name]],
    );
});

test.serial('names of a network that the host is not on are added, found and removed', async (t) => {
  await lab.json('h3', 'dns', 'add', 'printer', '198.51.100.7', '--network', 'red');
  const names = async (): Promise<string[]> =>
    (await lab.json<NameJson[]>('h3', 'dns', 'ls', '--network', 'red')).map(({ name }) => name).toSorted();
  t.deepEqual(await names(), ['printer', 'web']);
  // Exit status 1, which says that there is no answer.
  const { stdout } = await lab.weft('h1', 'dns', 'lookup', 'printer', '--from', lab.ns('c1'), '-o', 'json');
  const { answers, source } = JSON.parse(stdout) as LookupJson;
  t.deepEqual(answers, []);
  t.regex(source, /network red has that name, and the client is not on it/);
  // Which network has it is found, too.
  await lab.json('h3', 'dns', 'rm', 'printer');
  t.deepEqual(await names(), ['web']);
  t.regex(await refusedBy('h3', 'dns', 'rm', 'printer'), /printer/);
});

test.serial(
  'a container on a network that is new to its host finds the others from its first moment',
  async (t) => {
    const own = await lab.attach('h3', 'blue', 'c3', '--name', 'three');
    const { answers } = await lab.json<LookupJson>('h3', 'dns', 'lookup', 'db', '--from', lab.ns('c3'));
    t.deepEqual(
      answers.map(({ data }) => data),
      [bare(db.ip)],
    );
    t.true(await lab.reaches('c3', bare(db.ip)));
    await leave('h3', 'blue', 'c3');
    const again = (...flags: string[]): Promise<string> =>
      refusedBy('h3', 'attach', 'blue', lab.ns('c3'), ...flags);
    t.regex(await again('--name', 'db'), /the name db is taken in network blue/);
    t.regex(await again('--ip', bare(db.ip)), /in use/);
    await lab.until(
      'its name is free',
      async () => (await lab.json<unknown[]>('h3', 'endpoint', 'ls')).length === 2,
    );
    // An address of the other host's subnet, by its agreement.
    const asked = bare(db.ip).replace(/\d+$/, '200');
    t.is(bare((await lab.attach('h3', 'blue', 'c3', '--ip', asked)).ip), asked);
    t.true(await lab.reaches('c1', asked));
    await leave('h3', 'blue', 'c3');
    t.not(own.ip, db.ip);
  },
);

test.serial(
  'networks that are routed: packets, and policies by the labels of the other one’s containers',
  async (t) => {
    await lab.json('h3', 'network', 'route', 'blue', 'red');
    await lab.until('the container of red reaches blue', () => lab.reaches('c2', bare(db.ip)));
    await lab.json('h3', 'policy', 'allow', 'only', '--from', 'app=nobody', '--to', 'app=db');
    await lab.until('no more', async () => !(await lab.reaches('c2', bare(db.ip))));
    await lab.json('h3', 'policy', 'allow', 'too', '--from', 'app=web', '--to', 'app=db');
    await lab.until('by its label', () => lab.reaches('c2', bare(db.ip)));
    await lab.json('h2', 'endpoint', 'update', web.id, '--label', 'app=other');
    await lab.until('no more without it', async () => !(await lab.reaches('c2', bare(db.ip))));
    await lab.json('h2', 'endpoint', 'update', web.id, '--label', 'app=web');
    await lab.until('with it again', () => lab.reaches('c2', bare(db.ip)));
    t.is((await lab.json<{ policies: unknown[] }>('h1', 'policy', 'ls')).policies.length, 2);
    for (const name of ['only', 'too']) await lab.json('h3', 'policy', 'rm', name);
  },
);

test.serial(
  'records that are deleted by accident come back, and hosts of other networks see no problem',
  async (t) => {
    const keys = async (): Promise<string[]> =>
      (await lab.etcdctl('get', '--prefix', '/weft/networks/', '--keys-only'))
        .split('\n')
        .filter((key) => key !== '')
        .toSorted();
    await lab.until('all is published', async () => (await keys()).some((key) => key.endsWith(db.id)));
    const before = await keys();
    const tunnels = await lab.sh('h2', ROUTED);
    await lab.etcdctl('del', '--prefix', '/weft/networks/blue/');
    await lab.until('all of it is back', async () => JSON.stringify(await keys()) === JSON.stringify(before));
    for (const host of ['h1', 'h2', 'h3'])
      await lab.until(
        `${host} is well`,
        async () => (await lab.json<{ health: string }>(host, 'status')).health === 'ok',
      );
    t.is(await lab.sh('h2', ROUTED), tunnels);
  },
);
