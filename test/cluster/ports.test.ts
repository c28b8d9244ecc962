// Published ports on a dual-stack cluster of three hosts, with real clients.
//
// Every source that must reach a port does; a port in use is refused with its owner's name; ports survive agent failures.
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';

import test, { type ExecutionContext } from 'ava';

import { bare, Cluster, type EndpointJson } from '../lab/cluster.js';
import { shareAmongTests } from '../lab/fresh.js';
import { CHECKOUT, OUTSIDE } from '../lab/lab.js';
import type { LabProcess } from '../lab/process.js';
import { until } from '../lab/wait.js';

interface PortJson {
  hostIp: string;
  hostPort: number;
  port: number;
  protocol: string;
  everywhere: boolean;
  endpoint: string;
  name: string;
  network: string;
  node: string;
  ip: string;
  problem: string | null;
}

let lab: Cluster;
const at: Record<string, EndpointJson & { publish: PortJson[] }> = {};

/** web, near and far are on `blue`, other and otherfar on `red`, vault on `safe`, which is internal; web serves. */
async function setUp(): Promise<void> {
  lab = await Cluster.create(3);
  await lab.addContainers('web', 'near', 'far', 'other', 'vault', 'otherfar');
  await lab.startController();
  await lab.startAgents(['h1', 'h2', 'h3']);
  const subnets: [string, string, string, ...string[]][] = [
    ['blue', '10.100.0.0/16', 'fd42:100::/48'],
    ['red', '10.101.0.0/16', 'fd42:101::/48'],
    ['safe', '10.102.0.0/16', 'fd42:102::/48', '--internal'],
  ];
  for (const [name, subnet, subnet6, ...flags] of subnets)
    await lab.json('h1', 'network', 'create', name, '--subnet', subnet, '--subnet6', subnet6, ...flags);
  // As on a host with Docker.
  for (const host of ['h1', 'h2']) await lab.sh(host, 'iptables -P FORWARD DROP; ip6tables -P FORWARD DROP');
  await attach('h1', 'blue', 'web', '--publish', '8080:80', '--publish', '5353:53/udp');
  await attach('h1', 'blue', 'near');
  await attach('h2', 'blue', 'far');
  await attach('h1', 'red', 'other');
  await attach('h2', 'red', 'otherfar');
  await attach('h1', 'safe', 'vault');
  await serve('web', '80', '53');
}

shareAmongTests(test, setUp, async () => lab?.lab.down());

/** A container of one test. */
async function container(t: ExecutionContext, name: string): Promise<void> {
  await lab.addContainers(name);
  t.teardown(() => lab.removeContainer(name));
}

async function attach(
  host: string,
  network: string,
  name: string,
  ...flags: string[]
): Promise<EndpointJson> {
  const made = await lab.json<(typeof at)[string]>(
    host,
    'attach',
    network,
    lab.ns(name),
    '--name',
    name,
    ...flags,
  );
  at[name] = made;
  return made;
}

async function serve(where: string, ...ports: string[]): Promise<LabProcess> {
  const program = join(CHECKOUT, 'build/test/lab/echo-server.js');
  const started = lab.spawn(`server-${where}-${ports.join('-')}`, where, [
    process.execPath,
    program,
    ...ports,
  ]);
  await lab.says(started, 'ready');
  return started;
}

/** The address that the server saw; undefined where it was not reached. */
async function ask(from: string, ip: string, port: number, seconds = 2): Promise<string | undefined> {
  const host = ip.includes(':') ? `[${ip}]` : ip;
  const { code, stdout } = await lab.try(from, `curl -s --max-time ${seconds} http://${host}:${port}/`);
  return code === 0 ? stdout.trim() : undefined;
}

async function askUdp(from: string, ip: string, port: number): Promise<string | undefined> {
  const { stdout } = await lab.try(from, `echo hello | nc -u -w 1 ${ip} ${port}`);
  return stdout.trim() || undefined;
}

/** Nothing answers within a short time: refused, or silent. */
const closed = async (from: string, ip: string, port: number): Promise<boolean> =>
  (await ask(from, ip, port, 0.5)) === undefined;

