// Podman hosts in a lab: Debian's podman 4 with its CNI backend, and weft's plugin installed by `weft cni install`.
//
// Containers are in cgroups named after the run, and podman's files in the host's own /run and /var/lib.
import { copyFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { CniHost, cniHosts, PLUGINS } from './cni-host.js';
import type { Cluster } from './cluster.js';
import { makeImage } from './docker.js';
import { exec, must, type Outcome } from './exec.js';

export const IMAGE = 'localhost/busybox';
const DATA = '/var/lib/podman-data';

export class PodmanHost extends CniHost {
  override async up(): Promise<void> {
    await super.up();
    this.configure([
      'network_backend = "cni"',
      `cni_plugin_dirs = ["${this.binDir}", "${PLUGINS}"]`,
      `network_config_dir = "${this.confDir}"`,
    ]);
  }

  /** Writes podman's settings. */
  protected configure(network: readonly string[]): void {
    writeFileSync(
      join(this.ownRun, 'storage.conf'),
      `[storage]\ndriver = "vfs"\ngraphroot = "${DATA}"\nrunroot = "/run/containers/storage"\n`,
    );
    writeFileSync(
      join(this.ownRun, 'containers.conf'),
      [
        '[engine]',
        'cgroup_manager = "cgroupfs"',
        'events_logger = "file"',
        'runtime = "runc"',
        '[containers]',
        // What a machine without CAP_SYS_RESOURCE allows.
        'default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]',
        '[network]',
        ...network,
        '',
      ].join('\n'),
    );
  }

  async import(image: string): Promise<void> {
    copyFileSync(image, join(this.ownRun, 'image.tar'));
    await this.ask('import', '-c', 'ENV PATH=/bin', '/run/image.tar', IMAGE);
  }

  /** A command line that runs among podman's files. */
  protected besidePodman(argv: readonly string[]): string[] {
    return this.inside(argv);
  }

  podman(...args: string[]): Promise<Outcome> {
    return exec(this.besidePodman(['podman', ...args]), {
      env: {
        ...{ CONTAINERS_CONF: '/run/containers.conf', CONTAINERS_STORAGE_CONF: '/run/storage.conf' },
        ...{ PODMAN_IGNORE_CGROUPSV1_WARNING: '1', PATH: '/usr/sbin:/usr/bin:/sbin:/bin', TMPDIR: '/run' },
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
      ...['run', '-d', '--name', name, '--hostname', name, '--cap-add', 'NET_RAW'],
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

  /** Ends all containers as a reboot of the host does: podman hears of nothing, and its part of /run is empty. */
  async loseContainers(): Promise<void> {
    const ids = (await this.ask('ps', '-q')).split('\n').filter(Boolean);
    // The monitor first: it would call podman.
    const pids = await this.ask('inspect', '-f', '{{.State.ConmonPid}} {{.State.Pid}}', ...ids);
    for (const pid of pids.split(/\s+/)) process.kill(Number(pid), 'SIGKILL');
    await must(
      this.besidePodman([
        'sh',
        '-c',
        `grep -oE ' (/run/(netns|containers)|${DATA})/[^ ]+' /proc/self/mountinfo | sort -r |
          while read -r at; do umount "$at"; done
        rm -rf /run/netns/* /run/containers /run/libpod /run/runc`,
      ]),
    );
  }
}

/** Turns hosts of a cluster into podman hosts, at once; call it before their agents start. */
export async function podmanHosts<T extends PodmanHost = PodmanHost>(
  cluster: Cluster,
  names: readonly string[],
  make: new (...args: ConstructorParameters<typeof PodmanHost>) => T,
): Promise<T[]> {
  const [image, hosts] = await Promise.all([makeImage(cluster.lab), cniHosts(cluster, names, make)]);
  await Promise.all(hosts.map((host) => host.import(image)));
  return hosts;
}
