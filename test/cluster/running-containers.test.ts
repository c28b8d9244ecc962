// What changes under running containers: MTUs, the size of their network, and where their neighbours are.
import test from 'ava';

import { bare, Cluster, ETCD, type EndpointJson } from '../lab/cluster.js';
import { shareAmongTests } from '../lab/fresh.js';
import { ping, transfer } from '../lab/traffic.js';

let lab: Cluster;
let near: EndpointJson;
let far: EndpointJson;

shareAmongTests(
  test,
  async () => {
    lab = await Cluster.create(2);
    await lab.addContainers('c1', 'c2', 'n1', 'n2', 'm1', 'm2');
    await lab.startEtcd();
    await lab.startController(['--etcd', ETCD]);
    await lab.startAgents(['h1', 'h2']);
    await lab.json('h1', 'network', 'create', 'blue', '--subnet', '10.100.0.0/22');
    near = await lab.attach('h1', 'blue', 'c1');
    far = await lab.attach('h2', 'blue', 'c2');
    await lab.until('they reach each other', () => lab.reaches('c1', bare(far.ip)));
  },
  async () => lab.lab.down(),
);

/** The comparison of every container comes each 10 seconds; a change must not wait for it. */
const AT_ONCE = { timeoutMs: 3000 };

async function mtuOf(where: string, link: string): Promise<number> {
  const [shown] = await lab.place(where).ipJson<{ mtu: number }>('link', 'show', 'dev', link);
  return shown?.mtu ?? 0;
}

async function follows(mtu: number): Promise<void> {
  await lab.until(
    `both ends of the container’s link have MTU ${mtu}`,
    async () => (await mtuOf('c1', near.ifname)) === mtu && (await mtuOf('h1', near.hostIfname)) === mtu,
    AT_ONCE,
  );
}

test.serial(
  'another MTU of the underlay reaches the containers at once, also while etcd is stalled',
  async (t) => {
    const etcd = lab.process('etcd');
    etcd.signal('SIGSTOP');
    try {
      await lab.sh('h1', 'ip link set eth0 mtu 1400');
      await follows(1350);
      await lab.sh('h1', 'ip link set eth0 mtu 1500');
      await follows(1450);
    } finally {
      etcd.signal('SIGCONT');
    }
    t.is((await lab.json<{ mtu: number }>('h1', 'endpoint', 'inspect', near.id)).mtu, 1450);
  },
);

test.serial('another MTU of a parent link reaches the containers of its network', async (t) => {
  await lab.sh('h1', 'ip link add lan0 type veth peer name lan1; ip link set lan0 up; ip link set lan1 up');
  const subnet = ['--subnet', '198.51.100.0/24', '--range', '198.51.100.128/25'];
  await lab.json('h1', 'network', 'create', 'lan', '--driver', 'bridge', '--parent', 'lan0', ...subnet);
  const guest = await lab.attach('h1', 'lan', 'm1');
  t.is(await mtuOf('m1', guest.ifname), 1500);
  for (const mtu of [1400, 1500]) {
    await lab.sh('h1', `ip link set lan0 mtu ${mtu}`);
    const links = [
      ['m1', guest.ifname],
      ['h1', guest.hostIfname],
      ['h1', 'wfp-lan0'],
    ] as const;
    await lab.until(
      `every link has MTU ${mtu}`,
      async () =>
        (await Promise.all(links.map(([where, link]) => mtuOf(where, link)))).every((one) => one === mtu),
      AT_ONCE,
    );
  }
  await lab.json('h1', 'detach', 'lan', lab.ns('m1'));
});

test.serial(
  'the route to a node carries what its underlay carries, and larger packets are answered',
  async (t) => {
    const routeMtu = async (): Promise<string | undefined> =>
      /mtu (\d+)/.exec(await lab.sh('h2', 'ip route show proto 119'))?.[1];
    t.is(await routeMtu(), undefined);
    await lab.sh('h1', 'ip link set eth0 mtu 1400');
    await follows(1350);
    await lab.until('the other node knows', async () => (await routeMtu()) === '1350', AT_ONCE);
    const { text } = await ping(lab.place('c2'), bare(near.ip), { count: 1, size: 1400 });
    t.regex(text, /mtu ?= ?1350/);
    t.is((await ping(lab.place('c2'), bare(near.ip), { count: 1, size: 1322 })).received, 1);
    t.true((await transfer(lab.place('c2'), lab.place('c1'), bare(near.ip), 1_000_000)).intact);
    await lab.sh('h1', 'ip link set eth0 mtu 1500');
    await follows(1450);
    await lab.until('the other node knows', async () => (await routeMtu()) === undefined, AT_ONCE);
    // c2 remembers the smaller MTU for ten minutes (net.ipv4.route.mtu_expires), which costs nothing but size.
    await lab.sh('c2', 'ip route flush cache');
    t.is((await ping(lab.place('c2'), bare(near.ip), { count: 1, size: 1422 })).received, 1);
  },
);

