// The backend aws-vpc on three instances: moto is AWS, and the underlay's router the VPC's.
import test from 'ava';

import { Aws, EC2_PORT, ROLE, text } from '../lab/aws.js';
import { bare, Cluster, ETCD, INFRA, INFRA_IP, type EndpointJson } from '../lab/cluster.js';
import { shareAmongTests } from '../lab/fresh.js';
import { CHECKOUT, WEFT } from '../lab/lab.js';
import { dig } from '../lab/names.js';

const HOSTS = ['h1', 'h2', 'h3'];
/** It is a node in one test alone. */
const DYING = 'h4';

let lab: Cluster;
let aws: Aws;
const ends = new Map<string, EndpointJson>();

interface Status {
  problems: { what: string; why: string; fix: string }[];
  warnings: { what: string; why: string; fix: string }[];
}

/** The network `sky`, with c1 on h1, c2 on h2 and c3 on h3. */
async function setUp(): Promise<void> {
  lab = await Cluster.create(HOSTS.length + 1);
  aws = await Aws.start(lab, [...HOSTS, DYING]);
  await lab.addContainers('c1', 'c2', 'c3');
  await lab.startEtcd();
  await lab.startController(['--etcd', ETCD]);
  await lab.startAgents(HOSTS);
  await lab.json('h1', ...'network create sky --subnet 10.110.0.0/16 --backend aws-vpc'.split(' '));
  await Promise.all(
    HOSTS.map(async (host, i) => {
      const name = `c${i + 1}`;
      ends.set(host, await lab.attach(host, 'sky', name, '--name', name));
    }),
  );
  await routesAre(wanted());
  await aws.forward();
}

shareAmongTests(test, setUp, async () => lab?.lab.down());

const subnetOf = (host: string): string => `${bare(ends.get(host)?.gateway ?? '').replace(/\.1$/, '.0')}/24`;

const wanted = (): string[] => HOSTS.map((host) => `${subnetOf(host)} ${host}`).toSorted();

const routesAre = (routes: readonly string[]): Promise<true> =>
  lab.until(
    `the tables have ${routes.join(', ') || 'no route'}`,
    async () => (await aws.shown()).join() === routes.join(),
    { timeoutMs: 90_000 },
  );

const problemsOf = async (host: string): Promise<string> =>
  JSON.stringify((await lab.json<Status>(host, 'status')).problems);

test.serial('containers reach each other by the tables of the VPC, with the whole MTU', async (t) => {
  for (const [i] of HOSTS.entries())
    for (const [host, { ip, mtu }] of ends) {
      t.is(mtu, 1500);
      await lab.until(`c${i + 1} reaches ${host}`, () => lab.reaches(`c${i + 1}`, bare(ip)));
    }
  await lab.sh('c1', `ping -c 1 -W 2 -M do -s 1472 ${bare(ends.get('h2')?.ip ?? '')}`);
  const { stdout } = await lab.try('h1', 'ip route show proto 119');
  t.regex(stdout, new RegExp(`${subnetOf('h2')} via 192.0.2.1 dev eth0`));
  t.regex(stdout, /unreachable 10\.110\.0\.0\/16/);
  t.regex(await lab.sh('h1', 'ip -d link'), /wfbr-sky/);
  // Before the routes were there, the nodes did not answer each other.
  await lab.until('no problem is left', async () => (await problemsOf('h1')) === '[]');
});

test.serial('leases are flannel’s: they have no BackendType', async (t) => {
  const lines = await lab.etcdctl('get', '--prefix', '--print-value-only', '/weft/networks/sky/subnets/');
  for (const line of lines.split('\n').filter((one) => one !== '')) {
    const lease = JSON.parse(line);
    t.deepEqual(Object.keys(lease).toSorted(), ['PublicIP', 'PublicIPv6', 'Weft']);
  }
  const config = JSON.parse(await lab.etcdctl('get', '--print-value-only', '/weft/networks/sky/config'));
  t.deepEqual(config.Backend, { Type: 'aws-vpc' });
});

test.serial('the source/destination check is off', async (t) => {
  for (const host of HOSTS) {
    const answer = await aws.call('DescribeNetworkInterfaces', {
      'NetworkInterfaceId.1': aws.machine(host).interface,
    });
    t.is(text(answer['networkInterfaceSet']?.item?.[0], 'sourceDestCheck'), 'false', host);
  }
});

test.serial('no secret is in a log, in etcd or in the status', async (t) => {
  const texts = [
    ...HOSTS.map((host) => lab.process(`agent-${host}`).log()),
    lab.process('controller').log(),
    await lab.etcdctl('get', '--prefix', '/weft/'),
    await lab.sh('h1', `cat /proc/${lab.process('agent-h1').pid}/cmdline`),
  ];
  for (const one of texts)
    for (const secret of [ROLE.secretAccessKey, ROLE.token]) t.false(one.includes(secret));
});