async function refused(
  t: ExecutionContext,
  host: string,
  args: string[],
  code: string,
  words: RegExp,
  exit = 1,
): Promise<void> {
  const outcome = await lab.weft(host, ...args, '-o', 'json');
  t.is(outcome.code, exit, outcome.stderr);
  t.regex(outcome.stderr, words);
  t.true(outcome.stderr.trimEnd().split('\n').length <= 2, outcome.stderr);
  t.like(JSON.parse(outcome.stdout), { error: { code } });
}

const ports = (host: string, ...args: string[]): Promise<PortJson[]> =>
  lab.json<PortJson[]>(host, 'port', 'ls', ...args);

test.serial(
  'attach publishes ports: to the outside, the host, its loopback, the container and other networks',
  async (t) => {
    t.like(at['web'], {
      publish: [
        { hostIp: '0.0.0.0', hostPort: 8080, port: 80, protocol: 'tcp', everywhere: false },
        { hostIp: '0.0.0.0', hostPort: 5353, port: 53, protocol: 'udp', everywhere: false },
      ],
    });
    const gateway = at['web']?.gateway ?? '';
    const [h1, h16] = [lab.ipOf('h1'), '2001:db8::11'];
    const h2 = lab.ipOf('h2');
    // The client, the address it connects to, and the source address that the container sees.
    const seen: [string, string, string][] = [
      ['outside', h1, '192.0.2.1'],
      ['outside', h16, '2001:db8::1'],
      ['h2', h1, h2],
      ['h1', h1, h1],
      ['h1', h16, h16],
      ['h1', '127.0.0.1', gateway],
      ['h1', gateway, gateway],
      // The container itself, and its neighbour: the answer must return through the host.
      ['web', h1, gateway],
      ['near', h1, gateway],
      ['near', gateway, gateway],
      ['far', h1, h2],
      ['other', h1, bare(at['other']?.ip ?? '')],
      ['other', h16, bare(at['other']?.ip6 ?? '')],
      ['other', at['other']?.gateway ?? '', bare(at['other']?.ip ?? '')],
      ['otherfar', h1, h2],
    ];
    for (const [from, ip, as] of seen) t.is(await ask(from, ip, 8080), as, `${from} to ${ip}`);
    t.truthy(await ask('web', h16, 8080), 'the container itself, by IPv6');
    t.truthy(await ask('near', h16, 8080));
    for (const [from, ip, as] of seen.slice(0, 8))
      t.is(await askUdp(from, ip, 5353), as, `${from} to ${ip}, UDP`);
    t.truthy(await askUdp('web', h1, 5353));
  },
);

test.serial('a published port opens nothing else', async (t) => {
  const [h1, h16] = [lab.ipOf('h1'), '2001:db8::11'];
  const web = at['web'];
  t.true(await closed('vault', h1, 8080), 'from an internal network');
  t.true(await closed('vault', at['vault']?.gateway ?? '', 8080));
  t.true(await closed('other', bare(web?.ip ?? ''), 80), 'networks do not reach each other without it');
  t.true(await closed('other', bare(web?.ip6 ?? ''), 80));
  t.true(await closed('outside', h1, 80));
  t.true(await closed('outside', h1, 5353), 'a port of UDP is none of TCP');
  const refusedAtOnce = await lab.try('h1', 'curl -s --max-time 5 http://[::1]:8080/');
  t.is(refusedAtOnce.code, 7, 'from ::1 it is refused, not waited for');
  t.true(await closed('h2', h16, 5353));
});

