// A large cluster on one machine: three etcd servers, controllers, one agent in a namespace, and hollow nodes.
import { mkdtempSync, rmSync } from 'node:fs';
import { freemem } from 'node:os';
import { join } from 'node:path';

import { Cluster, INFRA, INFRA_IP } from '../../lab/cluster.js';
import { CHECKOUT } from '../../lab/lab.js';
import type { LabProcess } from '../../lab/process.js';
import { AskedProcesses } from './asked-processes.js';
import { Layout, UNDERLAY, type LayoutNode, type Size } from './layout.js';
import type { Answer, Container, Request } from './messages.js';

const PREFIX = '/weft';
const SERVERS = [0, 1, 2] as const;
/** Hollow nodes of one process. */
const NODES_OF_ONE = 64;
/** Part of the free memory that the heaps of hollow nodes may take together: a cluster that is too large ends, and not the machine. */
const HEAPS = 0.7;
const PROGRAMS = join(CHECKOUT, 'build/test/bench/scale');
/** The namespace with the real agent, which joins the first network. */
export const REAL = 'h1';
const WATCHER = 'watcher';

const clientUrl = (n: number): string => `http://${INFRA_IP}:${2379 + 10 * n}`;
const peerUrl = (n: number): string => `http://127.0.0.1:${2380 + 10 * n}`;
const controllerAt = (n: number): string => `${INFRA_IP}:${7400 + 10 * n}`;
const controllerHttp = (n: number): string => `127.0.0.1:${7401 + 10 * n}`;

/** As etcdctl prints it; only what is read here. */
interface ServerStatus {
  Endpoint: string;
  Status: { leader: number; header: { member_id: number } };
}

export class MeasuredCluster {
  readonly layout: Layout;
  /** Names of the processes with hollow nodes, and which those are. */
  readonly workers = new Map<string, readonly LayoutNode[]>();
  /** Subnets of leases that were timed. What leads to a lost lease stays for a while, so that no subnet is timed twice. */
  readonly timedSubnets = new Set<string>();
  /** Names of the controllers. */
  readonly controllers: string[] = [];
  readonly #asked: AskedProcesses;
  /** In memory: the state files of a thousand nodes on one disk would be measured, too. */
  readonly #state = mkdtempSync('/dev/shm/weft-scale-');

