// A real flanneld and a weft agent as nodes of one overlay, where a flanneld exists.
import test from 'ava';

import { bare, Cluster, ETCD } from '../lab/cluster.js';
import { FLANNELD, NO_FLANNELD, startFlanneld } from '../lab/flanneld.js';

const title = 'a flanneld and an agent carry one overlay';

if (FLANNELD === undefined) {
  test.skip(`${title} (${NO_FLANNELD})`, () => undefined);
} else {
  test(title, async (t) => {
    const lab = await Cluster.create(2);
    t.teardown(() => lab.lab.down());
    await lab.addContainers('c1');
    await lab.startEtcd();
    await lab.startController(['--etcd', ETCD]);
    await lab.json('h1', 'network', 'create', 'blue', '--subnet', '10.100.0.0/16');
    await lab.startAgents(['h1']);
    const { env } = await startFlanneld(lab, 'h2', 'blue', ['-ip-masq=false']);
    const gateway = bare(env.get('FLANNEL_SUBNET') ?? '');
    // As Docker does with --bip: an address of the subnet on the host.
    await lab.sh(
      'h2',
      `ip link add docker0 type bridge; ip addr add ${gateway}/24 dev docker0; ip link set docker0 up`,
    );
    const end = await lab.attach('h1', 'blue', 'c1');
    await lab.until('the container reaches the flanneld’s subnet', () => lab.reaches('c1', gateway));
    await lab.until('and is reached from it', () => lab.reaches('h2', bare(end.ip)));
    const { leases } = await lab.json<{ leases: { node: string | null; publicIp: string }[] }>(
      'h1',
      'network',
      'inspect',
      'blue',
    );
    t.deepEqual(leases.find(({ node }) => node === null)?.publicIp, lab.ipOf('h2'));
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