test.serial('a restart of an agent changes no route, and a packet is not lost', async (t) => {
  const before = await aws.routes();
  await lab.process('agent-h2').stop();
  t.true(await lab.reaches('c1', bare(ends.get('h2')?.ip ?? '')));
  await lab.startAgents(['h2']);
  await lab.until('it has looked', async () => (await problemsOf('h2')) === '[]');
  t.deepEqual(await aws.routes(), before);
  t.notRegex(lab.process('agent-h2').log().split('$ ').at(-1) ?? '', /changed a route/);
});

test.serial('a dry run says what would be changed, and changes nothing', async (t) => {
  const table = await aws.mainTable();
  await lab.process('agent-h2').stop();
  await aws.call('DeleteRoute', { RouteTableId: table, DestinationCidrBlock: subnetOf('h2') });
  const { stdout } = await lab.weft('h2', 'agent', ...lab.agentFlags('h2'), '--dry-run');
  const nic = aws.machine('h2').interface;
  t.regex(stdout, new RegExp(`cloud\n  create +route ${subnetOf('h2')} to ${nic} in ${table}\n`));
  t.false((await aws.shown()).some((route) => route.startsWith(subnetOf('h2'))));
  await lab.startAgents(['h2']);
  await routesAre(wanted());
});

test.serial('a route that was taken away or led elsewhere is put right within a minute', async (t) => {
  const table = await aws.mainTable();
  await aws.call('DeleteRoute', { RouteTableId: table, DestinationCidrBlock: subnetOf('h1') });
  await aws.call('ReplaceRoute', {
    ...{ RouteTableId: table, DestinationCidrBlock: subnetOf('h2') },
    NetworkInterfaceId: aws.machine('infra').interface,
  });
  await routesAre(wanted());
  t.regex(lab.process('agent-h1').log(), /changed a route of the cloud.*create route/);
  t.regex(lab.process('agent-h2').log(), /changed a route of the cloud.*replace route/);
});

test.serial('an address of another node’s subnet has a route of its own, which goes with it', async (t) => {
  const ip = `${bare(ends.get('h2')?.gateway ?? '').replace(/\.1$/, '')}.200`;
  await lab.addContainers('guest');
  await lab.attach('h1', 'sky', 'guest', '--ip', ip);
  await routesAre([...wanted(), `${ip}/32 h1`].toSorted());
  await aws.forward();
  await lab.until(
    'it is reached',
    async () => (await lab.reaches('c3', ip)) && (await lab.reaches('c2', ip)),
  );
  await lab.weft('h1', 'detach', 'sky', lab.ns('guest'));
  await routesAre(wanted());
  await aws.forward();
  t.pass();
});

test.serial(
  'EC2 does not answer: traffic goes on, the call is named, and what is missing follows',
  async (t) => {
    const refused = `ip daddr ${INFRA_IP} tcp dport ${EC2_PORT} reject with tcp reset`;
    await lab.sh(
      'h1',
      `nft 'table inet away { chain out { type filter hook output priority 0; ${refused}; }; }'`,
    );
    await lab.addContainers('late');
    const ip = `${bare(ends.get('h2')?.gateway ?? '').replace(/\.1$/, '')}.201`;
    await lab.attach('h1', 'sky', 'late', '--ip', ip);
    const named = new RegExp(`ec2:\\w+[^"]*${INFRA_IP}:${EC2_PORT} does not answer`);
    await lab.until('it is named', async () => named.test(await problemsOf('h1')), { timeoutMs: 60_000 });
    t.true(await lab.reaches('c1', bare(ends.get('h2')?.ip ?? '')));
    await lab.sh('h1', 'nft delete table inet away');
    await routesAre([...wanted(), `${ip}/32 h1`].toSorted());
    await lab.until('the problem is over', async () => (await problemsOf('h1')) === '[]');
    await lab.weft('h1', 'detach', 'sky', lab.ns('late'));
    await routesAre(wanted());
    await lab.removeContainer('late');
  },
);

