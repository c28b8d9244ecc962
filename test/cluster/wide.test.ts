// A cluster of five hosts: full mesh, racing leases, reservations, a host cut off.
//
// Subnets are acquired all at once and never shared; a host that was cut off catches up on its return.
import test from 'ava';

import { bare, Cluster, ETCD, type EndpointJson } from '../lab/cluster.js';
import { shareAmongTests } from '../lab/fresh.js';
import { ping } from '../lab/traffic.js';

const HOSTS = ['h1', 'h2', 'h3', 'h4', 'h5'];
const VNI = 4242;

let lab: Cluster;
/** By container, as soon as a test has needed them. */
let ends: Map<string, EndpointJson> | undefined;

interface NetworkJson {
  leases: { node: string | null; subnet: string; subnet6: string | null; expires: string | null }[];
}

async function setUp(): Promise<void> {
  ends = undefined;
  lab = await Cluster.create(HOSTS.length);
  await lab.addContainers('c1', 'c2', 'c3', 'c4', 'c5', 'leaving', 'late');
  await lab.startEtcd();
  await lab.startController(['--etcd', ETCD]);
  // Exists before any agent starts, as with flanneld; few subnets, so that the agents really race for the same ones.
  const config = {
    ...{ Network: '10.100.0.0/16', SubnetLen: 24, SubnetMin: '10.100.8.0', SubnetMax: '10.100.14.0' },
    ...{ EnableIPv6: true, IPv6Network: 'fd42:100::/48' },
    Backend: { Type: 'vxlan', VNI, Port: 4789 },
  };
  await lab.etcdctl('put', '/weft/networks/mesh/config', JSON.stringify(config));
  // Keys without a lease are reservations: one for a host's address, one for an unused address.
  await lab.etcdctl(
    'put',
    '/weft/networks/mesh/subnets/10.100.9.0-24&fd42-100-0-9---64',
    JSON.stringify({ PublicIP: lab.ipOf('h3'), PublicIPv6: lab.lab.host(3).ip6, BackendType: 'vxlan' }),
  );
  await lab.startAgents(HOSTS, ['--join', 'mesh']);
}

shareAmongTests(test, setUp, async () => lab?.lab.down());

/** Containers c1 to c5, one on each host. They are attached here, as attaching takes a lease, too, where --join has not. */
async function connected(): Promise<Map<string, EndpointJson>> {
  if (ends !== undefined) return ends;
  const made = await Promise.all(HOSTS.map((host, i) => lab.attach(host, 'mesh', `c${i + 1}`)));
  await lab.until('the last pair reach each other', () => lab.reaches('c1', bare(made.at(-1)?.ip ?? '')));
  ends = new Map(made.map((end, i) => [`c${i + 1}`, end]));
  return ends;
}

const ipOf = async (container: string): Promise<string> => bare((await connected()).get(container)?.ip ?? '');

test.serial(
  '--join acquires one subnet per host at start, from the range; a reservation goes to its owner',
  async (t) => {
    const { leases } = await lab.until('all five have a lease', async () => {
      const network = await lab.json<NetworkJson>('h1', 'network', 'inspect', 'mesh');
      const nodes = network.leases.filter(({ node }) => node !== null);
      return nodes.length === HOSTS.length ? network : undefined;
    });
    t.is(leases.length, HOSTS.length);
    t.is(new Set(leases.map(({ subnet }) => subnet)).size, HOSTS.length);
    t.is(new Set(leases.map(({ subnet6 }) => subnet6)).size, HOSTS.length);
    for (const { subnet } of leases) t.regex(subnet, /^10\.100\.(?:[89]|1[0-4])\.0\/24$/);
    const reserved = leases.find(({ node }) => node === 'h3');
    t.is(reserved?.subnet, '10.100.9.0/24');
    t.is(reserved?.expires, null, 'a reservation stays one');
    const env = await lab.sh('h3', `cat ${lab.lab.host(3).runDir}/subnets/mesh.env`);
    t.is(
      env,
      [
        'FLANNEL_NETWORK=10.100.0.0/16',
        'FLANNEL_SUBNET=10.100.9.1/24',
        'FLANNEL_IPV6_NETWORK=fd42:100::/48',
        'FLANNEL_IPV6_SUBNET=fd42:100:0:9::1/64',
        'FLANNEL_MTU=1430',
        'FLANNEL_IPMASQ=true',
        '',
      ].join('\n'),
    );
  },
);

