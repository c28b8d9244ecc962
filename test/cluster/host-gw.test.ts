// The backend host-gw on three hosts of one link.
//
// etcd as flannel writes it, and plain routes, through damage, link failures and restarts.
import test from 'ava';

import { bare, Cluster, type EndpointJson } from '../lab/cluster.js';
import { shareAmongTests } from '../lab/fresh.js';
import { ping } from '../lab/traffic.js';

const HOSTS = ['h1', 'h2', 'h3'];
const PREFIX = '/weft/networks';
const NODES = '/weft/nodes';

let lab: Cluster;
const ends = new Map<string, EndpointJson>();

interface LeaseJson {
  node: string;
  subnet: string;
  vtepMac: string | null;
}
interface NetworkJson {
  backend: string;
  vni: number | null;
  port: number | null;
  leases: LeaseJson[];
}

/** The network `gw`, with c1 on h1, c2 on h2 and c3 on h3. */
async function setUp(): Promise<void> {
  lab = await Cluster.create(HOSTS.length);
  await lab.addContainers('c1', 'c2', 'c3');
  await lab.startController();
  await lab.startAgents(HOSTS);
  await lab.json(
    'h1',
    ...['network', 'create', 'gw', '--subnet', '10.110.0.0/16', '--subnet6', 'fd42:110::/48'],
    ...['--backend', 'host-gw'],
  );
  await Promise.all(HOSTS.map(async (host, i) => ends.set(host, await lab.attach(host, 'gw', `c${i + 1}`))));
  await lab.until('every route exists', async () =>
    (await Promise.all(HOSTS.flatMap((host) => [routes(host), routes(host, 6)]))).every(
      (all) => all.length === 2,
    ),
  );
}

shareAmongTests(test, setUp, async () => lab?.lab.down());

/** Weft's routes over the underlay, as `ip` prints them. */
const routes = async (host: string, family = 4): Promise<string[]> =>
  (await lab.sh(host, `ip -${family} route show proto 119 dev eth0`))
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '')
    .toSorted((a, b) => (a < b ? -1 : 1));

const subnetOf = (host: string): string => `${bare(ends.get(host)?.gateway ?? '').replace(/\.1$/, '.0')}/24`;

