// A two-host cluster with the controller's embedded etcd, driven by the command line.
import test, { type ExecutionContext } from 'ava';

import { bare, Cluster, INFRA, INFRA_IP, type EndpointJson } from '../lab/cluster.js';
import { shareAmongTests } from '../lab/fresh.js';
import { until } from '../lab/wait.js';

let lab: Cluster;
/** On the network `blue`: c1 of h1, and c2 of h2, named db. Other containers and networks are of one test, or free again after it. */
let a: EndpointJson;
let db: EndpointJson;

interface NetworkJson {
  name: string;
  subnet: string;
  subnet6: string | null;
  hostPrefix: number;
  vni: number;
  port: number;
  mtu: number | null;
  internal: boolean;
  masquerade: boolean;
  leases: {
    node: string | null;
    subnet: string;
    subnet6: string | null;
    publicIp: string;
    vtepMac: string;
    expires: string;
  }[];
  endpoints: number;
}

async function setUp(): Promise<void> {
  lab = await Cluster.create(2);
  await lab.addContainers('c1', 'c2', 'c3', 'c4', 'c5', 'c6', 'c7');
  await lab.startController();
  await lab.startAgents(['h1', 'h2']);
  await lab.json('h1', 'network', 'create', 'blue', '--subnet', '10.100.0.0/16');
  a = await lab.attach('h1', 'blue', 'c1');
  db = await lab.attach(
    ...['h2', 'blue', 'c2', '--name', 'db', '--alias', 'postgres'],
    ...['--mac', '02:00:00:00:00:2a', '--ifname', 'net0'],
  );
  await until('h1 has a route to h2', () => lab.reaches('c1', bare(db.ip)));
  await until('etcd has db', async () => {
    const listed = await lab.json<EndpointJson[]>(
      ...['h1', 'endpoint', 'ls', '--node', 'h2', '--network', 'blue'],
    );
    return listed.some(({ name }) => name === 'db');
  });
}

shareAmongTests(test, setUp, async () => lab?.lab.down());

/** A refusal: exit 1, two lines that match, and the code as JSON. */
async function refused(
  t: ExecutionContext,
  host: string,
  args: string[],
  code: string,
  words: RegExp,
): Promise<void> {
  const { code: exit, stdout, stderr } = await lab.weft(host, ...args, '-o', 'json');
  t.is(exit, 1, stderr);
  t.regex(stderr, words);
  t.true(stderr.trimEnd().split('\n').length <= 2);
  t.like(JSON.parse(stdout), { error: { code } });
}

test.serial('a network is created and shown; one that conflicts is refused', async (t) => {
  const made = await lab.json<NetworkJson>('h1', 'network', 'create', 'fresh', '--subnet', '10.103.0.0/16');
  t.like(made, {
    name: 'fresh',
    driver: 'overlay',
    backend: 'vxlan',
    subnet: '10.103.0.0/16',
    subnet6: null,
    hostPrefix: 24,
    port: 8472,
    mtu: null,
    internal: false,
    masquerade: true,
    vlan: null,
    parent: null,
    gateway: null,
    leases: [],
    endpoints: 0,
  });
  t.true(made.vni >= 4096 && made.vni <= 65535);
  const { events: _events, ...inspected } = await lab.json<{ events: unknown }>(
    'h1',
    'network',
    'inspect',
    'fresh',
  );
  t.deepEqual(inspected as unknown, made);
  await refused(
    t,
    'h1',
    ['network', 'create', 'fresh', '--subnet', '10.104.0.0/16'],
    'ALREADY_EXISTS',
    /fresh/,
  );
  await refused(
    t,
    'h1',
    ['network', 'create', 'red', '--subnet', '10.103.128.0/17'],
    'FAILED_PRECONDITION',
    /10\.103\.128\.0\/17 overlaps network fresh/,
  );
  await refused(
    t,
    'h1',
    ['network', 'create', 'red', '--subnet', '192.0.2.0/24'],
    'FAILED_PRECONDITION',
    /192\.0\.2\.\d+, the underlay address of node h/,
  );
  await refused(
    t,
    'h1',
    ['network', 'create', 'red', '--subnet', '10.104.0.0/16', '--vni', String(made.vni)],
    'FAILED_PRECONDITION',
    /fresh/,
  );
  await refused(
    t,
    'h1',
    ['network', 'create', 'red', '--subnet', '10.104.0.0/16', '--backend', 'ipsec'],
    'UNIMPLEMENTED',
    /ipsec/,
  );
  await refused(t, 'h1', ['network', 'inspect', 'nope'], 'NOT_FOUND', /nope/);
});

