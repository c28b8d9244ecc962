// A host of the lab that has files of its own in /etc, /run and /var/lib, and a systemctl that starts what the units say.
//
// For commands that set a whole host up. Everything is in the run's folder or in the host's namespaces, and ends with the run.
import { existsSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { exec, must, type ExecOptions, type Outcome } from './exec.js';
import { Host, WEFT, type Lab } from './lab.js';
import type { LabProcess } from './process.js';
import { until } from './wait.js';

/** The words that weft and its package use. A unit's processes are children of nobody, as under systemd. */
export const SYSTEMCTL = `#!/bin/sh
for word in "$@"; do case $word in *.service) unit=\${word%.service} ;; esac; done
file=/etc/systemd/system/$unit.service
[ -e $file ] || file=/usr/lib/systemd/system/$unit.service
pid=/run/units/$unit.pid
value() { sed -n "s/^$1=//p" $file | sed 's|%S|/var/lib|g;s|[$][$]|$|g'; }
alive() { [ -e $pid ] && grep -qs '^State:[[:space:]]*[RSDT]' /proc/$(cat $pid)/status; }
start() {
  if alive; then return; fi
  credentials=/run/credentials/$unit.service
  mkdir -p /run/units $credentials
  for one in $(value LoadCredential); do cp "\${one#*:}" "$credentials/\${one%%:*}"; done
  setsid env $(value Environment) $(value ExecStart) >>/run/units/$unit.log 2>&1 </dev/null &
  echo $! >$pid
  after=$(value ExecStartPost)
  [ -z "$after" ] || MAINPID=$(cat $pid) eval "\${after#+}"
}
stop() {
  if alive; then kill $(cat $pid); fi
  while alive; do sleep 0.05; done
}
case $1 in
  is-system-running) echo running ;;
  is-active) alive ;;
  show) if alive; then echo running; else echo failed; fi ;;
  enable) start ;;
  restart) stop; start ;;
  try-restart) if alive; then stop; start; fi ;;
  disable) stop ;;
  clean)
    rm -rf "/var/lib/$(value StateDirectory)"
    for name in $(value RuntimeDirectory); do rm -rf "/run/$name"; done ;;
esac
`;

export class ServiceHost extends Host {
  #holder: LabProcess | undefined;

  private constructor(lab: Lab, name: string, number: number) {
    super(lab, name, number);
  }

  /** @param number of the host in the lab; h1 is 1 */
  static async up(lab: Lab, number: number): Promise<ServiceHost> {
    const { name, ip } = lab.host(number);
    const host = new ServiceHost(lab, name, Number(ip.split('.')[3]));
    await host.#up();
    return host;
  }

  get #folder(): string {
    return join(this.lab.folder, `${this.name}-files`);
  }

  async #up(): Promise<void> {
    const folder = this.#folder;
    const ready = join(folder, 'ready');
    for (const part of ['bin', 'etc', 'run', 'var']) mkdirSync(join(folder, part), { recursive: true });
    writeFileSync(join(folder, 'bin/systemctl'), SYSTEMCTL, { mode: 0o755 });
    symlinkSync(WEFT, join(folder, 'bin/weft'));
    const script = [
      `hostname ${this.name}`,
      `cp -a /etc/. ${folder}/etc`,
      `mount --bind ${folder}/etc /etc`,
      `mount --bind ${folder}/run /run`,
      `mount --bind ${folder}/var /var/lib`,
      `touch ${ready}`,
      'exec sleep infinity',
    ].join(' && ');
    const holder = this.lab.spawn(`${this.name}-holder`, [
      ...['nsenter', `--net=/run/netns/${this.namespace}`, 'unshare', '-m', '-u', '--propagation', 'private'],
      ...['sh', '-c', script],
    ]);
    this.#holder = holder;
    await until(`${this.name} has files of its own`, () => existsSync(ready), {
      context: () => holder.tail(),
    });
  }

  override inside(argv: readonly string[]): string[] {
    const path = `PATH=${join(this.#folder, 'bin')}:${process.env['PATH'] ?? ''}`;
    // weft is what a user's shell has: nothing of this test's settings.
    const env = ['env', '-u', 'WEFT_INSECURE', path];
    return ['nsenter', '-t', String(this.#holder?.pid ?? 0), '-m', '-n', '-u', '--', ...env, ...argv];
  }

  /** A line of a shell on this host. */
  sh(line: string, options?: ExecOptions): Promise<Outcome> {
    return exec(this.inside(['sh', '-c', line]), options);
  }

  /** As `sh`; returns what it printed. @throws Error where it fails */
  run(line: string, options?: ExecOptions): Promise<string> {
    return must(this.inside(['sh', '-c', line]), options);
  }
}
