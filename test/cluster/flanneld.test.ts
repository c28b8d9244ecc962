// A real flanneld and a weft agent as nodes of one overlay.
//
// Runs where a flanneld exists: on the PATH, or named by WEFT_FLANNELD.
import { accessSync, constants, mkdirSync } from 'node:fs';
import { delimiter, join } from 'node:path';

import test from 'ava';

import { bare, Cluster, ETCD } from '../lab/cluster.js';

const flanneld = findFlanneld();
const title = 'a flanneld and an agent carry one overlay';

function findFlanneld(): string | undefined {
  const named = process.env['WEFT_FLANNELD'];
  const places = (process.env['PATH'] ?? '').split(delimiter).map((folder) => join(folder, 'flanneld'));
  return (named === undefined ? places : [named]).find((path) => {
    try {
      accessSync(path, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

if (flanneld === undefined) {
  test.skip(`${title} (not run: no flanneld on the PATH; name one by WEFT_FLANNELD)`, () => undefined);
} else {
  test(title, async (t) => {
    const lab = await Cluster.create(2);
    t.teardown(() => lab.lab.down());
    await lab.addContainers('c1');
    await lab.startEtcd();
    await lab.startController(['--etcd', ETCD]);
    await lab.json('h1', 'network', 'create', 'blue', '--subnet', '10.100.0.0/16');
    const folder = join(lab.folder, 'flannel');
    mkdirSync(folder);
    const file = join(folder, 'subnet.env');
    lab.spawn('flanneld', 'h2', [
      flanneld,
      `-etcd-endpoints=${ETCD}`,
      '-etcd-prefix=/weft/networks/blue',
      `-subnet-file=${file}`,
      '-ip-masq=false',
    ]);
    await lab.startAgents(['h1']);
    const gateway = await lab.until(
      'flanneld has a subnet',
      async () => /FLANNEL_SUBNET=([\d.]+)/.exec(await lab.sh('h2', `cat ${file}`))?.[1],
    );
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
