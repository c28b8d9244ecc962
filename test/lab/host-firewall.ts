// Debian's firewalld and ufw, active on one host of a lab.
//
// Their settings, their /run and firewalld's bus are in a mount namespace of their own, and begin as the packages bring them.
// Their rules are in the host's network namespace.
import { existsSync } from 'node:fs';
import { join } from 'node:path';

import type { Cluster } from './cluster.js';
import { exec, must, type Outcome } from './exec.js';

export type FirewallProgram = 'firewalld' | 'ufw';

const SETTINGS = {
  // With nothing of its own it is as its package brings it.
  firewalld: ['mkdir $etc/firewalld', 'mount --bind $etc/firewalld /etc/firewalld', 'mkdir /run/dbus'],
  ufw: [
    'cp -a /etc/ufw $etc/ufw',
    // Of the package: the machine's own may have rules.
    'cp /usr/share/ufw/iptables/*.rules $etc/ufw/',
    'mount --bind $etc/ufw /etc/ufw',
    'cp /etc/default/ufw $etc/default',
    'mount --bind $etc/default /etc/default/ufw',
  ],
} as const;

export class HostFirewall {
  private constructor(private readonly holder: number) {}

  static async start(cluster: Cluster, host: string, program: FirewallProgram): Promise<HostFirewall> {
    const ready = join(cluster.folder, `${host}-${program}-ready`);
    const script = [
      `etc=${join(cluster.folder, host)}`,
      'mount -t tmpfs weft-firewall /run',
      'mkdir /run/lock',
      ...SETTINGS[program],
      `touch ${ready}`,
      program === 'ufw' ? 'exec sleep infinity' : 'exec dbus-daemon --system --nofork --nopidfile',
    ].join(' && ');
    const holder = cluster.spawn(`${host}-${program}`, host, [
      ...['unshare', '-m', '--propagation', 'private', 'sh', '-c', script],
    ]);
    const options = { context: () => holder.tail() };
    await cluster.until('a mount namespace of its own', () => existsSync(ready), options);
    const started = new HostFirewall(holder.pid);
    if (program === 'ufw') await started.must('ufw --force enable');
    else {
      cluster.lab.spawn(`${host}-firewalld-daemon`, started.#inside('exec firewalld --nofork --nopid'));
      await cluster.until(
        'firewalld runs',
        async () => (await started.run('firewall-cmd --state')).code === 0,
        options,
      );
    }
    return started;
  }

  /** Runs its commands. @throws Error where one fails */
  must(command: string): Promise<string> {
    return must(this.#inside(command));
  }

  run(command: string): Promise<Outcome> {
    return exec(this.#inside(command));
  }

  #inside(command: string): string[] {
    return ['nsenter', '-t', String(this.holder), '-m', '-n', '--', 'sh', '-c', command];
  }
}