test.serial(
  'tunnel options are refused; a network is created without them, and deleted with all its routes',
  async (t) => {
    const create = (...more: string[]): string[] => [
      ...['network', 'create', 'plain', '--subnet', '10.111.0.0/16', '--subnet6', 'fd42:111::/48'],
      ...['--backend', 'host-gw', ...more],
    ];
    for (const option of ['--vni', '--port']) {
      const { code, stderr } = await lab.weft('h1', ...create(option, '5000'));
      t.not(code, 0);
      t.regex(stderr, /(?:vni|port): the backend host-gw has none: it routes over the hosts' own link/);
    }
    const internal = await lab.weft('h1', ...create('--internal'));
    t.not(internal.code, 0);
    t.regex(internal.stderr, /cannot have host-gw/);
    const made = await lab.json<NetworkJson>('h1', ...create());
    t.like(made, { backend: 'host-gw', vni: null, port: null });
    const config = JSON.parse(await lab.etcdctl('get', '--print-value-only', `${PREFIX}/plain/config`));
    t.deepEqual(config.Backend, { Type: 'host-gw' });

    await lab.addContainers(...HOSTS.map((host) => `plain-${host}`));
    await Promise.all(HOSTS.map((host) => lab.attach(host, 'plain', `plain-${host}`)));
    const counts = async (): Promise<number[]> => {
      const all = await Promise.all(HOSTS.flatMap((host) => [routes(host), routes(host, 6)]));
      return all.map((of) => of.filter((route) => /^(?:10\.111\.|fd42:111:)/.test(route)).length);
    };
    await lab.until('every route exists', async () => (await counts()).every((count) => count === 2));
    t.regex(await lab.sh('h1', 'ip link'), /wfbr-plain/);
    await lab.json('h1', 'network', 'rm', 'plain', '--force');
    await lab.until('nothing is left', async () => (await counts()).every((count) => count === 0));
    t.notRegex(await lab.sh('h1', 'ip link'), /wfbr-plain/);
    for (const host of HOSTS) await lab.removeContainer(`plain-${host}`);
  },
);

test.serial(
  'containers of all hosts reach each other with the MTU of the underlay, by routes alone',
  async (t) => {
    t.deepEqual(
      HOSTS.map((host) => ends.get(host)?.mtu),
      [1500, 1500, 1500],
    );
    for (const [i] of HOSTS.entries()) {
      for (const { ip, ip6 } of ends.values())
        for (const address of [ip, ip6 ?? '']) {
          const { received } = await ping(lab.place(`c${i + 1}`), bare(address), { count: 2 });
          t.is(received, 2, `c${i + 1} → ${address}`);
        }
    }
    // 28 bytes of headers: no byte of encapsulation.
    await lab.sh('c1', `ping -c 1 -W 5 -M do -s 1472 ${bare(ends.get('h2')?.ip ?? '')}`);
    t.deepEqual(
      await routes('h1'),
      ['h2', 'h3'].map((host) => `${subnetOf(host)} via ${lab.ipOf(host)}`).toSorted(),
    );
    t.is((await routes('h1', 6)).length, 2);
    t.regex(await lab.sh('h1', 'ip -d link'), /wfbr-gw/);
    t.notRegex(await lab.sh('h1', 'ip -d link'), /wfvx/);
  },
);

test.serial('members pass by the addresses of their leases, and no other machine of the link', async (t) => {
  const target = bare(ends.get('h1')?.ip ?? '');
  const direct = (word: string): Promise<unknown> =>
    lab.json('h1', 'network', 'update', 'gw', '--direct-access', word);
  await lab.sh('outside', `ip route replace 10.110.0.0/16 via ${lab.ipOf('h1')}`);
  for (const from of ['c2', 'h2']) t.true(await lab.reaches(from, target), from);
  t.false(await lab.reaches('outside', target));
  await direct('on');
  await lab.until('it is open', () => lab.reaches('outside', target));
  await direct('off');
  await lab.until('it is closed', async () => !(await lab.reaches('outside', target)));
  t.true(await lab.reaches('c3', target));
  await lab.sh('outside', 'ip route del 10.110.0.0/16');
});

test.serial('leases are flannel’s host-gw leases, without data', async (t) => {
  const { leases } = await lab.json<NetworkJson>('h1', 'network', 'inspect', 'gw');
  t.deepEqual(
    leases.map(({ node, vtepMac }) => `${node} ${vtepMac}`).toSorted((a, b) => (a < b ? -1 : 1)),
    HOSTS.map((host) => `${host} null`),
  );
  const text = await lab.etcdctl('get', '--prefix', '--print-value-only', `${PREFIX}/gw/subnets/`);
  for (const line of text.split('\n').filter((one) => one !== '')) {
    const { BackendType, PublicIP, ...rest } = JSON.parse(line);
    t.is(BackendType, 'host-gw');
    t.regex(PublicIP, /^192\.0\.2\./);
    t.deepEqual(Object.keys(rest).toSorted(), ['PublicIPv6', 'Weft']);
  }
});

test.serial('a route deleted by hand is restored; an obsolete one of weft’s is deleted', async (t) => {
  const wanted = await routes('h1');
  await lab.sh('h1', `ip route del ${subnetOf('h2')}`);
  await lab.sh('h1', `ip route add 10.110.250.0/24 via ${lab.ipOf('h2')} dev eth0 proto 119`);
  await lab.until('the routes are as before', async () => (await routes('h1')).join() === wanted.join());
  t.true(await lab.reaches('c1', bare(ends.get('h2')?.ip ?? '')));
});

test.serial('a link that went down has its routes again when it is up', async (t) => {
  const wanted = await routes('h1');
  const wanted6 = await routes('h1', 6);
  t.is(wanted6.length, 2);
  // The kernel takes IPv6 addresses and every route from a link that goes down; the host restores its own.
  await lab.sh(
    'h1',
    `ip link set eth0 down && ip link set eth0 up && ip route replace default via 192.0.2.1 &&
     ip -6 address replace ${lab.lab.host(1).ip6}/64 dev eth0 nodad && ip -6 route replace default via 2001:db8::1`,
  );
  await lab.until('the routes are restored', async () => (await routes('h1')).join() === wanted.join());
  await lab.until('those of IPv6, too', async () => (await routes('h1', 6)).join() === wanted6.join());
  await lab.until('traffic flows', () => lab.reaches('c1', bare(ends.get('h2')?.ip ?? '')));
  t.pass();
});

test.serial('a restart of the agent costs no packet, and of the routes only a stale one', async (t) => {
  const wanted = await routes('h2');
  await lab.process('agent-h2').stop();
  t.deepEqual(await routes('h2'), wanted);
  t.true(await lab.reaches('c2', bare(ends.get('h1')?.ip ?? '')));
  // Of a peer that went while the agent was away.
  await lab.sh('h2', `ip route add 10.110.251.0/24 via ${lab.ipOf('h1')} dev eth0 proto 119`);
  await lab.startAgents(['h2']);
  await lab.until('the stale route is gone', async () => (await routes('h2')).join() === wanted.join());
  t.true(await lab.reaches('c2', bare(ends.get('h3')?.ip ?? '')));
  const { problems } = await lab.json<{ problems: unknown[] }>('h2', 'status');
  t.deepEqual(problems, []);
});

test.serial('a peer behind a router is reported and gets no route', async (t) => {
  const key = `${PREFIX}/gw/subnets/10.110.200.0-24`;
  const lease = {
    PublicIP: '198.51.100.9',
    BackendType: 'host-gw',
    Weft: { Node: 'far', Instance: 'elsewhere' },
  };
  const record = { instance: 'elsewhere', version: '0.1.0', publicIp: '198.51.100.9' };
  await lab.etcdctl(
    'put',
    `${NODES}/far`,
    JSON.stringify({ ...record, startedAt: new Date().toISOString() }),
  );
  await lab.etcdctl('put', `${NODES}/far/alive`, 'elsewhere');
  await lab.etcdctl('put', key, JSON.stringify(lease));
  const { problems } = await lab.until('status reports it', async () => {
    const status = await lab.json<{ problems: { what: string; why: string }[] }>('h1', 'status');
    return status.problems.some(({ why }) => why.includes('198.51.100.9')) ? status : undefined;
  });
  const named =
    /198\.51\.100\.9 is behind the router 192\.0\.2\.1 and is not on a link of this node \(eth0: /;
  t.true(
    problems.some(({ why }) => named.test(why)),
    JSON.stringify(problems),
  );
  t.false((await routes('h1')).some((route) => route.startsWith('10.110.200.')));
  const { stderr } = await lab.try('h1', 'ip route get 10.110.200.5');
  t.regex(stderr, /No route to host|unreachable/i, 'nothing goes astray');
  await lab.etcdctl('del', key);
  await lab.etcdctl('del', '--prefix', `${NODES}/far`);
  await lab.until('it is over', async () => {
    const { problems } = await lab.json<{ problems: unknown[] }>('h1', 'status');
    return problems.length === 0;
  });
});

test.serial('direct routing: neighbours have routes, others the tunnel, and both at once', async (t) => {
  await lab.json('h1', ...'network create near --subnet 10.112.0.0/16 --direct-routing'.split(' '));
  await lab.addContainers('near1', 'near2');
  await lab.attach('h1', 'near', 'near1');
  const there = await lab.attach('h2', 'near', 'near2');
  const near = async (host: string): Promise<string[]> =>
    (await lab.sh(host, 'ip route show proto 119')).split('\n').filter((line) => line.startsWith('10.112.'));
  const [wanted] = await lab.until('the route exists', async () => {
    const found = await near('h1');
    return found.length === 1 ? found : undefined;
  });
  t.regex(wanted ?? '', new RegExp(`via ${lab.ipOf('h2')} dev eth0`));
  t.true(await lab.reaches('near1', bare(there.ip)));
  // This host sees the other one behind a router from here on; the other one sees a neighbour.
  await lab.sh('h1', `ip route add ${lab.ipOf('h2')}/32 via ${lab.ipOf('h3')}`);
  await lab.sh('h3', 'sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.send_redirects=0');
  await lab.until('h1 has the tunnel', async () => / dev wfvx\d+/.test((await near('h1')).join()));
  t.regex((await near('h2')).join(), new RegExp(`via ${lab.ipOf('h1')} dev eth0`));
  t.true(await lab.reaches('near1', bare(there.ip)), 'one side direct, the other tunnelled');
  await lab.sh('h1', `ip route del ${lab.ipOf('h2')}/32`);
  await lab.until('h1 has the route again', async () => (await near('h1')).join() === wanted);
  await lab.sh(
    'h1',
    'ip link set eth0 down && ip link set eth0 up && ip route replace default via 192.0.2.1',
  );
  await lab.until('after the link, too', async () => (await near('h1')).join() === wanted);
  t.true(await lab.reaches('near1', bare(there.ip)));
  await lab.json('h1', 'network', 'rm', 'near', '--force');
  for (const name of ['near1', 'near2']) await lab.removeContainer(name);
});

test.serial('a network with running containers moves from vxlan to host-gw, and back', async (t) => {
  await lab.json('h1', ...'network create moving --subnet 10.113.0.0/16'.split(' '));
  await lab.addContainers('mv1', 'mv2');
  await lab.attach('h1', 'moving', 'mv1');
  const there = await lab.attach('h2', 'moving', 'mv2');
  await lab.until('they reach each other', () => lab.reaches('mv1', bare(there.ip)));
  const pings = lab.spawn('moving', 'mv1', ['ping', '-n', '-i', '0.05', '-w', '100', bare(there.ip)]);
  await lab.says(pings, 'icmp_seq=3 ');
  const mtus = async (): Promise<string[]> =>
    Promise.all(['mv1', 'mv2'].map((place) => lab.sh(place, 'cat /sys/class/net/eth0/mtu')));
  const route = (host: string): Promise<string> =>
    lab.sh(host, 'ip route show proto 119 | grep ^10.113. || true');
  for (const [backend, mtu, dev] of [
    ['host-gw', '1500', 'eth0'],
    ['vxlan', '1450', 'wfvx'],
  ] as const) {
    const moved = await lab.json<NetworkJson & { move: unknown }>(
      'h1',
      ...['network', 'update', 'moving', '--backend', backend],
    );
    t.like(moved, { backend, move: null });
    await lab.until(`the routes are ${backend}'s`, async () =>
      (await Promise.all(['h1', 'h2'].map(route))).every((text) => text.includes(`dev ${dev}`)),
    );
    await lab.until('the MTU follows', async () => (await mtus()).every((one) => one.trim() === mtu));
    t.true(await lab.reaches('mv1', bare(there.ip)));
  }
  await pings.stop();
  const seen = [...pings.log().matchAll(/icmp_seq=(\d+) ttl/g)].map((match) => Number(match[1]));
  const longest = Math.max(...seen.slice(1).map((seq, i) => (seq - (seen[i] ?? 0)) * 0.05));
  t.true(longest <= 1, `${longest} s`);
  t.is((await lab.json<NetworkJson>('h1', 'network', 'inspect', 'moving')).leases.length, 2);
  const config = JSON.parse(await lab.etcdctl('get', '--print-value-only', `${PREFIX}/moving/config`));
  t.is(config.Weft.Beside, undefined);
  await lab.json('h1', 'network', 'rm', 'moving', '--force');
  for (const name of ['mv1', 'mv2']) await lab.removeContainer(name);
});