test.serial('a network that grows: the containers’ route to it is replaced at once', async (t) => {
  const key = '/weft/networks/blue/config';
  const config = await lab.etcdctl('get', '--print-value-only', key);
  const routes = async (): Promise<string[]> =>
    (await lab.sh('c1', 'ip route show')).split('\n').flatMap((line) => /^10\.100\.0\.0\S*/.exec(line) ?? []);
  const write = async (network: string): Promise<void> => {
    await lab.etcdctl('put', key, config.replace('10.100.0.0/22', network).trim());
    await lab.until(
      `the container has a route to ${network} alone`,
      async () => (await routes()).join() === network,
      AT_ONCE,
    );
  };
  await write('10.100.0.0/16');
  t.true(await lab.reaches('c1', bare(far.ip)));
  await write('10.100.0.0/22');
  t.true(await lab.reaches('c1', bare(far.ip)));
});

/** Lost pings of 10 in a second, on a busy machine; otherwise none. Without an announcement a neighbour loses all of them, and those of half a minute. */
const MAY_LOSE = 2;

test.serial(
  'a static address moves between hosts: its old neighbours follow, in both families',
  async (t) => {
    const subnets = ['--subnet', '10.101.0.0/16', '--subnet6', 'fd42:101::/48'];
    await lab.json('h1', 'network', 'create', 'still', ...subnets);
    await lab.attach('h1', 'still', 'n1');
    const neighbour = await lab.attach('h2', 'still', 'n2');
    const [ip, ip6] = [bare(neighbour.ip), bare(neighbour.ip6 ?? '')].map((text) =>
      text.replace(/[^.:]*$/, '77'),
    );
    const fixed = ['--ip', ip ?? '', '--ip6', ip6 ?? ''];
    const lost: number[] = [];
    const reached = async (when: string): Promise<void> => {
      const pings = ['n1', 'n2'].flatMap((from) =>
        [ip ?? '', ip6 ?? ''].map(async (to) => {
          const { sent, received } = await ping(lab.place(from), to, { count: 10, waitSeconds: 1 });
          lost.push(sent - received);
          t.true(received >= sent - MAY_LOSE, `${when}: ${from} lost ${sent - received} of ${sent} to ${to}`);
        }),
      );
      await Promise.all(pings);
    };
    // By turns in the subnet of its own node, on the other node, and there again behind another link address.
    const stays: [host: string, container: string, ...flags: string[]][] = [
      ['h2', 'm2'],
      ['h1', 'm1'],
      ['h1', 'm1', '--mac', '02:00:00:00:77:01'],
      ['h2', 'm2', '--mac', '02:00:00:00:77:02'],
      ['h1', 'm1'],
    ];
    for (const [host, container, ...flags] of stays) {
      await lab.attach(host, 'still', container, ...fixed, ...flags);
      await reached(`on ${host} ${flags.join(' ')}`);
      await lab.json(host, 'detach', 'still', lab.ns(container));
    }
    t.log(`lost pings of 10: ${lost.join(', ')}`);
  },
);

test.serial('the first packet to a claimed address is not delayed', async (t) => {
  const subnets = ['--subnet', '10.102.0.0/16', '--subnet6', 'fd42:102::/48'];
  await lab.json('h1', 'network', 'create', 'first', ...subnets);
  const own = await lab.attach('h2', 'first', 'm2');
  // The kernel would choose a delay below 0.8 s at random; a busy machine delays one packet or another.
  const took: Record<'ip' | 'ip6', number[]> = { ip: [], ip6: [] };
  for (let i = 80; i < 85; i++) {
    const [ip, ip6] = [bare(own.ip), bare(own.ip6 ?? '')].map((text) => text.replace(/[^.:]*$/, `${i}`));
    await lab.attach('h1', 'first', 'm1', '--ip', ip ?? '', '--ip6', ip6 ?? '');
    for (const [family, to] of Object.entries({ ip, ip6 })) {
      const { averageMs = Infinity } = await ping(lab.place('m2'), to ?? '', { count: 1 });
      took[family as keyof typeof took].push(averageMs);
    }
    await lab.json('h1', 'detach', 'first', lab.ns('m1'));
  }
  for (const times of Object.values(took))
    t.true((times.toSorted((a, b) => a - b)[2] ?? Infinity) <= 5, `milliseconds: ${times.join(', ')}`);
  t.log(`milliseconds: ${JSON.stringify(took)}`);
});
