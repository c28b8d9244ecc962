// What changes under running containers: MTUs, and the size of their network.
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
    await lab.addContainers('c1', 'c2');
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