test.serial('the host’s loopback stays private', async (t) => {
  // route_localnet would let a container in by the address 127.0.0.1; only a route of its own takes it there.
  const server = await serve('h1', '9090');
  t.truthy(await ask('h1', '127.0.0.1', 9090));
  await lab.sh('near', 'ip route replace table 7 127.0.0.1 via ' + (at['near']?.gateway ?? '') + ' dev eth0');
  await lab.sh(
    'near',
    'echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet; ip rule add pref 1 from ' +
      bare(at['near']?.ip ?? '') +
      ' lookup 7; ip rule add pref 9 lookup local; ip rule del pref 0 lookup local',
  );
  const inside = await lab.try(
    'near',
    `curl -s --max-time 1 --interface ${bare(at['near']?.ip ?? '')} http://127.0.0.1:9090/`,
  );
  t.not(inside.code, 0);
  const port = await lab.try(
    'near',
    `curl -s --max-time 1 --interface ${bare(at['near']?.ip ?? '')} http://127.0.0.1:8080/`,
  );
  t.not(port.code, 0);
  await lab.sh('near', 'ip rule add pref 0 lookup local; ip rule del pref 1; ip rule del pref 9');
  server.signal('SIGTERM');
  await server.ended;
});

test.serial(
  'a repeated attach changes nothing; a different one is refused with the difference',
  async (t) => {
    const again = await lab.json('h1', 'attach', 'blue', lab.ns('web'), '--publish', '8080:80');
    t.deepEqual(again, at['web']);
    await refused(
      t,
      'h1',
      ['attach', 'blue', lab.ns('web'), '--publish', '8081:81'],
      'ALREADY_EXISTS',
      /port 81\/tcp is not published so/,
    );
  },
);

test.serial('a wrong specification is refused before any service is called', async (t) => {
  const wrong: [string, RegExp][] = [
    ['65536:80', /the host’s port 65536 is out of range\s+Ports are 1 to 65535/],
    ['8080:70000', /the container’s port 70000 is out of range/],
    ['8080:80/sctp', /protocol "sctp" is not served/],
    ['8000-8010:80-85', /11 of the host’s ports for 6/],
    ['[::1]:8080:80', /::1 cannot lead to a container/],
    ['192.0.2.300:80:80', /not an address of a host/],
    ['x', /not/],
  ];
  for (const [spec, words] of wrong) {
    await refused(
      t,
      'h1',
      ['attach', 'blue', lab.ns('near'), '--publish', spec],
      'INVALID_ARGUMENT',
      words,
      2,
    );
    await refused(t, 'h1', ['port', 'publish', 'near', spec], 'INVALID_ARGUMENT', words, 2);
  }
  await refused(
    t,
    'h1',
    ['port', 'publish', 'near', '192.0.2.11:80:80', '--everywhere'],
    'INVALID_ARGUMENT',
    /one host/,
    2,
  );
});

test.serial('a port in use is refused with its owner’s name, and the attempt is rolled back', async (t) => {
  const nc = lab.spawn('squatter', 'h1', ['nc', '-l', '-k', '9000']);
  const ncUdp = lab.spawn('squatter-udp', 'h1', ['nc', '-u', '-l', '-k', '9001']);
  await until(
    'a process listens',
    async () => /:9001/.test(await lab.sh('h1', 'ss -Hlun')) && /:9000/.test(await lab.sh('h1', 'ss -Hltn')),
  );
  await refused(
    t,
    'h1',
    ['port', 'publish', 'near', '9002:80', '9000:80'],
    'ALREADY_EXISTS',
    new RegExp(`port 9000/tcp is taken by nc \\(pid ${nc.pid}\\)`),
  );
  for (const spec of ['53:53/udp', '53:53'])
    await refused(
      t,
      'h1',
      ['port', 'publish', 'near', spec],
      'ALREADY_EXISTS',
      /port 53\/\w+ is taken by weft’s DNS server[^]*HOSTIP:53:PORT[^]*--dns off/,
    );
  await lab.json('h1', 'port', 'publish', 'near', `${lab.ipOf('h1')}:53:53/udp`);
  await lab.json('h1', 'port', 'rm', 'near', `${lab.ipOf('h1')}:53/udp`);
  await refused(
    t,
    'h1',
    ['port', 'publish', 'near', '9001:80/udp'],
    'ALREADY_EXISTS',
    /taken by nc \(pid \d+\)/,
  );
  await refused(
    t,
    'h1',
    ['port', 'publish', 'near', '127.0.0.1:8080:81'],
    'ALREADY_EXISTS',
    /port 127\.0\.0\.1:8080\/tcp is taken by endpoint web of network blue/,
  );
  await refused(
    t,
    'h1',
    ['port', 'publish', 'near', '198.51.100.7:80:80'],
    'INVALID_ARGUMENT',
    /not an address of node h1/,
  );
  await container(t, 'late');
  await refused(
    t,
    'h1',
    ['attach', 'blue', lab.ns('late'), '--publish', '9000:80'],
    'ALREADY_EXISTS',
    /taken by nc/,
  );
  t.false((await lab.sh('late', 'ip -o link')).includes('eth0'), 'all or nothing');
  t.deepEqual(
    (await ports('h1')).map(({ hostPort }) => hostPort),
    [5353, 8080],
  );
  // And the other way round: no process can bind a port that leads to a container.
  const { code, stderr } = await lab.try('h1', 'nc -l 8080');
  t.not(code, 0);
  t.regex(stderr, /in use/);
  await Promise.all([nc.stop(), ncUdp.stop()]);
});

