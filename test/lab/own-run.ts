// A host of the lab with a /run, /var/lib and host name of its own, for container engines.
//
// Their sockets, namespaces and records are there, and end with the host. Entered with nsenter, because `ip netns exec` mounts a
// /sys of its own that lacks the cgroups.
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';

import { Host } from './lab.js';
import type { LabProcess } from './process.js';
import { until } from './wait.js';

export class OwnRunHost extends Host {
  #holder: LabProcess | undefined;

  protected get folder(): string {
    return join(this.lab.folder, this.name);
  }

  /** Its /run, on the machine. */
  protected get ownRun(): string {
    return join(this.folder, 'own-run');
  }

  override inside(argv: readonly string[]): string[] {
    return ['nsenter', '-t', String(this.#holder?.pid ?? 0), '-m', '-n', '-u', '--', ...argv];
  }

  /** @param mounts shell commands for what else the host has of its own */
  protected async hold(mounts: readonly string[]): Promise<void> {
    const { folder } = this;
    const ready = join(folder, 'ready');
    for (const part of ['own-run', 'own-var']) mkdirSync(join(folder, part), { recursive: true });
    const script = [
      `hostname ${this.namespace}`,
      // The machine's own mount, which engines would still find in the list of mounts.
      '{ while umount -R -l /run/netns 2>/dev/null; do :; done; }',
      // Shared, as under systemd: later mounts reach the containers.
      `mount --bind ${folder}/own-run /run && mount --make-rshared /run`,
      `mount --bind ${folder}/own-var /var/lib`,
      'mkdir -p /run/lock',
      ...mounts,
      `touch ${ready}`,
      'exec sleep infinity',
    ].join(' && ');
    const holder = this.lab.spawn(`${this.name}-holder`, [
      ...['nsenter', `--net=/run/netns/${this.namespace}`, 'unshare', '-m', '-u', '--propagation', 'private'],
      ...['sh', '-c', script],
    ]);
    this.#holder = holder;
    await until(`${this.name} has a /run of its own`, () => existsSync(ready), {
      context: () => holder.tail(),
    });
  }
}
