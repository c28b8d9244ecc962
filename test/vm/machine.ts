// A virtual machine of the tests: Debian's own kernel in QEMU.
//
// It has this machine's files, and a program inside that runs commands. It is started once for many tests, and ends with its lab.
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';

import { exec, shown, type ExecOptions, type Outcome } from '../lab/exec.js';
import { CHECKOUT, type Lab, type Namespace } from '../lab/lab.js';
import { patiently } from '../lab/patiently.js';
import type { LabProcess } from '../lab/process.js';
import { slowness, until } from '../lab/wait.js';
import { GuestProcess } from './guest-process.js';
import { lines, type Call, type Done, type FromGuest, type ToGuest } from './protocol.js';

/** The files that scripts/vm-kernel.sh creates. */
const KERNEL = join(CHECKOUT, 'node_modules/.cache/weft-vm');
/** The lab's folder, inside the machines. */
const SHARE = '/vm/share';
/** Times `slowness`. */
const REACHED_WITHIN_MS = 2000;

export interface MachineOptions {
  lab: Lab;
  /** The namespace of the segments' bridges. */
  segment: Namespace;
  name: string;
  /** Counts from 1. */
  number: number;
  /** The bridges of its interfaces; the first is eth0. */
  bridges: readonly string[];
  ip: string;
  ip6: string;
  gateway: string;
  gateway6: string;
  memoryMb: number;
  cpus: number;
  /** The path of the systemd that is its first program; without it a shell is. */
  systemd?: string;
}

/** What systemd is not to do: the host's own services, its disks, and questions on the console. */
const SYSTEMD_WORDS = [
  ...['systemd.unit=weft-test.target', 'systemd.firstboot=no', 'fstab=no', 'rd.systemd.gpt_auto=no'],
  ...['systemd.gpt_auto=no', 'systemd.show_status=no', 'systemd.unified_cgroup_hierarchy=1'],
  // Slow here, and of no use: this machine's devices are there, and its files are the host's.
  ...['systemd-udevd', 'systemd-udev-trigger', 'systemd-hwdb-update', 'systemd-timesyncd'].map(
    (name) => `systemd.mask=${name}.service`,
  ),
  ...['systemd.mask=systemd-tmpfiles-setup.service', 'systemd.mask=timers.target'],
];

type Omitted<T> = T extends Call ? Omit<T, 'id' | 'cwd'> : never;

interface Waiting {
  started?: (pid: number) => void;
  done: (outcome: Done) => void;
  failed: (error: Error) => void;
}

export class Machine {
  readonly name: string;
  readonly ip: string;
  /** Environment of `weft` calls. */
  environment: Record<string, string> = {};
  readonly #options: MachineOptions;
  readonly #waiting = new Map<number, Waiting>();
  #next = 0;
  #socket: Socket | undefined;
  #qemu: LabProcess | undefined;
  #over: Error | undefined;

  private constructor(options: MachineOptions) {
    this.#options = options;
    this.name = options.name;
    this.ip = options.ip;
  }

  /** @throws Error with its console's output, where it does not come up */
  static async boot(options: MachineOptions): Promise<Machine> {
    const machine = new Machine(options);
    await machine.#boot();
    return machine;
  }

  /** The tap of one of its interfaces, in the namespace of the segment. */
  tap(nic: number): string {
    return `${this.name}-eth${nic}`;
  }

  mac(nic: number): string {
    return `52:54:00:00:${hex(this.#options.number)}:${hex(nic)}`;
  }