test.serial('every container reaches every other, in both families', async (t) => {
  const made = await connected();
  for (const from of made.keys()) {
    const all = [...made.entries()].filter(([to]) => to !== from);
    const lost = await Promise.all(
      all.flatMap(([to, { ip, ip6 }]) =>
        [ip, ip6 ?? ''].map(async (address) => {
          const { received } = await ping(lab.place(from), bare(address), { count: 2 });
          return received === 2 ? [] : [`${from} to ${to} (${address}): ${received} of 2`];
        }),
      ),
    );
    t.deepEqual(lost.flat(), []);
  }
});

test.serial('the containers’ MTU fits exactly, in both families', async (t) => {
  const to = (await connected()).get('c2');
  // 20 + 8 bytes of IPv4 and ICMP headers, 40 + 8 of IPv6.
  for (const [ip, size] of [
    [to?.ip, 1430 - 28],
    [to?.ip6, 1430 - 48],
  ] as const) {
    t.is((await ping(lab.place('c1'), bare(ip ?? ''), { count: 2, size })).received, 2);
    t.is((await ping(lab.place('c1'), bare(ip ?? ''), { count: 1, size: size + 1 })).received, 0);
  }
});

test.serial(
  'each host has one neighbour, one FDB entry and one route per family for each peer, no more',
  async (t) => {
    await connected();
    for (const host of HOSTS) {
      for (const [family, link] of [
        ['-4', `wfvx${VNI}`],
        ['-6', `wfvx6-${VNI}`],
      ] as const) {
        const count = async (command: string): Promise<number> =>
          Number(await lab.try(host, `${command} | wc -l`).then(({ stdout }) => stdout));
        t.is(await count(`ip ${family} route show dev ${link} proto 119`), 4, `${host} ${link} routes`);
        t.is(
          await count(`ip ${family} neigh show dev ${link} nud permanent`),
          4,
          `${host} ${link} neighbours`,
        );
        t.is(await count(`bridge fdb show dev ${link} | grep ' dst '`), 4, `${host} ${link} FDB entries`);
      }
    }
  },
);

test.serial('a host that was cut off catches up on its return', async (t) => {
  const [c2, c5] = [await ipOf('c2'), await ipOf('c5')];
  await lab.attach('h4', 'mesh', 'leaving');
  await lab.lab.cut(lab.lab.host(5));
  await lab.until(
    'it is down',
    async () => (await lab.json<{ state: string }>('h1', 'node', 'inspect', 'h5')).state === 'down',
  );
  t.true(await lab.reaches('c1', c2), 'the others go on');
  await lab.json('h4', 'network', 'create', 'new', '--subnet', '10.101.0.0/16');
  await lab.json('h4', 'detach', 'mesh', lab.ns('leaving'));
  await lab.lab.heal(lab.lab.host(5));
  await lab.until(
    'it is up',
    async () => (await lab.json<{ state: string }>('h1', 'node', 'inspect', 'h5')).state === 'up',
  );
  await lab.until('traffic flows again', () => lab.reaches('c1', c5));
  const late = await lab.until('it knows the network that was created meanwhile', async () => {
    const { code, stdout } = await lab.weft('h5', 'attach', 'new', lab.ns('late'), '-o', 'json');
    return code === 0 ? (JSON.parse(stdout) as EndpointJson) : undefined;
  });
  t.regex(late.ip, /^10\.101\./);
  await lab.json('h5', 'detach', 'new', lab.ns('late'));
  await lab.json('h4', 'network', 'rm', 'new', '--force');
});
