// Podman hosts in a lab: Debian's podman 4 with its CNI backend, and weft's plugin installed by `weft cni install`.
//
// Containers are in cgroups named after the run, and podman's files in the run's folder or in the host's own /run and /var/lib.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { CniHost, cniHosts, PLUGINS } from './cni-host.js';
import type { Cluster } from './cluster.js';
import { makeImage } from './docker.js';
import { exec, type Outcome } from './exec.js';

export const IMAGE = 'localhost/busybox';
export class PodmanHost extends CniHost {
  override async up(): Promise<void> {
    await super.up();
    const { folder } = this;
    writeFileSync(
      join(folder, 'storage.conf'),
      `[storage]\ndriver = "vfs"\ngraphroot = "${folder}/podman-data"\nrunroot = "/run/containers/storage"\n`,
    );
    writeFileSync(
      join(folder, 'containers.conf'),
      [
        '[engine]',
        'cgroup_manager = "cgroupfs"',
        'events_logger = "file"',
        'runtime = "runc"',
        '[containers]',
        // What a machine without CAP_SYS_RESOURCE allows.
        'default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]',
        '[network]',
        'network_backend = "cni"',
        `cni_plugin_dirs = ["${this.binDir}", "${PLUGINS}"]`,
        `network_config_dir = "${this.confDir}"`,
        '',
      ].join('\n'),
    );
  }

  podman(...args: string[]): Promise<Outcome> {
    return exec(this.inside(['podman', ...args]), {
      env: {
        CONTAINERS_CONF: join(this.folder, 'containers.conf'),
        CONTAINERS_STORAGE_CONF: join(this.folder, 'storage.conf'),
      },
      timeoutMs: 60_000,
    });
  }

  /** As `podman`; returns what it printed. @throws Error where it fails */
  async ask(...args: string[]): Promise<string> {
    const { code, stdout, stderr } = await this.podman(...args);
    if (code !== 0)
      throw new Error(`${this.name}: podman ${args.join(' ')}: exit ${code}\n${stdout}${stderr}`);
    return stdout.trim();
  }

  /** Starts a container that waits. */
  async start(name: string, ...options: string[]): Promise<void> {
    await this.ask(
      ...['run', '-d', '--init=false', '--name', name, '--hostname', name],
      ...['--cgroup-parent', `/${this.namespace}`, '--stop-timeout', '0', ...options],
      ...[IMAGE, 'sleep', '1000000'],
    );
  }

  /** A shell command in a container. */
  in(container: string, command: string): Promise<Outcome> {
    return this.podman('exec', container, 'sh', '-c', command);
  }

  async addressOf(container: string, network: string): Promise<string> {
    const shown = JSON.parse(await this.ask('inspect', container)) as {
      NetworkSettings: { Networks: Record<string, { IPAddress: string }> };
    }[];
    return shown[0]?.NetworkSettings.Networks[network]?.IPAddress ?? '';
  }
}

/** Turns hosts of a cluster into podman hosts, at once; call it before their agents start. */
export async function podmanHosts(cluster: Cluster, names: readonly string[]): Promise<PodmanHost[]> {
  const [image, hosts] = await Promise.all([makeImage(cluster.lab), cniHosts(cluster, names, PodmanHost)]);
  await Promise.all(hosts.map((host) => host.ask('import', '-c', 'ENV PATH=/bin', image, IMAGE)));
  return hosts;
}
