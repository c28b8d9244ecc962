// A host of the lab with the root of a small Debian (scripts/debian-roots.sh), in which weft's package is installed.
//
// There is no Node.js in it, and nothing of the checkout but the packages. Its systemctl starts what the units say.
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';

import { exec, must, type ExecOptions, type Outcome } from './exec.js';
import { CHECKOUT, Host, type Lab } from './lab.js';
import type { LabProcess } from './process.js';
import { SYSTEMCTL } from './service-host.js';
import { until } from './wait.js';

export type DebianRelease = 'bookworm' | 'trixie';

/** Where the packages are, in the host. */
export const PACKAGES = '/packages';

export class DebianHost extends Host {
  #holder: LabProcess | undefined;

  private constructor(lab: Lab, name: string, number: number) {
    super(lab, name, number);
  }

  /** @param number of the host in the lab; h1 is 1 @param packages a folder of the machine */
  static async up(lab: Lab, number: number, release: DebianRelease, packages: string): Promise<DebianHost> {
    const { name, ip } = lab.host(number);
    const host = new DebianHost(lab, name, Number(ip.split('.')[3]));
    await host.#up(join(CHECKOUT, 'node_modules/.cache/weft-debian', release), packages);
    return host;
  }

  async #up(lower: string, packages: string): Promise<void> {
    const folder = join(this.lab.folder, `${this.name}-debian`);
    const ready = join(this.lab.folder, `${this.name}-ready`);
    mkdirSync(folder, { recursive: true });
    const script = [
      `hostname ${this.name}`,
      // It ends with the mount namespace.
      `mount -t tmpfs weft-debian ${folder} && cd ${folder} && mkdir root upper work`,
      `mount -t overlay weft-debian -o lowerdir=${lower},upperdir=upper,workdir=work root`,
      ...['proc', 'sys', 'dev'].map((part) => `mount --rbind /${part} root/${part}`),
      'mount -t tmpfs run root/run && mkdir -p root/run/systemd/system root/run/lock',
      `mkdir root${PACKAGES} && mount --bind ${packages} root${PACKAGES}`,
      `printf '%s' "$SYSTEMCTL" >root/usr/local/bin/systemctl && chmod 755 root/usr/local/bin/systemctl`,
      `touch ${ready}`,
      `exec chroot root sleep infinity`,
    ].join(' && ');
    const holder = this.lab.spawn(
      `${this.name}-holder`,
      [
        ...[
          'nsenter',
          `--net=/run/netns/${this.namespace}`,
          'unshare',
          '-m',
          '-u',
          '--propagation',
          'private',
        ],
        ...['sh', '-c', script],
      ],
      { SYSTEMCTL },
    );
    this.#holder = holder;
    await until(`${this.name} has a root`, () => existsSync(ready), { context: () => holder.tail() });
    await until('the holder is in it', async () => (await this.sh('test -d /packages')).code === 0, {
      context: () => holder.tail(),
    });
  }

  override inside(argv: readonly string[]): string[] {
    const path = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
    const env = ['env', '-i', path, 'HOME=/root', 'DEBIAN_FRONTEND=noninteractive'];
    const enter = ['nsenter', '-t', String(this.#holder?.pid ?? 0), '-m', '-n', '-u', '-r', '-w'];
    return [...enter, '--', ...env, ...argv];
  }

  /** A line of a shell on this host. */
  sh(line: string, options?: ExecOptions): Promise<Outcome> {
    return exec(this.inside(['sh', '-c', line]), options);
  }

  /** As `sh`; returns what it printed. @throws Error where it fails */
  run(line: string, options?: ExecOptions): Promise<string> {
    return must(this.inside(['sh', '-c', line]), { timeoutMs: 120_000, ...options });
  }
}