test.serial('containers of both hosts reach each other, their hosts, and the outside', async (t) => {
  t.like(a, {
    name: lab.ns('c1'),
    network: 'blue',
    node: 'h1',
    target: `netns:/run/netns/${lab.ns('c1')}`,
    ifname: 'eth0',
    mtu: 1450,
    ip6: null,
  });
  t.like(db, { name: 'db', node: 'h2', ifname: 'net0', mac: '02:00:00:00:00:2a' });
  t.true(await lab.reaches('c1', bare(db.ip)));
  await until('h2 has a route to h1', () => lab.reaches('c2', bare(a.ip)));
  t.true(await lab.reaches('c1', a.gateway));
  t.true(await lab.reaches('h1', bare(db.ip)), 'from a host to a container of the other');
  // The outside sees the host, the overlay sees the container.
  const outside = lab.try(INFRA, 'timeout 5 nc -l -n -v -p 7777 2>&1 </dev/null');
  await until('nc listens', async () =>
    (await lab.try(INFRA, 'ss -Hltn sport = :7777')).stdout.includes('7777'),
  );
  await lab.try('c1', `echo hello | nc -N -w 2 ${INFRA_IP} 7777`);
  t.regex((await outside).stdout, /192\.0\.2\.11\b/);
  const within = lab.try('c2', 'timeout 5 nc -l -n -v -p 7777 2>&1 </dev/null');
  await until('nc listens', async () =>
    (await lab.try('c2', 'ss -Hltn sport = :7777')).stdout.includes('7777'),
  );
  await lab.try('c1', `echo hello | nc -N -w 2 ${bare(db.ip)} 7777`);
  t.true((await within).stdout.includes(bare(a.ip)));
  const env = await lab.sh('h1', `cat ${lab.lab.host(1).runDir}/subnets/blue.env`);
  t.is(
    env,
    `FLANNEL_NETWORK=10.100.0.0/16\nFLANNEL_SUBNET=${a.gateway}/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n`,
  );
});

test.serial('endpoints, nodes, leases and status are shown', async (t) => {
  await until(
    'etcd has both endpoints',
    async () => (await lab.json<unknown[]>('h1', 'endpoint', 'ls')).length === 2,
  );
  const [db] = await lab.json<{ id: string; name: string }[]>('h1', 'endpoint', 'ls', '--node', 'h2');
  t.is(db?.name, 'db');
  t.like(await lab.json('h2', 'endpoint', 'inspect', db?.id.slice(0, 6) ?? ''), {
    name: 'db',
    aliases: ['postgres'],
    publish: [],
    vlan: null,
  });
  const network = await lab.json<NetworkJson>('h1', 'network', 'inspect', 'blue');
  t.deepEqual(
    network.leases.map(({ node }) => node ?? '').toSorted((x, y) => (x < y ? -1 : 1)),
    ['h1', 'h2'],
  );
  t.is(network.endpoints, 2);
  for (const lease of network.leases) t.true(Date.parse(lease.expires) > Date.now() + 23 * 3600 * 1000);
  const nodes = await lab.json<{ name: string; state: string; publicIp: string; endpoints: number }[]>(
    'h1',
    'node',
    'ls',
  );
  t.deepEqual(
    nodes.map(({ name, state, publicIp, endpoints }) => [name, state, publicIp, endpoints]),
    [
      ['h1', 'up', '192.0.2.11', 1],
      ['h2', 'up', '192.0.2.12', 1],
    ],
  );
  interface StatusJson {
    health: string;
    peers: { node: string; state: string; rttMs: number | null }[];
    problems: unknown[];
  }
  const status = await until('the path to the peer is measured', async () => {
    const now = await lab.json<StatusJson>('h1', 'status');
    return now.peers[0]?.rttMs === null ? undefined : now;
  });
  t.like(status, { health: 'ok', problems: [], peers: [{ node: 'h2', state: 'up' }] });
});

