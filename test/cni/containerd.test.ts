// containerd's own client, `ctr run --cni`: a network namespace below /proc, and a DEL that comes late or never.
import test from 'ava';

import { bare, Cluster, type EndpointJson } from '../lab/cluster.js';
import { CniRuntime } from '../lab/cni.js';
import { containerdHost, type ContainerdHost } from '../lab/containerd.js';
import { shareAmongTests } from '../lab/fresh.js';

let lab: Cluster;
let h1: ContainerdHost;
const h2 = new CniRuntime(() => lab, 'h2');

shareAmongTests(
  test,
  async () => {
    lab = await Cluster.create(2);
    await lab.addContainers('c2');
    [h1] = await Promise.all([containerdHost(lab, 'h1'), lab.startController()]);
    await lab.startAgents(['h1', 'h2']);
    await lab.json('h1', 'network', 'create', 'blue', '--subnet', '10.100.0.0/16');
    await h1.install(lab, 'blue');
  },
  async () => {
    // Its shim would outlive the host.
    await h1?.ctr('task', 'rm', '-f', 'long', 'short');
    await lab?.lab.down();
  },
);

const listed = (count: number): Promise<EndpointJson[]> =>
  lab.until(`${count} endpoints are listed`, async () => {
    const all = await lab.json<EndpointJson[]>('h1', 'endpoint', 'ls');
    return all.length === count && all.toSorted((a, b) => a.node.localeCompare(b.node));
  });

test.serial('a container reaches one of another host, and leaves nothing', async (t) => {
  const far = await h2.add({ id: 'far', container: 'c2' });
  const ip = bare(far.ips[0]?.address ?? '');
  const { code, stdout, stderr } = await h1.ctr(...h1.run('short', false, 'ping', '-c', '3', '-w', '10', ip));
  t.is(code, 0, stdout + stderr);
  await listed(1);

  const long = await h1.ctr(...h1.run('long', true, 'sleep', '1000000'));
  t.is(long.code, 0, long.stderr);
  const [own] = (await listed(2)) as (EndpointJson & { labels: Record<string, string> })[];
  t.like(own, { name: 'default-long', node: 'h1' });
  t.like(own?.labels, { 'cni.container': 'default-long', 'cni.runtime': 'ctr' });
  t.true(await lab.reaches('c2', bare(own?.ip ?? '')));
  // Nobody calls DEL for it.
  await h1.ctr('task', 'kill', '-s', 'SIGKILL', 'long');
  await listed(1);
  await h1.ctr('task', 'rm', '-f', 'long');
  await h1.ctr('container', 'rm', 'long');
  await h2.done({ command: 'DEL', id: 'far', container: 'c2' });
  await listed(0);
});