test.serial('internal networks publish nothing', async (t) => {
  await container(t, 'hidden');
  const words = /network safe is internal: nothing outside reaches it/;
  await refused(t, 'h1', ['port', 'publish', 'vault', '8090:80'], 'FAILED_PRECONDITION', words);
  await refused(
    t,
    'h1',
    ['attach', 'safe', lab.ns('hidden'), '--publish', '8090:80'],
    'FAILED_PRECONDITION',
    words,
  );
});

test.serial(
  'on a running endpoint: ranges, one address, chosen ports; listed, and closed again',
  async (t) => {
    const made = await lab.json<PortJson[]>(
      'h1',
      'port',
      'publish',
      'web',
      '7000-7002:80-82',
      '127.0.0.1:7100:80',
      '[2001:db8::11]:7200:80',
      '7300-7310:80',
    );
    t.is(made.length, 6);
    const server = await serve('near', '80');
    const [chosen] = await lab.json<PortJson[]>('h1', 'port', 'publish', 'near', '80');
    t.true((chosen?.hostPort ?? 0) >= 49_153);
    t.deepEqual(
      await lab.json('h1', 'port', 'publish', 'near', '80'),
      [chosen],
      'one that leads there is there',
    );
    t.is(await ask('outside', lab.ipOf('h1'), 7000), '192.0.2.1');
    t.is(await ask('outside', lab.ipOf('h1'), chosen?.hostPort ?? 0), '192.0.2.1');
    t.is(await ask('outside', lab.ipOf('h1'), 7300), '192.0.2.1', 'the first of a range that is free');
    t.truthy(await ask('h1', '127.0.0.1', 7100));
    t.true(await closed('outside', lab.ipOf('h1'), 7100), 'one address only');
    t.true(await closed('h1', lab.ipOf('h1'), 7100));
    t.truthy(await ask('outside', '2001:db8::11', 7200));
    t.true(await closed('outside', lab.ipOf('h1'), 7200));
    t.deepEqual(
      await lab.json('h1', 'port', 'publish', 'web', '7000-7002:80-82'),
      made.filter(({ hostPort }) => hostPort <= 7002),
      'again: the same',
    );
    t.is((await ports('h1', 'web')).length, 8);
    // Published to etcd, and so to every node.
    await until(
      'the other host knows',
      async () =>
        (await lab.json<(typeof at)[string]>('h2', 'endpoint', 'inspect', at['web']?.id ?? '')).publish
          .length === 8,
    );
    const removed = await lab.json<PortJson[]>('h1', 'port', 'rm', 'web', '7000-7002', '127.0.0.1:7100');
    t.is(removed.length, 4);
    t.true(await closed('outside', lab.ipOf('h1'), 7000));
    await refused(t, 'h1', ['port', 'rm', 'web', '7000'], 'NOT_FOUND', /has no such port/);
    await refused(t, 'h2', ['port', 'publish', 'web', '7000:80'], 'FAILED_PRECONDITION', /is on node h1/);
    t.is(await ask('outside', lab.ipOf('h1'), 8080), '192.0.2.1');
    await lab.json('h1', 'port', 'rm', 'web', '[2001:db8::11]:7200', '7300');
    await lab.json('h1', 'port', 'rm', 'near', String(chosen?.hostPort));
    await server.stop();
  },
);

