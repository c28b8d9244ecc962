// containerd's own client, `ctr run --cni`: a network namespace below /proc, and a DEL that comes late or never.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import test from 'ava';

import { bare, Cluster, type EndpointJson } from '../lab/cluster.js';
import { CniRuntime } from '../lab/cni.js';
import { CniHost, cniHosts } from '../lab/cni-host.js';
import { makeImage } from '../lab/docker.js';
import { exec, type Outcome } from '../lab/exec.js';
import { shareAmongTests } from '../lab/fresh.js';

/** A host with a containerd. ctr looks for plugins and configurations in the usual folders, which are the host's own here. */
class ContainerdHost extends CniHost {
  override get binDir(): string {
    return '/opt/cni/bin';
  }

  override get confDir(): string {
    return '/etc/cni/net.d';
  }

  get #socket(): string {
    return '/run/containerd/containerd.sock';
  }

  override async up(): Promise<void> {
    for (const part of ['opt', 'net.d']) mkdirSync(join(this.folder, part), { recursive: true });
    await this.hold([
      `mount --bind ${this.folder}/opt /opt`,
      'mkdir -p /opt/cni/bin',
      `mount --bind ${this.folder}/net.d /etc/cni/net.d`,
    ]);
    const config = join(this.folder, 'containerd.toml');
    writeFileSync(
      config,
      `version = 2\nroot = "${this.folder}/containerd"\nstate = "/run/containerd"\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n[grpc]\naddress = "${this.#socket}"\n`,
    );
    const containerd = this.spawn('containerd', ['containerd', '--config', config]);
    await this.lab.until('containerd serves', async () => {
      if (!containerd.isRunning) throw new Error('it has ended');
      return (await this.ctr('version')).code === 0;
    });
  }

  ctr(...args: string[]): Promise<Outcome> {
    return exec(this.inside(['ctr', '-a', this.#socket, ...args]), { timeoutMs: 60_000 });
  }

  /** The words of `ctr run` for a container of busybox. */
  run(name: string, detach: boolean, ...command: string[]): string[] {
    return [
      ...['run', ...(detach ? ['-d'] : ['--rm']), '--cni', '--cgroup', `/${this.namespace}/${name}`],
      ...['--env', 'PATH=/bin'],
      ...['--rootfs', join(this.lab.folder, 'image'), name, ...command],
    ];
  }
}

let lab: Cluster;
let h1: ContainerdHost;
const h2 = new CniRuntime(() => lab, 'h2');

shareAmongTests(
  test,
  async () => {
    lab = await Cluster.create(2);
    await lab.addContainers('c2');
    await Promise.all([makeImage(lab.lab), lab.startController()]);
    [h1] = (await cniHosts(lab, ['h1'], ContainerdHost)) as [ContainerdHost];
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