  private constructor(
    readonly cluster: Cluster,
    size: Size,
    /** As the agents take it. */
    private readonly nodeTtl: string,
  ) {
    process.on('exit', () => rmSync(this.#state, { recursive: true, force: true }));
    this.layout = new Layout(size);
    this.#asked = new AskedProcesses(join(cluster.folder, 'scale.sock'));
  }

  /** With networks, controllers and the real agent, and no hollow node yet. @param controllers how many */
  static async create(size: Size, controllers: number, nodeTtl = '3s'): Promise<MeasuredCluster> {
    const of = new MeasuredCluster(await Cluster.create(1), size, nodeTtl);
    try {
      await of.#start(controllers);
      return of;
    } catch (error) {
      console.error(of.cluster.lab.logs(5));
      await of.down();
      throw error;
    }
  }

  get etcdUrls(): string[] {
    return SERVERS.map(clientUrl);
  }

  process(name: string): LabProcess {
    return this.cluster.process(name);
  }

  get servers(): string[] {
    return SERVERS.map((n) => `etcd-${n}`);
  }

  async #start(controllers: number): Promise<void> {
    const { cluster, layout } = this;
    // The real agent pings the others: the router answers for all of them (echo-peers.ts).
    await cluster.sh('outside', `ip route add local ${UNDERLAY} dev lo`);
    for (const n of SERVERS) this.startServer(n);
    await cluster.until('etcd serves', async () => (await this.etcdctl('get', '/')) === '');
    cluster.etcd = this.etcdUrls.join(',');
    for (const { name, config } of layout.networks)
      await this.etcdctl('put', `${PREFIX}/networks/${name}/config`, JSON.stringify(config));
    for (let n = 0; n < controllers; n++) await this.startController(n);
    await cluster.startAgents(
      [REAL],
      [
        ...['--join', this.realNetworks.join(','), '--node-ttl', this.nodeTtl],
        // The first one is among the usual flags.
        ...this.controllers.slice(1).flatMap((_, n) => ['--controller', controllerAt(n + 1)]),
      ],
    );
    const peers = cluster.spawn('peers', 'outside', [
      ...[process.execPath, join(PROGRAMS, 'echo-peers.js'), ...layout.nodes.map(({ ip }) => ip)],
    ]);
    await cluster.says(peers, 'listening');
    await this.#spawn(WATCHER, 'bare-watcher', [PREFIX, ...this.etcdUrls]);
  }

  /** Those of the first hollow node. */
  get realNetworks(): readonly string[] {
    return this.layout.nodes[0]?.networks ?? [];
  }

  /** On its earlier data, if it has any. */
  startServer(n: number): void {
    this.cluster.spawn(`etcd-${n}`, INFRA, [
      ...['etcd', '--name', `e${n}`, '--data-dir', join(this.cluster.folder, `etcd-${n}`)],
      ...['--listen-client-urls', clientUrl(n), '--advertise-client-urls', clientUrl(n)],
      ...['--listen-peer-urls', peerUrl(n), '--initial-advertise-peer-urls', peerUrl(n)],
      ...['--initial-cluster', SERVERS.map((m) => `e${m}=${peerUrl(m)}`).join(',')],
      ...['--logger', 'zap', '--log-level', 'error', '--quota-backend-bytes', String(2 ** 32)],
    ]);
  }

  async startController(n: number): Promise<void> {
    const name = `controller-${n}`;
    const flags = [
      '--etcd',
      this.etcdUrls.join(','),
      '--listen',
      controllerAt(n),
      '--http',
      controllerHttp(n),
    ];
    await this.cluster.startController(flags, name);
    if (!this.controllers.includes(name)) this.controllers.push(name);
  }

  /** Starts all hollow nodes; settles when they are up. */
  async startHollowNodes(): Promise<void> {
    const { nodes } = this.layout;
    for (let at = 0; at < nodes.length; at += NODES_OF_ONE)
      this.workers.set(`hollow-${this.workers.size}`, nodes.slice(at, at + NODES_OF_ONE));
    const heap = Math.floor((HEAPS * freemem()) / 2 ** 20 / this.workers.size);
    await Promise.all(
      [...this.workers.keys()].map((name) =>
        this.#spawn(name, 'hollow-worker', [], `--max-old-space-size=${heap}`),
      ),
    );
    const common = {
      etcd: this.etcdUrls,
      controllers: this.controllers.map((_, n) => controllerAt(n)),
      folder: this.#state,
      flags: ['--node-ttl', this.nodeTtl],
    };
    await this.askAll((name) => ({
      do: 'start',
      plans: (this.workers.get(name) ?? []).map((node) => ({ ...node, ...common })),
    }));
  }

  /** @param flags of Node.js */
  async #spawn(
    name: string,
    program: string,
    args: readonly string[],
    ...flags: readonly string[]
  ): Promise<void> {
    const started = this.cluster.spawn(name, INFRA, [
      ...[process.execPath, ...flags, join(PROGRAMS, `${program}.js`)],
      ...[this.#asked.path, name, ...args],
    ]);
    await this.#asked.connected(started, name);
  }

  /** Asks all processes with hollow nodes at once. */
  async askAll(request: (worker: string) => Request): Promise<Answer[]> {
    return await Promise.all([...this.workers.keys()].map((name) => this.#asked.ask(name, request(name))));
  }

  async askWatcher(request: Request): Promise<Answer> {
    return await this.#asked.ask(WATCHER, request);
  }

  /** @param atOnce all of them, each with the name asked for */
  async attach(containers: readonly Container[], atOnce = false): Promise<void> {
    await this.askAll((name) => {
      const own = new Set(this.workers.get(name)?.map((node) => node.name));
      return { do: 'attach', atOnce, containers: containers.filter(({ node }) => own.has(node)) };
    });
  }

  etcdctl(...args: string[]): Promise<string> {
    return this.cluster.lab.infra.must(['etcdctl', '--endpoints', this.etcdUrls.join(','), ...args], {
      env: { ETCDCTL_API: '3' },
    });
  }

  /** The number of the server that leads. @throws Error where none does */
  async leader(): Promise<number> {
    const found = (await this.#serverStatuses()).find(
      ({ Status }) => Status.leader === Status.header.member_id,
    );
    if (found === undefined) throw new Error('no server of etcd leads');
    return this.etcdUrls.indexOf(found.Endpoint);
  }

  /** Whether every server answers, and knows the leader. */
  async allServersServe(): Promise<boolean> {
    const statuses = await this.#serverStatuses();
    return statuses.length === SERVERS.length && statuses.every(({ Status }) => Status.leader !== 0);
  }

  /** @throws Error where one does not answer */
  async #serverStatuses(): Promise<ServerStatus[]> {
    return JSON.parse(await this.etcdctl('endpoint', 'status', '-w', 'json')) as ServerStatus[];
  }

  /** Sessions of agents with a controller. */
  async sessionsOf(n: number): Promise<number> {
    const text = await this.cluster.sh(INFRA, `curl -sf http://${controllerHttp(n)}/metrics`);
    return Number(/^weft_sessions (\d+)/m.exec(text)?.[1] ?? 0);
  }

  leaseKey(network: string, subnet: string): string {
    return `${PREFIX}/networks/${network}/subnets/${subnet.replace('/', '-')}`;
  }

  async down(): Promise<void> {
    this.#asked.close();
    await this.cluster.lab.down();
    rmSync(this.#state, { recursive: true, force: true });
  }
}