test.serial('a container without a default route here sees the gateway as the client', async (t) => {
  await container(t, 'bare');
  await attach('h1', 'blue', 'bare', '--no-default-route', '--publish', '8095:80');
  await serve('bare', '80');
  t.is(await ask('outside', lab.ipOf('h1'), 8095), at['bare']?.gateway);
  await lab.json('h1', 'detach', 'blue', lab.ns('bare'));
});

test.serial('--everywhere: each host of the network opens the port', async (t) => {
  await lab.json('h1', 'port', 'publish', 'web', '8300:80', '8353:53/udp', '--everywhere');
  const far = '10.100';
  await until('h2 has it open', async () => (await ask('outside', lab.ipOf('h2'), 8300)) !== undefined);
  t.is(await ask('outside', lab.ipOf('h1'), 8300), '192.0.2.1', 'its own host keeps the client’s address');
  t.true((await ask('outside', lab.ipOf('h2'), 8300))?.startsWith(far));
  t.truthy(await ask('outside', '2001:db8::12', 8300));
  t.truthy(await ask('h2', '127.0.0.1', 8300));
  t.truthy(await ask('h2', lab.ipOf('h2'), 8300));
  t.is(
    await ask('far', lab.ipOf('h2'), 8300),
    bare(at['far']?.ip ?? ''),
    'of the same network: under its own address',
  );
  t.truthy(await ask('otherfar', lab.ipOf('h2'), 8300));
  t.truthy(await ask('web', lab.ipOf('h2'), 8300));
  t.truthy(await askUdp('outside', lab.ipOf('h2'), 8353));
  t.true(await closed('outside', '192.0.2.13', 8300), 'h3 is not on the network');
  t.like(
    (await ports('h2')).find(({ hostPort }) => hostPort === 8300),
    { node: 'h1', name: 'web', everywhere: true, problem: null },
  );
  await refused(
    t,
    'h2',
    ['port', 'publish', 'far', '8300:80'],
    'ALREADY_EXISTS',
    /8300\/tcp is taken by endpoint web of network blue on node h1/,
  );
  await lab.json('h2', 'port', 'publish', 'far', '8400:80');
  await until(
    'etcd knows',
    async () =>
      (await lab.json<(typeof at)[string]>('h1', 'endpoint', 'inspect', at['far']?.id ?? '')).publish
        .length === 1,
  );
  // h1's agent answers this when it has seen etcd up to here.
  await lab.json('h1', 'dns', 'add', 'marker', '192.0.2.1', '--network', 'blue');
  await refused(
    t,
    'h1',
    ['port', 'publish', 'web', '8400:80', '--everywhere'],
    'ALREADY_EXISTS',
    /8400\/tcp is taken by endpoint far of network blue on node h2/,
  );
  t.not((await lab.try('h2', 'nc -l 8300')).code, 0, 'held there, too');
  await lab.json('h1', 'port', 'rm', 'web', '8300', '8353/udp');
  await lab.json('h2', 'port', 'rm', 'far', '8400');
  await lab.json('h1', 'dns', 'rm', 'marker');
});

test.serial(
  '--everywhere: a host that joins later opens it; a process there keeps its port, reported in status',
  async (t) => {
    await container(t, 'local');
    await lab.json('h1', 'port', 'publish', 'web', '8600:80', '--everywhere');
    const nc = lab.spawn('h3-squatter', 'h3', ['nc', '-l', '-k', '8600']);
    await until('a process listens', async () => /:8600/.test(await lab.sh('h3', 'ss -Hltn')));
    await attach('h3', 'blue', 'local');
    await until('status reports it', async () =>
      /8600\/tcp, published by endpoint web of network blue on node h1[\s\S]*nc/.test(
        (await lab.weft('h3', 'status')).stdout,
      ),
    );
    t.true(await closed('outside', '192.0.2.13', 8600));
    nc.signal('SIGTERM');
    await nc.ended;
    await until(
      'it opens once the process has ended',
      async () => (await ask('outside', '192.0.2.13', 8600, 0.5)) !== undefined,
      { timeoutMs: 30_000 },
    );
    t.notRegex((await lab.weft('h3', 'status')).stdout, /8600/);
    await lab.json('h1', 'port', 'rm', 'web', '8600');
    await until('closed there', () => closed('outside', '192.0.2.13', 8600));
    t.deepEqual(await ports('h3'), []);
    await lab.json('h3', 'detach', 'blue', lab.ns('local'));
  },
);

