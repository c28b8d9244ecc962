// Hosts of a lab with podman 5 and netavark, which run in a root of Debian 13 (scripts/podman5.sh).
//
// Only podman's processes are in that root; /run and /var/lib in it are the host's own, as is the network.
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';

import type { Cluster } from './cluster.js';
import { CHECKOUT } from './lab.js';
import { PodmanHost } from './podman.js';
import type { LabProcess } from './process.js';
import { until } from './wait.js';

const ROOT = join(CHECKOUT, 'node_modules/.cache/weft-podman5/root');
/** In the host's own folders, which both roots have. */
const PLUGINS = '/var/lib/netavark-plugins';
const NETWORKS = '/var/lib/podman-networks';

export class Podman5Host extends PodmanHost {
  #inner: LabProcess | undefined;

  override get socket(): string {
    return '/run/weft/cni.sock';
  }

  override async up(): Promise<void> {
    const root = join(this.folder, 'root');
    mkdirSync(root, { recursive: true });
    await this.hold([
      `mount --bind ${ROOT} ${root}`,
      ...['proc', 'sys', 'dev', 'run'].map((part) => `mount --rbind /${part} ${root}/${part}`),
      `mount --bind /var/lib ${root}/var/lib`,
    ]);
    this.configure([
      'network_backend = "netavark"',
      `netavark_plugin_dirs = ["${PLUGINS}"]`,
      `network_config_dir = "${NETWORKS}"`,
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
  }

  /** `weft netavark install`, and a network of podman's for each of weft's. */
  override async install(cluster: Cluster, ...networks: string[]): Promise<void> {
    const { code, stderr } = await cluster.weft(this.name, 'netavark', 'install', '--dir', PLUGINS);
    if (code !== 0) throw new Error(`weft netavark install: ${stderr}`);
    for (const network of networks) await this.ask('network', 'create', '-d', 'weft', network);
  }

  protected override besidePodman(argv: readonly string[]): string[] {
    return ['nsenter', '-t', String(this.#inner?.pid ?? 0), '-m', '-n', '-u', '--', ...argv];
  }
}
