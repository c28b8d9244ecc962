// Hosts of a lab for CNI runtimes, with weft's plugin installed by `weft cni install`.
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';

import type { Cluster } from './cluster.js';
import { OwnRunHost } from './own-run.js';

/** CNI's own plugins, as Debian has them. */
export const PLUGINS = '/usr/lib/cni';

export class CniHost extends OwnRunHost {
  get binDir(): string {
    return join(this.folder, 'cni-bin');
  }

  get confDir(): string {
    return join(this.folder, 'net.d');
  }

  /** The agent's --cni-socket. */
  get socket(): string {
    return join(this.runDir, 'cni.sock');
  }

  async up(): Promise<void> {
    for (const part of [this.binDir, this.confDir]) mkdirSync(part, { recursive: true });
    await this.hold([]);
  }

  /** `weft cni install` for these networks. */
  async install(cluster: Cluster, ...networks: string[]): Promise<void> {
    const { code, stdout, stderr } = await cluster.weft(
      ...([this.name, 'cni', 'install', '--bin-dir', this.binDir, '--conf-dir', this.confDir] as const),
      ...['--socket', this.socket],
      ...networks.flatMap((network) => ['--network', network]),
    );
    if (code !== 0) throw new Error(`weft cni install: ${stdout}${stderr}`);
  }
}

/** Makes hosts of a cluster such hosts, at once; call it before their agents start. */
export async function cniHosts<T extends CniHost>(
  cluster: Cluster,
  names: readonly string[],
  make: new (...args: ConstructorParameters<typeof CniHost>) => T,
): Promise<T[]> {
  return Promise.all(
    names.map(async (name) => {
      const { ip } = cluster.lab.host(Number(name.slice(1)));
      const host = new make(cluster.lab, name, Number(ip.split('.')[3]));
      await host.up();
      cluster.dockerHost(name, host, [
        ...['--cnm-socket', 'none', '--docker', `unix://${join(cluster.folder, 'no-docker.sock')}`],
        ...['--cni-socket', host.socket],
      ]);
      return host;
    }),
  );
}