test.serial(
  'published ports, ports of every node, names, and routed networks, as on every backend',
  async (t) => {
    const server = lab.spawn('server', 'c2', [
      process.execPath,
      `${CHECKOUT}/build/test/lab/echo-server.js`,
      '80',
    ]);
    await lab.says(server, 'ready');
    await lab.json('h2', ...'port publish c2 8200:80 --everywhere --network sky'.split(' '));
    const answers = async (from: string, port: string): Promise<boolean> =>
      (await lab.try(from, `curl -sf --max-time 2 http://${port}/`)).code === 0;
    for (const from of ['outside', 'h3', 'c1'])
      for (const host of ['h2', 'h1'])
        await lab.until(`the port of ${host} from ${from}`, () => answers(from, `${lab.ipOf(host)}:8200`));
    const there = ends.get('h2');
    const { answers: found } = await dig(lab, 'c1', `@${ends.get('h1')?.gateway ?? ''}`, 'c2.sky.weft', 'A');
    t.deepEqual(
      found.map(({ data }) => data),
      [bare(there?.ip ?? '')],
    );
    await lab.json('h1', ...'network create beside --subnet 10.114.0.0/16 --backend aws-vpc'.split(' '));
    await lab.addContainers('beside3');
    const other = await lab.attach('h3', 'beside', 'beside3');
    await lab.json('h1', ...'network route sky beside'.split(' '));
    const stop = aws.follow();
    await lab.until('the routed network is reached', () => lab.reaches('c1', bare(other.ip)));
    await lab.json('h1', ...'network route sky beside --remove'.split(' '));
    await lab.until('no more', async () => !(await lab.reaches('c1', bare(other.ip))));
    await lab.json('h2', ...'port rm c2 8200:80 --network sky'.split(' '));
    await lab.json('h1', 'network', 'rm', 'beside', '--force');
    await routesAre(wanted());
    await stop();
    await server.stop();
    await lab.removeContainer('beside3');
  },
);

test.serial('a network with running containers moves from vxlan to the VPC, and back', async (t) => {
  await lab.json('h1', ...'network create moving --subnet 10.113.0.0/16'.split(' '));
  await lab.addContainers('mv1', 'mv2');
  await lab.attach('h1', 'moving', 'mv1');
  const there = await lab.attach('h2', 'moving', 'mv2');
  await lab.until('they reach each other', () => lab.reaches('mv1', bare(there.ip)));
  const stop = aws.follow();
  const pings = lab.spawn('moving', 'mv1', ['ping', '-n', '-i', '0.05', '-w', '100', bare(there.ip)]);
  await lab.says(pings, 'icmp_seq=3 ');
  const route = (host: string): Promise<string> =>
    lab.sh(host, 'ip route show proto 119 | grep ^10.113. || true');
  for (const [backend, way] of [
    ['aws-vpc', 'via 192.0.2.1 dev eth0'],
    ['vxlan', 'dev wfvx'],
  ] as const) {
    const moved = await lab.json<{ backend: string; move: unknown }>(
      'h1',
      ...['network', 'update', 'moving', '--backend', backend],
    );
    t.like(moved, { backend, move: null });
    await lab.until(`the routes are ${backend}'s`, async () =>
      (await Promise.all(['h1', 'h2'].map(route))).every((text) => text.includes(way)),
    );
    t.true(await lab.reaches('mv1', bare(there.ip)));
  }
  await pings.stop();
  const seen = [...pings.log().matchAll(/icmp_seq=(\d+) ttl/g)].map((match) => Number(match[1]));
  const longest = Math.max(...seen.slice(1).map((seq, i) => (seq - (seen[i] ?? 0)) * 0.05));
  t.true(longest <= 1, `${longest} s`);
  await lab.json('h1', 'network', 'rm', 'moving', '--force');
  await routesAre(wanted());
  await stop();
  for (const name of ['mv1', 'mv2']) await lab.removeContainer(name);
});

test.serial('the route of a node that is gone is deleted by the leader, also by the next one', async (t) => {
  // A second controller takes over when the first ends.
  const second = lab.spawn('controller-2', INFRA, [
    ...[WEFT, 'controller', '--etcd', ETCD, '--listen', `${INFRA_IP}:7500`],
    ...['--http', '127.0.0.1:7501', '--state-dir', `${lab.folder}/controller-2`],
  ]);
  await lab.says(second, 'the controller is ready');
  await lab.startAgents([DYING], ['--join', 'sky']);
  const route = await lab.until('its route is there', async () =>
    (await aws.shown()).find((one) => one.endsWith(` ${DYING}`)),
  );
  // A dead machine: nothing of its own deletes its route.
  await lab.process(`agent-${DYING}`).kill();
  await lab.until(
    'it is removed',
    async () => (await lab.weft('h1', 'node', 'rm', DYING, '--force')).code === 0,
  );
  await lab.process('controller').stop();
  await lab.says(second, 'leading');
  await routesAre(wanted());
  t.regex(second.log(), new RegExp(`deleted a route of the cloud .*route=${route.split(' ')[0]}`));
  t.true(await lab.reaches('c1', bare(ends.get('h2')?.ip ?? '')), 'the others stay');
  await second.stop();
  await lab.startController(['--etcd', ETCD]);
});

