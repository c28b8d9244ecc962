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
}