test.serial('a repeated attach returns the endpoint; a different or wrong one is refused', async (t) => {
  const there = await lab.json<{ id: string; ip: string; gateway: string }>(
    'h1',
    'attach',
    'blue',
    lab.ns('c1'),
  );
  const same = await lab.json<{ id: string }>(
    'h1',
    'attach',
    'blue',
    `netns:/run/netns/${lab.ns('c1')}`,
    '--ip',
    bare(there.ip),
  );
  t.is(same.id, there.id);
  const [, , third] = there.ip.split('.');
  const attach = (...flags: string[]): string[] => ['attach', 'blue', lab.ns('c3'), ...flags];
  await refused(
    t,
    'h1',
    ['attach', 'blue', lab.ns('c1'), '--ip', `10.100.${third}.99`],
    'ALREADY_EXISTS',
    /ip is 10\.100\.\d+\.2, not/,
  );
  await refused(t, 'h1', attach('--ip', bare(there.ip)), 'ALREADY_EXISTS', new RegExp(bare(there.ip)));
  await refused(
    t,
    'h1',
    attach('--ip', '10.200.0.5'),
    'INVALID_ARGUMENT',
    /10\.200\.0\.5 is outside network blue/,
  );
  await refused(t, 'h1', attach('--ip', there.gateway), 'INVALID_ARGUMENT', /is the gateway/);
  await refused(t, 'h1', attach('--ip', `10.100.${third}.0`), 'INVALID_ARGUMENT', /is the base address/);
  await refused(
    t,
    'h1',
    attach('--ip', `10.100.${third}.255`),
    'INVALID_ARGUMENT',
    /is the broadcast address/,
  );
  await refused(t, 'h1', attach('--name', 'db'), 'ALREADY_EXISTS', /the name db is taken in network blue/);
  await refused(t, 'h1', attach('--ip6', 'fd42::5'), 'INVALID_ARGUMENT', /no IPv6/);
  await refused(t, 'h1', ['attach', 'blue', 'no-such-container'], 'NOT_FOUND', /no-such-container/);
  await refused(t, 'h1', ['attach', 'blue', 'pid:4194300'], 'NOT_FOUND', /pid:4194300 is gone/);
  await refused(t, 'h1', ['attach', 'nope', lab.ns('c3')], 'NOT_FOUND', /nope/);
  await refused(
    t,
    'h1',
    ['attach', 'blue', `pid:${lab.process('agent-h1').pid}`],
    'INVALID_ARGUMENT',
    /the network of this host itself/,
  );
  const long = await lab.weft('h1', ...attach('--ifname', 'internal-interface0'));
  t.is(long.code, 2);
  t.regex(long.stderr, /too long/);
  // None of these left anything behind.
  t.is((await lab.sh('c3', 'ip -br link | grep -vc "^lo" || true')).trim(), '0');
  t.is((await lab.sh('h1', 'ip -br link | grep -c wfep')).trim(), '1');
  await refused(t, 'h1', ['detach', 'blue', lab.ns('c3')], 'NOT_FOUND', /is not attached to network blue/);
});