test.serial('a connection survives kill -9 of the agent, and nothing changes', async (t) => {
  await lab.json('h1', 'port', 'publish', 'web', '8500:80', '--everywhere');
  await until('h2 has it open', async () => (await ask('outside', lab.ipOf('h2'), 8500)) !== undefined);
  const program = join(CHECKOUT, 'build/test/lab/talker.js');
  const talkers = [
    lab.spawn('talker-1', 'outside', [process.execPath, program, lab.ipOf('h1'), '8080']),
    lab.spawn('talker-2', 'outside', [process.execPath, program, lab.ipOf('h2'), '8500']),
  ];
  const answers = (talker: LabProcess): number => talker.log().split('answer').length - 1;
  for (const talker of talkers) await until('it talks', () => answers(talker) > 3);
  const before = [await ports('h1'), await ports('h2')];
  for (const host of ['h1', 'h2']) {
    lab.process(`agent-${host}`).signal('SIGKILL');
    await lab.process(`agent-${host}`).ended;
  }
  t.is(await ask('outside', lab.ipOf('h1'), 8080), '192.0.2.1', 'without an agent');
  t.truthy(await ask('outside', lab.ipOf('h2'), 8500), 'without an agent');
  await lab.startAgents(['h1', 'h2']);
  // The ports of other nodes are known once etcd has answered.
  const all = async (): Promise<unknown> => [await ports('h1'), await ports('h2')];
  await until('the ports are followed again', async () => isDeepStrictEqual(await all(), before));
  t.deepEqual(await all(), before);
  const then = talkers.map(answers);
  for (const [i, talker] of talkers.entries()) {
    await until('it still talks', () => answers(talker) > (then[i] ?? 0) + 3);
    t.false(talker.log().includes('closed'));
    talker.signal('SIGTERM');
  }
  t.is(await ask('outside', lab.ipOf('h1'), 8080), '192.0.2.1');
  t.not((await lab.try('h1', 'nc -l 8080')).code, 0, 'held again');
  await lab.json('h1', 'port', 'rm', 'web', '8500');
});

test.serial('flushed rules are restored and counted', async (t) => {
  interface Status {
    node: { driftRepaired: number };
  }
  const before = (await lab.json<Status>('h1', 'status')).node.driftRepaired;
  await lab.sh('h1', 'nft flush map inet weft port4; nft flush chain inet weft prerouting');
  await until(
    'the port is open again',
    async () => (await ask('outside', lab.ipOf('h1'), 8080, 0.5)) === '192.0.2.1',
  );
  t.true((await lab.json<Status>('h1', 'status')).node.driftRepaired > before);
});

test.serial('after detach no rule leads to the address, and the port is free', async (t) => {
  await container(t, 'leaving');
  await attach('h1', 'blue', 'leaving', '--publish', '8700:80');
  await lab.json('h1', 'port', 'publish', 'leaving', '8750:80', '--everywhere');
  await serve('leaving', '80');
  t.is(await ask('outside', lab.ipOf('h1'), 8700), '192.0.2.1');
  await until('h2 has it open', async () => (await ask('outside', lab.ipOf('h2'), 8750)) !== undefined);
  await lab.weft('h1', 'detach', 'blue', lab.ns('leaving'));
  t.true(await closed('outside', lab.ipOf('h1'), 8700));
  await until('closed on h2 too', () => closed('outside', lab.ipOf('h2'), 8750));
  const server = await serve('h1', '8700');
  t.is(await ask('outside', lab.ipOf('h1'), 8700), '192.0.2.1');
  t.is(await ask('outside', OUTSIDE.ip, 8700), undefined);
  await server.stop();
});
