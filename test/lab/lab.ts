// Hosts on one machine, for tests and the demo.
//
// Network namespaces on an underlay of their own, containers as namespaces, real processes, and cables that can be pulled.
// Nothing is in the machine's own network, and everything is deleted at the end.
import { existsSync, mkdirSync, readdirSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { exec, ipBatch, must, type ExecOptions, type Outcome } from './exec.js';
import { LabProcess } from './process.js';
import { claimRun, keepRun, newRun, recordProcess, removeRun } from './runs.js';
import { until, type WaitOptions } from './wait.js';

/** The checkout; this file runs from build/test/lab. */
export const CHECKOUT = join(dirname(fileURLToPath(import.meta.url)), '../../..');
export const WEFT = join(CHECKOUT, 'bin/weft');

export interface LabOptions {
  /** Number of hosts: h1, h2, … */
  hosts: number;
  /** The run's name; by default unique to this process. */
  run?: string;
  underlayMtu?: number;
  /** Whether the underlay has IPv4 (default: yes). */
  ipv4?: boolean;
}

/** Addresses on the underlay. h1 is .11 and ::11, and so on. */
const UNDERLAY = {
  ip: (host: number): string => `192.0.2.${host}`,
  ip6: (host: number): string => `2001:db8::${host}`,
  gateway: 1,
  infra: 2,
  firstHost: 11,
};
/** An address beyond the underlay, on the gateway: the Internet of the lab. */
export const OUTSIDE = { ip: '198.51.100.1', ip6: '2001:db8:ffff::1' };

const living = new Set<Lab>();

export class Lab {
  readonly folder: string;
  readonly hosts: Host[];
  /** The host of etcd and controllers: 192.0.2.2. */
  readonly infra: Host;
  /** The underlay's router: 192.0.2.1, and the Internet behind it. */
  readonly outside: Host;
  readonly #processes: LabProcess[] = [];
  #containers = 0;
  #down = false;

  private constructor(
    readonly run: string,
    hosts: number,
  ) {
    this.folder = claimRun(run);
    this.outside = new Host(this, 'outside', UNDERLAY.gateway);
    this.infra = new Host(this, 'infra', UNDERLAY.infra);
    this.hosts = Array.from({ length: hosts }, (_, i) => new Host(this, `h${i + 1}`, UNDERLAY.firstHost + i));
  }

  /** @throws Error where the kernel or the rights of this process do not allow it; nothing is left over */
  static async up({ hosts, run = newRun(), underlayMtu = 1500, ipv4 = true }: LabOptions): Promise<Lab> {
    const lab = new Lab(run, hosts);
    living.add(lab);
    installGuards();
    try {
      await lab.#build(underlayMtu, ipv4);
    } catch (error) {
      await lab.down();
      throw error;
    }
    return lab;
  }

  async #build(mtu: number, ipv4: boolean): Promise<void> {
    const underlay = this.#underlay;
    const members = [this.outside, this.infra, ...this.hosts];
    await ipBatch([
      `netns add ${underlay}`,
      ...members.flatMap(({ name, namespace }) => [
        `netns add ${namespace}`,
        `link add name ${name} netns ${underlay} mtu ${mtu} type veth peer name eth0 netns ${namespace} mtu ${mtu}`,
      ]),
    ]);
    // A bridge that snooped multicast would lose the first neighbour solicitations.
    await ipBatch(
      [
        `link add name br0 mtu ${mtu} type bridge mcast_snooping 0`,
        'link set br0 up',
        ...members.map(({ name }) => `link set ${name} master br0 up`),
      ],
      underlay,
    );
    await Promise.all(members.map((host) => this.#configure(host, ipv4)));
  }

  async #configure(host: Host, ipv4: boolean): Promise<void> {
    const router = host === this.outside;
    const four = [
      `address add ${host.ip}/24 dev eth0`,
      router
        ? `address add ${OUTSIDE.ip}/32 dev lo`
        : `route add default via ${UNDERLAY.ip(UNDERLAY.gateway)}`,
    ];
    await ipBatch(
      [
        'link set lo up',
        'link set eth0 up',
        ...(ipv4 ? four : []),
        `address add ${host.ip6}/64 dev eth0 nodad`,
        router
          ? `address add ${OUTSIDE.ip6}/128 dev lo nodad`
          : `route add ::/0 via ${UNDERLAY.ip6(UNDERLAY.gateway)}`,
      ],
      host.namespace,
    );
    // A new namespace copies the machine's IPv4 settings; these hosts have the defaults of a fresh install.
    await host.must([
      'sh',
      '-c',
      'cd /proc/sys/net/ipv4 && echo 0 >ip_forward && echo 0 >conf/all/rp_filter',
    ]);
    mkdirSync(host.runDir, { recursive: true });
    mkdirSync(host.stateDir, { recursive: true });
  }

  get #underlay(): string {
    return `${this.run}-underlay`;
  }

  host(index: number): Host {
    const host = this.hosts[index - 1];
    if (host === undefined) throw new Error(`this lab has ${this.hosts.length} hosts, no h${index}`);
    return host;
  }

  /** The underlay addresses of the host of this number, which may be a virtual machine. */
  addressesOf(host: number): { ip: string; ip6: string; gateway: string; gateway6: string } {
    const number = UNDERLAY.firstHost + host - 1;
    return {
      ip: UNDERLAY.ip(number),
      ip6: UNDERLAY.ip6(number),
      gateway: UNDERLAY.ip(UNDERLAY.gateway),
      gateway6: UNDERLAY.ip6(UNDERLAY.gateway),
    };
  }

  /** A new, empty namespace as a container; its name is unique on this machine. */
  async container(name = `c${++this.#containers}`): Promise<Namespace> {
    const container = new Namespace(this, name);
    await must(['ip', 'netns', 'add', container.namespace]);
    return container;
  }

  /** A namespace of this run that another process has created. */
  existing(name: string): Namespace {
    return new Namespace(this, name);
  }

  /** The pid of a container without a name: its namespace lives only as long as the process. */
  async anonymous(name = `a${++this.#containers}`): Promise<LabProcess> {
    const holder = this.spawn(name, ['unshare', '--net', 'sleep', 'infinity']);
    // Until unshare is done it is this process's own namespace.
    await until('a namespace of its own', async () => {
      const [own, its] = await Promise.all([
        must(['readlink', '/proc/self/ns/net']),
        must(['readlink', `/proc/${holder.pid}/ns/net`]),
      ]);
      return own !== its;
    });
    return holder;
  }

  /** Starts a program on the machine itself; its output is in the run's folder. */
  spawn(name: string, argv: readonly string[], env: Record<string, string> = {}): LabProcess {
    const started = new LabProcess(name, argv, join(this.folder, `${name}.log`), env);
    this.#processes.push(started);
    recordProcess(this.run, started.pid);
    return started;
  }

  /** Disconnects a host from the underlay's switch. */
  async cut(host: Host): Promise<void> {
    await ipBatch([`link set ${host.name} down`], this.#underlay);
  }

  async heal(host: Host): Promise<void> {
    await ipBatch([`link set ${host.name} up`], this.#underlay);
  }

  /** `until`, with the last lines of every log in its failure. */
  until<T>(
    what: string,
    probe: () => T | undefined | false | Promise<T | undefined | false>,
    options: WaitOptions = {},
  ): Promise<T> {
    return until(what, probe, { context: () => this.logs(), ...options });
  }

  /** The last lines of every log. */
  logs(lines = 20): string {
    return this.#processes.map((one) => `--- ${one.name}\n${one.tail(lines)}`).join('\n');
  }

  /** Keeps everything up when this process ends. */
  keep(): void {
    keepRun(this.run);
    for (const one of this.#processes) one.unref();
    living.delete(this);
  }

  /** @throws Error naming what could not be removed */
  async down(): Promise<void> {
    if (this.#down) return;
    this.#down = true;
    const left = removeRun(this.run);
    living.delete(this);
    await Promise.all(this.#processes.map((one) => one.ended));
    if (left.length > 0) throw new Error(`run ${this.run}: could not be removed: ${left.join(', ')}`);
  }

  /** Synchronous, for exits that allow no waiting. */
  downNow(): void {
    this.#down = true;
    living.delete(this);
    removeRun(this.run);
  }
}

/** A network namespace of the lab. */
export class Namespace {
  constructor(
    readonly lab: Lab,
    readonly name: string,
  ) {}

  /** Its name in /run/netns, a TARGET of `weft attach`. */
  get namespace(): string {
    return `${this.lab.run}-${this.name}`;
  }

  get exists(): boolean {
    return existsSync(`/run/netns/${this.namespace}`);
  }

  inside(argv: readonly string[]): string[] {
    return ['ip', 'netns', 'exec', this.namespace, ...argv];
  }

  exec(argv: readonly string[], options?: ExecOptions): Promise<Outcome> {
    return exec(this.inside(argv), options);
  }

  must(argv: readonly string[], options?: ExecOptions): Promise<string> {
    return must(this.inside(argv), options);
  }

  /** The output of `ip -j …`. */
  async ipJson<T = Record<string, unknown>>(...args: string[]): Promise<T[]> {
    const text = await must(['ip', '-n', this.namespace, '-j', ...args]);
    return text.trim() === '' ? [] : (JSON.parse(text) as T[]);
  }

  /** Starts a program inside. */
  spawn(name: string, argv: readonly string[], env?: Record<string, string>): LabProcess {
    return this.lab.spawn(`${this.name}-${name}`, this.inside(argv), env);
  }

  /** Ends the container: its processes, then its namespace. */
  async remove(): Promise<void> {
    const { ino } = statSync(`/run/netns/${this.namespace}`);
    for (const pid of (await must(['ip', 'netns', 'pids', this.namespace])).split('\n').filter(Boolean)) {
      if (isWhollyIn(pid, ino)) process.kill(Number(pid), 'SIGKILL');
    }
    await must(['ip', 'netns', 'del', this.namespace]);
  }
}

/** An agent enters a namespace with one of its threads, for microseconds: it is no process of the container. */
function isWhollyIn(pid: string, namespace: number): boolean {
  try {
    return readdirSync(`/proc/${pid}/task`).every(
      (thread) => statSync(`/proc/${pid}/task/${thread}/ns/net`).ino === namespace,
    );
  } catch {
    // It has ended.
    return false;
  }
}

export class Host extends Namespace {
  readonly ip: string;
  readonly ip6: string;
  readonly runDir: string;
  readonly stateDir: string;

  constructor(lab: Lab, name: string, number: number) {
    super(lab, name);
    this.ip = UNDERLAY.ip(number);
    this.ip6 = UNDERLAY.ip6(number);
    this.runDir = join(lab.folder, name, 'run');
    this.stateDir = join(lab.folder, name, 'state');
  }
}

let guarded = false;

/** Removes the labs of this process before it ends, for whatever reason. */
function installGuards(): void {
  if (guarded) return;
  guarded = true;
  const removeAll = (): void => {
    for (const lab of living) lab.downNow();
  };
  process.on('exit', removeAll);
  for (const [signal, code] of [
    ['SIGINT', 130],
    ['SIGTERM', 143],
    ['SIGHUP', 129],
  ] as const) {
    process.on(signal, () => {
      removeAll();
      process.exit(code);
    });
  }
}
