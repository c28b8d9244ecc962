// One to three virtual machines as the hosts of a lab: on its underlay, and on as many further segments as a test wants. What
// is no host of weft's (etcd, the controller, the router, people on the LAN) stays on this machine, where it is ten times
// faster, unless a test is about it.
import { Cluster, CONTROLLER } from '../lab/cluster.js';
import { ipBatch, must } from '../lab/exec.js';
import { WEFT, type Lab, type Namespace } from '../lab/lab.js';
import { Capture } from './capture.js';
import { Machine } from './machine.js';
import type { GuestProcess } from './guest-process.js';

export interface MachinesOptions {
  /** How many: h1, h2, h3. */
  count: 1 | 2 | 3;
  /** Segments beside the underlay: the first is every machine's eth1. */
  segments?: readonly string[];
  memoryMb?: number;
}

export class Machines {
  readonly #all: Machine[] = [];
  readonly #agents = new Map<string, GuestProcess>();

  private constructor(readonly cluster: Cluster) {}

  /** @throws Error where they do not come up; nothing is left then */
  static async boot({ count, segments = [], memoryMb = 768 }: MachinesOptions): Promise<Machines> {
    await Machine.check();
    const machines = new Machines(await Cluster.create(0));
    try {
      await machines.#boot(count, segments, memoryMb);
    } catch (error) {
      await machines.down();
      throw error;
    }
    return machines;
  }

  async #boot(count: number, segments: readonly string[], memoryMb: number): Promise<void> {
    await ipBatch(
      segments.flatMap((name) => [
        // A bridge that snooped multicast would lose the first neighbour solicitations.
        `link add name ${name} type bridge mcast_snooping 0`,
        `link set ${name} up`,
      ]),
      this.#wire.namespace,
    );
    const booted = await Promise.all(
      Array.from({ length: count }, (_, i) =>
        Machine.boot({
          lab: this.lab,
          wire: this.#wire,
          name: `h${i + 1}`,
          number: i + 1,
          bridges: ['br0', ...segments],
          ...this.lab.addressesOf(i + 1),
          memoryMb,
        }),
      ),
    );
    this.#all.push(...booted);
    for (const machine of booted) machine.environment = { WEFT_CONTROLLER: CONTROLLER };
  }

  get lab(): Lab {
    return this.cluster.lab;
  }

  get #wire(): Namespace {
    return this.lab.existing('underlay');
  }

  /** h1 is 1. */
  host(number: number): Machine {
    const found = this.#all[number - 1];
    if (found === undefined) throw new Error(`there are ${this.#all.length} machines, no h${number}`);
    return found;
  }

  /** Somebody on a segment who has nothing to do with weft: a namespace with an interface eth0 there. */
  async neighbour(segment: string, name: string, ...addresses: readonly string[]): Promise<Namespace> {
    const made = await this.lab.container(name);
    await must([
      ...['ip', '-n', this.#wire.namespace, 'link', 'add', 'name', name, 'master', segment, 'up'],
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

  /** Everything that passes an interface of a machine, seen on its cable. */
  capture(machine: Machine, nic: number, filter = ''): Promise<Capture> {
    return Capture.start(this.#wire, machine.tap(nic), filter);
  }

  async startAgent(machine: Machine, ...flags: readonly string[]): Promise<GuestProcess> {
    const { name } = machine;
    const agent = await machine.start('agent', [
      ...[WEFT, 'agent', '--node', name, '--etcd', this.cluster.etcd, '--controller', CONTROLLER],
      ...['--cnm-socket', 'none', '--docker', 'unix:///run/no-docker.sock'],
      ...flags,
    ]);
    this.#agents.set(name, agent);
    await this.lab.until(
      `the agent of ${name} serves`,
      () => agent.log().slice(agent.log().lastIndexOf('$ ')).includes('the agent serves'),
      { context: () => agent.tail() },
    );
    await this.lab.until(
      `${name} is ready`,
      async () => (await machine.try('curl -sf http://127.0.0.1:7402/readyz')).code === 0,
      { context: () => agent.tail() },
    );
    return agent;
  }

  agent(machine: Machine): GuestProcess {
    const found = this.#agents.get(machine.name);
    if (found === undefined) throw new Error(`there is no agent on ${machine.name}`);
    return found;
  }

  async down(): Promise<void> {
    await this.lab.down();
  }
}