test.serial(
  'several networks on one container: a route to each, no forwarding between them; deleted with --force',
  async (t) => {
    await lab.json('h1', 'network', 'create', 'green', '--subnet', '10.101.0.0/16', '--internal');
    const own = await lab.attach('h1', 'green', 'c1');
    const other = await lab.attach('h2', 'green', 'c3');
    t.is(own.ifname, 'eth1');
    t.true(await lab.reaches('c1', bare(other.ip)));
    const routes = await lab.sh('c1', 'ip route');
    t.regex(routes, /default via 10\.100\.\d+\.1 dev eth0/);
    t.regex(routes, /10\.101\.0\.0\/16 via 10\.101\.\d+\.1 dev eth1/);
    await lab.sh('c3', `ip route add default via ${other.gateway}`);
    t.false(await lab.reaches('c3', bare(db.ip)), 'green must not reach blue');
    t.false(await lab.reaches('c3', db.gateway), 'nor its gateway');
    t.false(await lab.reaches('c3', INFRA_IP), 'nor, being internal, the world');
    await refused(t, 'h1', ['network', 'rm', 'green'], 'FAILED_PRECONDITION', /green/);

    await lab.json('h1', 'network', 'rm', 'green', '--force');
    await until('both hosts have left it', async () => {
      const links = await Promise.all(['c1', 'c3'].map((name) => lab.sh(name, 'ip -br addr')));
      return links.every((text) => !text.includes('10.101.'));
    });
    for (const host of ['h1', 'h2'])
      await until(
        `${host} has no object of it`,
        async () =>
          !(await lab.sh(host, 'ip -d link; nft list ruleset')).includes('10.101.') &&
          !(await lab.sh(host, 'ip -d link')).includes('weft network green'),
      );
    t.is((await lab.etcdctl('get', '--prefix', '--keys-only', '/weft/networks/green/')).trim(), '');
  },
);

test.serial('dual stack: both families, from the same network', async (t) => {
  await lab.json(
    'h1',
    'network',
    'create',
    'dual',
    '--subnet',
    '10.102.0.0/16',
    '--subnet6',
    'fd42:102::/48',
  );
  const [one, other] = await Promise.all([lab.attach('h1', 'dual', 'c4'), lab.attach('h2', 'dual', 'c5')]);
  t.is(one.mtu, 1430);
  for (const to of [other.ip, other.ip6 ?? ''])
    await until(`c4 reaches ${to}`, () => lab.reaches('c4', bare(to)));
  const keys = await lab.etcdctl('get', '--prefix', '--keys-only', '/weft/networks/dual/subnets/');
  t.regex(keys, /subnets\/10\.102\.\d+\.0-24&fd42:102:0:[0-9a-f:]+-64\n/);
});

test.serial(
  'an address of the other host’s subnet needs its agreement, is never given out twice, and is free after detach',
  async (t) => {
    const lease = (await lab.json<NetworkJson>('h1', 'network', 'inspect', 'blue')).leases.find(
      ({ node }) => node === 'h2',
    );
    const third = lease?.subnet.split('.')[2];
    const address = (last: number): string => `10.100.${third}.${last}`;
    const moved = await lab.attach('h1', 'blue', 'c3', '--ip', address(77));
    t.is(moved.ip, `${address(77)}/32`);
    t.true(await lab.reaches('c3', bare(db.ip)));
    t.true(await lab.reaches('c2', address(77)), 'from the subnet that it belongs to');
    t.true(await lab.reaches('c1', address(77)), 'from its own host');
    await refused(t, 'h2', ['attach', 'blue', lab.ns('c6'), '--ip', address(77)], 'ALREADY_EXISTS', /in use/);
    for (const last of [0, 1, 255])
      await refused(
        t,
        'h1',
        ['attach', 'blue', lab.ns('c7'), '--ip', address(last)],
        'FAILED_PRECONDITION',
        /h2|base|gateway|broadcast/,
      );
    await refused(
      t,
      'h1',
      ['attach', 'blue', lab.ns('c7'), '--ip', bare(db.ip)],
      'FAILED_PRECONDITION',
      /in use by db/,
    );
    await lab.json('h1', 'detach', 'blue', lab.ns('c3'));
    await until(
      'the claim is released',
      async () =>
        !(await lab.etcdctl('get', '--prefix', '--keys-only', '/weft/networks/blue/claims/')).includes(
          address(77),
        ),
    );
    const back = await until('its owner can allocate it', async () => {
      const { code, stdout } = await lab.weft(
        'h2',
        'attach',
        'blue',
        lab.ns('c6'),
        '--ip',
        address(77),
        '-o',
        'json',
      );
      return code === 0 ? (JSON.parse(stdout) as { ip: string }) : undefined;
    });
    t.is(back.ip, `${address(77)}/24`);

    await lab.json('h2', 'detach', 'blue', lab.ns('c6'));
    t.notRegex(await lab.sh('c6', 'ip -br addr'), /10\.100\./);
  },
);

