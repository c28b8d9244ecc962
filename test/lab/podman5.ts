// Hosts of a lab with podman 5 and netavark, which run in a root of Debian 13 (scripts/podman5.sh).
//
// Only podman's processes are in that root; /run and /var/lib in it are the host's own, as is the network.
import { copyFileSync, existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import type { Cluster } from './cluster.js';
import { makeImage } from './docker.js';
import { exec, type Outcome } from './exec.js';
import { CHECKOUT } from './lab.js';
import { OwnRunHost } from './own-run.js';
import { IMAGE } from './podman.js';
import type { LabProcess } from './process.js';
import { until } from './wait.js';

const ROOT = join(CHECKOUT, 'node_modules/.cache/weft-podman5/root');
/** In the host's own /run, which both roots have. */
const SOCKET = '/run/weft/cni.sock';
const PLUGINS = '/run/netavark-plugins';

export class Podman5Host extends OwnRunHost {
  #inner: LabProcess | undefined;

  async up(image: string): Promise<void> {
    const [run, root] = [join(this.folder, 'own-run'), join(this.folder, 'root')];
    for (const part of [run, root]) mkdirSync(part, { recursive: true });
    copyFileSync(image, join(run, 'image.tar'));
    writeFileSync(
      join(run, 'storage.conf'),
      '[storage]\ndriver = "vfs"\ngraphroot = "/var/lib/podman-data"\nrunroot = "/run/containers/storage"\n',
    );
    writeFileSync(
      join(run, 'containers.conf'),
      [
        '[engine]',
        'cgroup_manager = "cgroupfs"',
        'events_logger = "file"',
        'runtime = "runc"',
        '[containers]',
        'default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]',
        '[network]',
        'network_backend = "netavark"',
        `netavark_plugin_dirs = ["${PLUGINS}"]`,
        'network_config_dir = "/run/podman-networks"',
        '',
      ].join('\n'),
    );
    await this.hold([
      `mount --bind ${ROOT} ${root}`,
      ...['proc', 'sys', 'dev', 'run'].map((part) => `mount --rbind /${part} ${root}/${part}`),
      `mount --bind /var/lib ${root}/var/lib`,
    ]);
    // Not chroot: runc enters a container by its mount namespace, whose root must be the container's. The old root stays at
    // /mnt; to unmount it would take the mounts below /run from everybody.
    const ready = join(this.folder, 'root-ready');
    const inner = this.lab.spawn(
      `${this.name}-root`,
      this.inside([
        ...['unshare', '-m', '--propagation', 'unchanged', 'sh', '-c'],
        `cd ${root} && pivot_root . mnt && touch /mnt${ready} && exec sleep infinity`,
      ]),
    );
    this.#inner = inner;
    await until(`${this.name} has a root for podman`, () => existsSync(ready), {
      context: () => inner.tail(),
    });
    await this.ask('import', '-c', 'ENV PATH=/bin', '/run/image.tar', IMAGE);
  }

  /** `weft netavark install`. */
  async install(cluster: Cluster): Promise<void> {
    const { code, stderr } = await cluster.weft(this.name, 'netavark', 'install', '--dir', PLUGINS);
    if (code !== 0) throw new Error(`weft netavark install: ${stderr}`);
  }

  podman(...args: string[]): Promise<Outcome> {
    return exec(['nsenter', '-t', String(this.#inner?.pid ?? 0), '-m', '-n', '-u', '--', 'podman', ...args], {
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
}

/** Turns hosts of a cluster into such hosts; call it before their agents start. */
export async function podman5Hosts(cluster: Cluster, names: readonly string[]): Promise<Podman5Host[]> {
  const image = await makeImage(cluster.lab);
  return Promise.all(
    names.map(async (name) => {
      const { ip } = cluster.lab.host(Number(name.slice(1)));
      const host = new Podman5Host(cluster.lab, name, Number(ip.split('.')[3]));
      await host.up(image);
      cluster.dockerHost(name, host, [
        ...['--cnm-socket', 'none', '--docker', `unix://${join(cluster.folder, 'no-docker.sock')}`],
        ...['--cni-socket', SOCKET],
      ]);
      return host;
    }),
  );
}
