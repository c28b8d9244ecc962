// One to three virtual machines as the hosts of a lab.
//
// On its underlay, and on as many further segments as a test needs. The cluster's etcd and controller, neighbours on the
// segments, and callers of the controller run on this machine, ten times faster.
import { join } from 'node:path';

import { exec, ipBatch, must, shown, type Outcome } from '../lab/exec.js';
import { Lab, WEFT, type Namespace } from '../lab/lab.js';
import { Capture } from './capture.js';
import type { GuestProcess } from './guest-process.js';
import { Machine } from './machine.js';

export interface MachinesOptions {
  /** Number of machines: h1, h2, h3. */
  count: 1 | 2 | 3;
  /** Segments beside the underlay: the first is every machine's eth1, and so on. The interfaces are down. */
  segments?: readonly string[];
  memoryMb?: number;
  /** Of each machine; 1. */
  cpus?: number;
  /** Hosts of the lab beside them, which come first. */
  beside?: number;
  /** As `MachineOptions` has it. */
  systemd?: string;
}

export class Machines {
  readonly #all: Machine[] = [];
  readonly #daemons = new Map<string, GuestProcess>();

  private constructor(readonly lab: Lab) {}

  /** @throws Error where they do not come up; nothing is left over */
  static async boot(options: MachinesOptions): Promise<Machines> {
    await Machine.check();
    const machines = new Machines(await Lab.up({ hosts: options.beside ?? 0 }));
    try {
      await machines.#boot(options);
    } catch (error) {
      await machines.down();
      throw error;
    }
    return machines;
  }

  async #boot({ count, segments = [], memoryMb = 1024, cpus = 1, systemd }: MachinesOptions): Promise<void> {
    const first = this.lab.hosts.length + 1;
    await ipBatch(
      segments.flatMap((name) => [
        // A bridge that snooped multicast would lose the first neighbour solicitations. One that learned would have one port for
        // a MAC address that two hosts have in two VLANs: an 802.1Q switch learns for each VLAN, which not every kernel can.
        `link add name ${name} type bridge mcast_snooping 0 ageing_time 0`,
        `link set ${name} up`,
      ]),
      this.#segment.namespace,
    );
    const booted = await Promise.all(
      Array.from({ length: count }, (_, i) =>
        Machine.boot({
          lab: this.lab,
          segment: this.#segment,
          name: `h${first + i}`,
          number: first + i,
          bridges: ['br0', ...segments],
          ...this.lab.addressesOf(first + i),
          memoryMb,
          cpus,
          ...(systemd !== undefined && { systemd }),
        }),
      ),
    );
    this.#all.push(...booted);
    for (const machine of booted) machine.environment = this.#environment;
  }

  get #segment(): Namespace {
    return this.lab.existing('underlay');
  }

  get #environment(): Record<string, string> {
    return { WEFT_CONTROLLER: this.controller, WEFT_INSECURE: '1' };
  }

  get controller(): string {
    return `${this.lab.infra.ip}:7400`;
  }

  get etcd(): string {
    return `http://${this.lab.infra.ip}:2379`;
  }

  /** The machine of this number; h1 is 1. */
  host(number: number): Machine {
    const found = this.#all.find(({ name }) => name === `h${number}`);
    if (found === undefined) throw new Error(`there are ${this.#all.length} machines, no h${number}`);
    return found;
  }

  /** A neighbour on a segment, unrelated to weft: a namespace with its interface eth0 there. */
  async neighbour(segment: string, name: string, ...addresses: readonly string[]): Promise<Namespace> {
    const made = await this.lab.container(name);
    await must([
      ...['ip', '-n', this.#segment.namespace, 'link', 'add', 'name', name, 'master', segment, 'up'],
      ...['type', 'veth', 'peer', 'name', 'eth0', 'netns', made.namespace],
    ]);
    await ipBatch(
      [
        'link set lo up',
        'link set eth0 up',
        ...addresses.map((address) => `address add ${address} dev eth0`),
      ],
      made.namespace,
    );
    return made;
  }

  /** Captures everything that passes an interface of a machine, on its tap. */
  capture(machine: Machine, nic: number, filter = ''): Promise<Capture> {
    return Capture.start(this.#segment, machine.tap(nic), filter);
  }

  /** Starts the controller with its embedded etcd. */
  async startController(): Promise<void> {
    const { infra, folder } = this.lab;
    const flags = ['--listen', this.controller, '--etcd-listen', this.etcd, '--state-dir', join(folder, 'c')];
    const started = infra.spawn('controller', [WEFT, 'controller', ...flags]);
    await this.lab.until('the controller is ready', () => started.log().includes('the controller is ready'));
  }

  async startAgent(machine: Machine, ...flags: readonly string[]): Promise<void> {
    const common = [
      ...['--node', machine.name, '--controller', this.controller],
      ...(flags.includes('--etcd') ? [] : ['--etcd', this.etcd]),
      // Instead of the default of 3 s, which is too short for machines this slow.
      ...['--node-ttl', '18s', '--cnm-socket', 'none', '--docker', 'unix:///run/no-docker.sock'],
    ];
    const agent = await this.#start(machine, 'agent', [...common, ...flags], 'the agent serves');
    await this.lab.until(
      `the agent of ${machine.name} is ready`,
      async () => (await machine.try('curl -sf http://127.0.0.1:7402/readyz')).code === 0,
      { context: () => agent.tail() },
    );
  }

  async #start(
    machine: Machine,
    what: string,
    flags: readonly string[],
    ready: string,
  ): Promise<GuestProcess> {
    const started = await machine.start(what, [WEFT, what, ...flags]);
    this.#daemons.set(`${what} ${machine.name}`, started);
    const logged = (): string => started.log().slice(started.log().lastIndexOf('$ '));
    await this.lab.until(
      `the ${what} of ${machine.name} logs "${ready}"`,
      () => {
        if (logged().includes(ready)) return true;
        if (started.exitCode !== undefined) throw new Error(`it ended (${started.exitCode})`);
        return false;
      },
      { context: () => started.tail() },
    );
    return started;
  }

  agent(machine: Machine): GuestProcess {
    const found = this.#daemons.get(`agent ${machine.name}`);
    if (found === undefined) throw new Error(`there is no agent on ${machine.name}`);
    return found;
  }

  /** Runs the command line outside of the machines: for calls of the controller only. */
  weft(...args: string[]): Promise<Outcome> {
    return exec(this.lab.infra.inside([WEFT, ...args]), { env: this.#environment });
  }

  /** As `weft`; returns its JSON. @throws Error where it fails */
  async json<T>(...args: string[]): Promise<T> {
    const { code, stdout, stderr } = await this.weft(...args, '-o', 'json');
    if (code !== 0) throw new Error(`weft ${shown(args)}: exit ${code}\n${stderr}`);
    return JSON.parse(stdout) as T;
  }

  /** The last lines of every daemon. */
  logs(): string {
    return [...this.#daemons].map(([name, one]) => `--- ${name}\n${one.tail()}`).join('\n');
  }

  async down(): Promise<void> {
    await this.lab.down();
  }
}
