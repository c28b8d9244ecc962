// A real flanneld and a weft agent as nodes of one overlay, where a flanneld exists.
import test from 'ava';

import { bare, Cluster } from '../lab/cluster.js';
import { exec } from '../lab/exec.js';
import { FLANNELD, NO_FLANNELD, startFlanneld } from '../lab/flanneld.js';
import { linkKinds, type LinkKind } from '../lab/link-kinds.js';
import { sideBySide } from '../lab/wait.js';

const title = 'flannelds and an agent carry one overlay of each backend';

/** Networks, and the route to a peer of each. */
const NETWORKS: readonly {
  name: string;
  flags: readonly string[];
  needs?: LinkKind;
  mtu: number;
  route: RegExp;
  /** Of the flanneld; h2. */
  host?: string;
}[] = [
  { name: 'vx', flags: [], mtu: 1450, route: /dev wfvx/ },
  { name: 'near', flags: ['--direct-routing'], mtu: 1450, route: /via 192\.0\.2\.\d+ dev eth0/ },
  { name: 'gw', flags: ['--backend', 'host-gw'], mtu: 1500, route: /via 192\.0\.2\.\d+ dev eth0/ },
  { name: 'wg', needs: 'wireguard', flags: ['--encrypted'], mtu: 1440, route: /dev wfwg-wg/ },
  {
    ...{ name: 'ip', needs: 'ipip', flags: ['--backend', 'ipip'], mtu: 1480 },
    route: /via 192\.0\.2\.\d+ dev wfipip .*onlink/,
  },
  {
    // A host has one device flannel.ipip: a second flanneld would take it from the first.
    ...{ name: 'ip-near', needs: 'ipip', host: 'h3', mtu: 1480 },
    flags: ['--backend', 'ipip', '--direct-routing'],
    route: /via 192\.0\.2\.\d+ dev eth0/,
  },
];

if (FLANNELD === undefined) {
  test.skip(`${title} (${NO_FLANNELD})`, () => undefined);
} else {
  test(title, async (t) => {
    const lab = await Cluster.create(3);
    t.teardown(() => lab.lab.down());
    await lab.startController();
    await lab.startAgents(['h1']);
    const kinds = await linkKinds((argv) => exec(lab.place('outside').inside(argv)));
    const served = NETWORKS.filter(({ needs }) => needs === undefined || kinds.includes(needs));
    await sideBySide(
      served.map(({ name, flags, mtu, route, host = 'h2' }, i) => async () => {
        await lab.json('h1', 'network', 'create', name, '--subnet', `10.${100 + i}.0.0/16`, ...flags);
        const { env } = await startFlanneld(lab, host, name, ['-ip-masq=false', '-iface=eth0']);
        const gateway = env.get('FLANNEL_SUBNET') ?? '';
        // As Docker does with --bip: an address of the subnet on the host.
        await lab.sh(host, `ip link add br-${name} type bridge; ip addr add ${gateway} dev br-${name}`);
        await lab.sh(host, `ip link set br-${name} up`);
        await lab.addContainers(`c-${name}`);
        const end = await lab.attach('h1', name, `c-${name}`);
        t.is(end.mtu, mtu, name);
        await lab.until(`${name}: the container reaches the flanneld’s subnet`, () =>
          lab.reaches(`c-${name}`, bare(gateway)),
        );
        await lab.until(`${name}: and is reached from it`, () => lab.reaches(host, bare(end.ip)));
        const prefix = gateway.replace(/\.1\//, '.0/');
        t.regex(await lab.sh('h1', `ip route show ${prefix}`), route, name);
        const { leases } = await lab.json<{ leases: { node: string | null; publicIp: string }[] }>(
          ...(['h1', 'network', 'inspect', name] as const),
        );
        t.is(leases.find(({ node }) => node === null)?.publicIp, lab.ipOf(host), name);
      }),
    );
    // It reads its config once.
    const move = await lab.weft('h1', 'network', 'update', 'gw', '--backend', 'vxlan');
    t.is(move.code, 1);
    t.regex(move.stderr, new RegExp(`the flanneld at ${lab.ipOf('h2')} reads its config once[^]*--force`));
  });

  // flannel's etcd code has no IPv6 alone: its flanneld takes a subnet, and programs no peer.
  test('IPv6 alone: a flanneld’s lease is a peer of an agent, and no flanneld takes the agent’s', async (t) => {
    const lab = await Cluster.create(2, { ipv4: false });
    t.teardown(() => lab.lab.down());
    await lab.startEtcd();
    await lab.startController(['--etcd', lab.etcd]);
    await lab.json('h1', ...'network create six --subnet6 fd42:100::/48 --vni 5'.split(' '));
    const flags = ['-ip-masq=false', '-iface=eth0'];
    const { flanneld, env } = await startFlanneld(lab, 'h2', 'six', flags);
    await lab.startAgents(['h1'], ['--join', 'six']);
    const subnet = (env.get('FLANNEL_IPV6_SUBNET') ?? '').replace(/1\//, '/');
    const route = new RegExp(`^${subnet} via ${bare(subnet)} dev wfvx6-5`, 'm');
    await lab.until('the flanneld has a route', async () =>
      route.test(await lab.sh('h1', 'ip -6 route show proto 119')),
    );
    t.regex(await lab.sh('h1', 'bridge fdb show dev wfvx6-5'), new RegExp(`dst ${lab.ipOf('h2')} `));
    const leases = (): Promise<string> =>
      lab.etcdctl('get', '--prefix', '--keys-only', '/weft/networks/six/subnets/');
    const before = await leases();
    // It takes the first lease with its own PublicIP, 0.0.0.0, for its own.
    await flanneld.stop();
    await startFlanneld(lab, 'h2', 'six', flags);
    t.is(await leases(), before);
    const network = await lab.json<{ leases: { node: string | null; publicIp: string }[] }>(
      ...(['h1', 'network', 'inspect', 'six'] as const),
    );
    t.deepEqual(network.leases.map(({ node, publicIp }) => `${node} ${publicIp}`).toSorted(), [
      `h1 ${lab.ipOf('h1')}`,
      `null ${lab.ipOf('h2')}`,
    ]);
  });
}
