// Kubernetes' pods on containerd, made by its client crictl: what a kubelet would ask for.
import { readdirSync } from 'node:fs';
import { join } from 'node:path';

import test from 'ava';

import { bare, Cluster, type EndpointJson } from '../lab/cluster.js';
import { CniRuntime } from '../lab/cni.js';
import { containerdHost, type ContainerdHost } from '../lab/containerd.js';
import { shareAmongTests } from '../lab/fresh.js';

interface Endpoint extends EndpointJson {
  labels: Record<string, string>;
}

let lab: Cluster;
let h1: ContainerdHost;
const h2 = new CniRuntime(() => lab, 'h2');

shareAmongTests(
  test,
  async () => {
    lab = await Cluster.create(2);
    await lab.addContainers('c2');
    [h1] = await Promise.all([containerdHost(lab, 'h1'), lab.startController()]);
    await h1.import(join(lab.folder, 'image.tar'));
    await lab.startAgents(['h1', 'h2']);
    await lab.json('h1', 'network', 'create', 'blue', '--subnet', '10.100.0.0/16');
    await h1.install(lab, 'blue');
  },
  async () => {
    // Their shims would outlive the host.
    await h1?.crictl('rmp', '-f', '-a').catch(() => undefined);
    await lab?.lab.down();
  },
  async (t) => {
    t.is(await h1.crictl('pods', '-q'), '');
    await listed(0);
    t.notRegex(await lab.sh('h1', 'ip -br link'), /wfep/);
    t.deepEqual(readdirSync(join(lab.lab.host(1).stateDir, 'endpoints')), []);
  },
);

const listed = (count: number): Promise<Endpoint[]> =>
  lab.until(`${count} endpoints are listed`, async () => {
    const all = await lab.json<Endpoint[]>('h1', 'endpoint', 'ls');
    return all.length === count && all.toSorted((a, b) => a.name.localeCompare(b.name));
  });

/** The address that a kubelet is told. */
async function podIp(pod: string): Promise<string> {
  const { status } = JSON.parse(await h1.crictl('inspectp', pod)) as { status: { network: { ip: string } } };
  return status.network.ip;
}

test.serial(
  'a pod has an address, names, a port of the host, and keeps them while its runtime restarts',
  async (t) => {
    const far = await h2.add({ id: 'far', container: 'c2' });
    const farIp = bare(far.ips[0]?.address ?? '');
    const { pod, container } = await h1.pod('web', [{ container_port: 80, host_port: 8080 }]);
    const [, web] = await listed(2);
    t.like(web, { name: 'web', node: 'h1' });
    t.like(web?.labels, {
      ...{ 'cni.runtime': 'containerd', 'cni.network': 'blue', 'cni.container': pod },
      ...{ K8S_POD_NAME: 'web', K8S_POD_NAMESPACE: 'shop', K8S_POD_UID: 'web-uid' },
    });
    const ip = bare(web?.ip ?? '');
    t.is(await podIp(pod), ip);
    const both = async (): Promise<void> => {
      t.regex(
        await h1.crictl('exec', '-s', container, 'ping', '-c', '1', '-w', '10', farIp),
        /1 packets received/,
      );
      t.true(await lab.reaches('c2', ip));
    };
    await both();
    t.is(await lab.sh('c2', 'dig +short +timeout=2 @169.254.53.53 web.blue.weft'), `${ip}\n`);
    await h1.crictl('exec', '-s', container, 'sh', '-c', 'echo hello >/index.html && httpd -p 80 -h /');
    t.is(await lab.sh('h2', 'curl -sf --max-time 5 http://192.0.2.11:8080/'), 'hello\n');

    await h1.containerd.kill();
    await h1.startContainerd();
    await lab.process('agent-h1').kill();
    await lab.startAgents(['h1']);
    await both();
    t.is(await podIp(pod), ip);
    await h1.crictl('stopp', pod);
    await listed(1);
    await h1.crictl('stopp', pod);
    await h1.crictl('rmp', pod);
    await h2.done({ command: 'DEL', id: 'far', container: 'c2' });
  },
);

test.serial('a pod cannot start and stop while the agent is away, and can be tried again', async (t) => {
  const { pod } = await h1.pod('web');
  await listed(1);
  await lab.process('agent-h1').kill();
  await t.throwsAsync(h1.crictl('stopp', pod), { message: /the weft agent does not answer/ });
  await t.throwsAsync(h1.pod('second'), { message: /the weft agent does not answer/ });
  await lab.startAgents(['h1']);
  // What the failed one left is containerd's; its name is free again for the next one.
  await h1.crictl('rmp', '-f', '-a');
  await listed(0);
  const again = await h1.pod('second');
  t.is((await listed(1))[0]?.name, 'second');
  await h1.crictl('rmp', '-f', again.pod);
});