// flanneld 0.18 to 0.19.2: a lease without BackendType and BackendData, and a route that it writes at its start.
test.serial(
  'a host with a lease as flanneld 0.19 writes it is a peer, and its route ends with the lease',
  async (t) => {
    const ip = '10.110.200.1';
    const [, lease = ''] = /^lease (\w+) granted/.exec(await lab.etcdctl('lease', 'grant', '3600')) ?? [];
    const value = JSON.stringify({ PublicIP: lab.ipOf(DYING), PublicIPv6: null });
    const key = '/weft/networks/sky/subnets/10.110.200.0-24';
    await lab.etcdctl('put', `--lease=${lease}`, key, value);
    await aws.call('CreateRoute', {
      ...{ RouteTableId: await aws.mainTable(), DestinationCidrBlock: '10.110.200.0/24' },
      NetworkInterfaceId: aws.machine(DYING).interface,
    });
    await lab.sh(DYING, `ip address add ${ip}/32 dev lo`);
    await aws.forward();
    for (const name of ['c1', 'c2', 'c3']) await lab.until(`${name} reaches it`, () => lab.reaches(name, ip));
    t.true(await lab.reaches(DYING, bare(ends.get('h1')?.ip ?? '')), 'and the other way');
    const { leases } = await lab.json<{ leases: { node: string | null; publicIp: string }[] }>(
      ...(['h1', 'network', 'inspect', 'sky'] as const),
    );
    t.is(leases.find(({ node }) => node === null)?.publicIp, lab.ipOf(DYING));
    await lab.etcdctl('lease', 'revoke', lease);
    await routesAre(wanted());
    await aws.forward();
    await lab.sh(DYING, `ip address del ${ip}/32 dev lo`);
  },
);

test.serial('several tables, and what is not the network’s stays', async (t) => {
  const { routeTable } = await aws.call('CreateRouteTable', { VpcId: aws.vpc });
  const extra = text(routeTable, 'routeTableId');
  const main = await aws.mainTable();
  const { internetGateway } = await aws.call('CreateInternetGateway', {});
  const gateway = text(internetGateway, 'internetGatewayId');
  await aws.call('AttachInternetGateway', { InternetGatewayId: gateway, VpcId: aws.vpc });
  // Of another program: of another length, and to a gateway.
  const strangers = [
    ['10.111.64.0/20', { NetworkInterfaceId: aws.machine('h2').interface }],
    ['10.111.200.0/24', { GatewayId: gateway }],
  ] as const;
  for (const [to, hop] of strangers)
    await aws.call('CreateRoute', { RouteTableId: extra, DestinationCidrBlock: to, ...hop });
  const option = `RouteTableID=["${main}","${extra}"]`;
  await lab.json(
    'h1',
    ...[
      'network',
      'create',
      'both',
      '--subnet',
      '10.111.0.0/16',
      '--backend',
      'aws-vpc',
      '--backend-option',
      option,
    ],
  );
  const config = JSON.parse(await lab.etcdctl('get', '--print-value-only', '/weft/networks/both/config'));
  t.deepEqual(config.Backend, { Type: 'aws-vpc', RouteTableID: [main, extra] });
  await lab.addContainers('both1');
  const end = await lab.attach('h1', 'both', 'both1');
  const subnet = `${bare(end.gateway).replace(/\.1$/, '.0')}/24`;
  const tables = async (): Promise<string[]> =>
    (await aws.routes()).filter(({ to }) => to === subnet).map(({ table }) => table);
  await lab.until('both tables have it', async () => (await tables()).length === 2);
  await lab.json('h1', 'network', 'rm', 'both', '--force');
  await lab.until('both tables are without', async () => (await tables()).length === 0, {
    timeoutMs: 90_000,
  });
  const left = (await aws.routes()).filter(({ table }) => table === extra).map(({ to }) => to);
  t.deepEqual(left, strangers.map(([to]) => to).toSorted());
  t.is(await problemsOf('h1'), '[]');
});

test.serial(
  'a table that is not there: a problem that says what to do, and goes with the network',
  async (t) => {
    await lab.json(
      'h1',
      ...'network create wrong --subnet 10.112.0.0/16 --backend aws-vpc --backend-option RouteTableID=rtb-0123456789abcdef0'.split(
        ' ',
      ),
    );
    await lab.addContainers('wrong1');
    await lab.attach('h1', 'wrong', 'wrong1');
    await lab.until('it is named', async () =>
      /ec2:DescribeRouteTables of rtb-0123456789abcdef0 \(InvalidRouteTableID\.NotFound\).*eu-west-1.*AWS_REGION/.test(
        await problemsOf('h1'),
      ),
    );
    await lab.json('h1', 'network', 'rm', 'wrong', '--force');
    await lab.until('and goes with the network', async () => !(await problemsOf('h1')).includes('wrong'));
    t.pass();
  },
);