test.serial(
  'a config written by hand is a network; an invalid record is reported and left alone',
  async (t) => {
    await lab.etcdctl(
      'put',
      '/weft/networks/hand/config',
      '{"Network":"10.110.0.0/16","Backend":{"Type":"vxlan","VNI":77}}',
    );
    await lab.etcdctl('put', '/weft/networks/bad/config', '{"Network":"10.111.0.0/33"}');
    await lab.etcdctl(
      'put',
      '/weft/networks/hand/subnets/10.110.9.0-24',
      '{"PublicIP":"192.0.2.9","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":77,"VtepMAC":"02:00:00:00:00:99"}}',
    );
    await lab.etcdctl('put', '/weft/networks/hand/subnets/garbage', 'nonsense');
    const made = await until('it can be attached to', async () => {
      const { code, stdout } = await lab.weft('h1', 'attach', 'hand', lab.ns('c3'), '-o', 'json');
      return code === 0 ? (JSON.parse(stdout) as { ip: string }) : undefined;
    });
    t.regex(made.ip, /^10\.110\.\d+\.2\/24$/);
    t.regex(
      await lab.sh('h1', 'ip route; ip neigh; bridge fdb'),
      /10\.110\.9\.0\/24 via 10\.110\.9\.0 dev wfvx77 [^]*10\.110\.9\.0 dev wfvx77 lladdr 02:00:00:00:00:99 PERMANENT[^]*02:00:00:00:00:99 dev wfvx77 dst 192\.0\.2\.9 self permanent/,
    );
    const { problems } = await lab.json<{ problems: { what: string }[] }>('h1', 'status');
    t.true(problems.some(({ what }) => what.includes('/weft/networks/bad/config')));
    t.true(problems.some(({ what }) => what.includes('garbage')));
    const network = await lab.json<NetworkJson>('h1', 'network', 'inspect', 'hand');
    t.true(network.leases.some(({ node, publicIp }) => node === null && publicIp === '192.0.2.9'));
  },
);

// The last: h2 has nothing of weft afterwards.
test.serial('--cleanup removes the node', async (t) => {
  const { code, ms } = await lab.process('agent-h2').stop();
  t.is(code, 0);
  t.true(ms < 5000);
  t.true((await lab.sh('h2', 'ip -br link')).includes('wfbr'), 'the data path stays');
  await until(
    'it is down',
    async () => (await lab.json<{ state: string }>('h1', 'node', 'inspect', 'h2')).state === 'down',
  );
  const { code: done, stderr } = await lab.weft('h2', 'agent', ...lab.agentFlags('h2'), '--cleanup');
  t.is(done, 0, stderr);
  t.notRegex(
    await lab.sh('h2', 'ip link; ip route; nft list ruleset'),
    /wf(br|vx|ep)|proto 119|table inet weft/,
  );
  t.notRegex(await lab.etcdctl('get', '--prefix', '/weft/networks/'), /"Node":"h2"|"node":"h2"/);
  const nodes = await lab.json<{ name: string }[]>('h1', 'node', 'ls');
  t.deepEqual(
    nodes.map(({ name }) => name),
    ['h1'],
  );
});