  async #boot(): Promise<void> {
    const { lab, segment, name, bridges, ip, ip6, gateway, gateway6 } = this.#options;
    const settings = {
      node: process.execPath,
      program: join(CHECKOUT, 'build/test/vm/guest.js'),
      modules: join(KERNEL, 'modules'),
      ...{ ip, ip6, gateway, gateway6 },
    };
    writeFileSync(
      join(lab.folder, `${name}.env`),
      Object.entries(settings)
        .map(([key, value]) => `${key}='${value}'\n`)
        .join(''),
    );
    for (const [nic, bridge] of bridges.entries()) {
      const tap = this.tap(nic);
      await segment.must(['ip', 'tuntap', 'add', tap, 'mode', 'tap']);
      await segment.must(['ip', 'link', 'set', tap, 'master', bridge, 'up']);
    }
    const path = join(lab.folder, `${name}.sock`);
    const connected = this.#listen(path);
    this.#qemu = lab.spawn(name, segment.inside(this.#command(path)));
    void this.#qemu.ended.then((code) => this.#end(new Error(`${name} ended (${code})`)));
    await until(`${name} is up`, () => connected.ready || this.#over !== undefined, {
      context: () => this.log(),
    });
    if (this.#over !== undefined) throw new Error(`${this.#over.message}\n${this.log()}`);
  }

  #command(socket: string): string[] {
    const { lab, name, bridges, memoryMb, cpus, systemd } = this.#options;
    const words =
      systemd === undefined ? [] : [`weft.systemd=${systemd}`, `systemd.hostname=${name}`, ...SYSTEMD_WORDS];
    const nics = bridges.flatMap((_bridge, nic) => [
      '-netdev',
      `tap,id=net${nic},ifname=${this.tap(nic)},script=no,downscript=no`,
      '-device',
      `virtio-net-pci,netdev=net${nic},mac=${this.mac(nic)},romfile=`,
    ]);
    return [
      ...['qemu-system-x86_64', '-M', 'pc', '-accel', 'tcg,thread=multi', '-cpu', 'max', '-m', `${memoryMb}`],
      ...['-smp', `${cpus}`],
      ...['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot', '-monitor', 'none'],
      ...['-kernel', join(KERNEL, 'vmlinux'), '-initrd', join(KERNEL, 'initrd')],
      // Mitigations against other tenants cost an emulated machine half its speed, and it has no tenants.
      '-append',
      ['console=ttyS0 panic=-1 quiet mitigations=off nokaslr', `weft.name=${name}`, ...words].join(' '),
      ...['-serial', `file:${join(lab.folder, `${name}.console`)}`],
      ...['-fsdev', 'local,id=host,path=/,security_model=none,readonly=on,multidevs=remap'],
      ...['-device', 'virtio-9p-pci,fsdev=host,mount_tag=host'],
      ...['-fsdev', `local,id=share,path=${lab.folder},security_model=none,multidevs=remap`],
      ...['-device', 'virtio-9p-pci,fsdev=share,mount_tag=share'],
      ...['-device', 'virtio-serial-pci', '-chardev', `socket,id=port,path=${socket}`],
      ...['-device', 'virtserialport,chardev=port,nr=1,name=weft'],
      ...nics,
    ];
  }

  /** QEMU connects while it starts, before the guest can say anything. */
  #listen(path: string): { ready: boolean } {
    const state = { ready: false };
    const server = createServer((socket) => {
      server.close();
      this.#socket = socket;
      socket.on(
        'data',
        lines((line) => {
          const message = JSON.parse(line) as FromGuest;
          if (message.kind === 'ready') state.ready = true;
          else this.#hear(message);
        }),
      );
      socket.on('error', (error) => this.#end(error));
    });
    server.listen(path).unref();
    return state;
  }

  #hear(message: Exclude<FromGuest, { kind: 'ready' }>): void {
    const waiting = this.#waiting.get(message.id);
    if (message.kind === 'started') {
      waiting?.started?.(message.pid);
      return;
    }
    this.#waiting.delete(message.id);
    if (message.kind === 'done') waiting?.done(message);
    else waiting?.failed(new Error(`${this.name}: ${message.message}`));
  }

  #end(error: Error): void {
    this.#over = error;
    for (const { failed } of this.#waiting.values()) failed(error);
    this.#waiting.clear();
  }

  #call(call: Omitted<ToGuest>, waiting: Waiting): number {
    const id = ++this.#next;
    if (this.#over !== undefined) {
      waiting.failed(this.#over);
      return id;
    }
    this.#waiting.set(id, waiting);
    this.#socket?.write(`${JSON.stringify({ ...call, id, cwd: CHECKOUT })}\n`);
    return id;
  }

  /** Sends a call that must end within `timeoutMs`. */
  #ask(call: Omitted<ToGuest>, what: string, timeoutMs = 30_000): Promise<Outcome> {
    const began = performance.now();
    return new Promise((resolve, reject) => {
      const late = setTimeout(() => {
        this.#waiting.delete(id);
        this.#call({ kind: 'signal', of: id, signal: 'SIGKILL' }, { done: () => 0, failed: () => 0 });
        reject(new Error(`${this.name}: ${what}: did not end within ${timeoutMs * slowness} ms`));
      }, timeoutMs * slowness);
      const id = this.#call(call, {
        done: ({ code, stdout, stderr }) => {
          clearTimeout(late);
          resolve({ code, stdout, stderr, ms: performance.now() - began });
        },
        failed: (error) => {
          clearTimeout(late);
          reject(error);
        },
      });
    });
  }

  exec(argv: readonly string[], { env = {}, input = '', timeoutMs }: ExecOptions = {}): Promise<Outcome> {
    return this.#ask({ kind: 'run', argv, env, input }, shown(argv), timeoutMs);
  }

  /** As `exec`; returns what it printed. @throws Error where it fails */
  async must(argv: readonly string[], options?: ExecOptions): Promise<string> {
    const { code, stdout, stderr } = await this.exec(argv, options);
    if (code !== 0) throw new Error(`${this.name}: ${shown(argv)}: exit ${code}\n${stdout}${stderr}`);
    return stdout;
  }

  sh(command: string, options?: ExecOptions): Promise<string> {
    return this.must(['sh', '-c', command], options);
  }

  try(command: string, options?: ExecOptions): Promise<Outcome> {
    return this.exec(['sh', '-c', command], options);
  }

  /** Creates empty namespaces as containers. */
  async containers(...names: readonly string[]): Promise<void> {
    await this.must(['ip', '-batch', '-'], { input: names.map((name) => `netns add ${name}\n`).join('') });
  }

  /** Deletes all namespaces; here they all belong to the tests. */
  async removeContainers(): Promise<void> {
    await this.sh('ip -all netns delete');
  }

  /** Whether a ping from a namespace of this machine is answered before long: one that is late or lost says nothing here. */
  async reaches(from: string, to: string): Promise<boolean> {
    const deadline = performance.now() + REACHED_WITHIN_MS * slowness;
    do if ((await this.#answers(from, to)) > 0) return true;
    while (performance.now() < deadline);
    return false;
  }

  /** Whether no ping from a namespace of this machine is answered. */
  async isApart(from: string, to: string): Promise<boolean> {
    return (await this.#answers(from, to)) === 0;
  }

  /** How many of two pings are answered: the first may wait for ARP. @throws Error where none can be sent */
  async #answers(from: string, to: string): Promise<number> {
    const wait = `${slowness / 7}`;
    const inside = from === '' ? [] : ['ip', 'netns', 'exec', from];
    const argv = [...inside, 'ping', '-n', '-c', '2', '-i', '0.3', '-W', wait, to];
    const { stdout, stderr } = await this.exec(argv);
    const received = / (\d+) received/.exec(stdout)?.[1];
    if (received === undefined) throw new Error(`${this.name}: ${shown(argv)}: ${stderr}`);
    return Number(received);
  }

  /** Runs the command line, as a user of this machine would. */
  weft(...args: string[]): Promise<Outcome> {
    return this.#ask({ kind: 'weft', args, env: this.environment }, `weft ${shown(args)}`);
  }

  /** As `weft`, and it must succeed; returns its JSON. */
  async json<T>(...args: string[]): Promise<T> {
    const what = `${this.name}: weft ${shown(args)}`;
    const { code, stdout, stderr } = await patiently(what, () => this.weft(...args, '-o', 'json'));
    if (code !== 0) throw new Error(`${what}: exit ${code}\n${stderr}`);
    return JSON.parse(stdout) as T;
  }

  /** Starts a long-running program. Its output is in the lab's folder, also after the machine's end. */
  start(
    name: string,
    argv: readonly string[],
    env: Record<string, string> = this.environment,
  ): Promise<GuestProcess> {
    const file = `${this.name}-${name}.log`;
    writeFileSync(join(this.#options.lab.folder, file), `$ ${shown(argv)}\n`, { flag: 'a' });
    return new Promise((resolve, reject) => {
      let ended: (code: number) => void;
      const end = new Promise<number>((tell) => (ended = tell));
      const id = this.#call(
        { kind: 'start', argv, env, logFile: join(SHARE, file) },
        {
          started: (pid) =>
            resolve(
              new GuestProcess(name, pid, join(this.#options.lab.folder, file), end, async (signal) => {
                await this.#ask({ kind: 'signal', of: id, signal }, `${signal} to ${name}`);
              }),
            ),
          done: ({ code }) => ended(code),
          failed: (error) => {
            reject(error);
            ended(127);
          },
        },
      );
    });
  }

  /** The last lines of the kernel, QEMU and the program inside. */
  log(): string {
    return ['console', 'guest.log', 'log']
      .map((kind) => join(this.#options.lab.folder, `${this.name}.${kind}`))
      .map((path) => `--- ${path}\n${tailOf(path)}`)
      .join('\n');
  }

  /** @throws Error where the tests cannot run on this machine */
  static async check(): Promise<void> {
    const { code, stdout } = await exec(['bash', join(CHECKOUT, 'scripts/vm-kernel.sh'), '--check']);
    if (code !== 0) throw new Error(`there is nothing to boot: ${stdout.trim()}`);
  }
}

const hex = (number: number): string => number.toString(16).padStart(2, '0');

function tailOf(path: string): string {
  try {
    return readFileSync(path, 'utf8').trimEnd().split('\n').slice(-25).join('\n');
  } catch {
    return '';
  }
}
