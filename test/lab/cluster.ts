// weft on the hosts of a lab: controller, agents and the command line.
//
// Started and called as a user would.
import { join } from 'node:path';

import { exec, shown, type ExecOptions, type Outcome } from './exec.js';
import { Lab, WEFT, type Host, type LabOptions, type Namespace } from './lab.js';
import { patiently } from './patiently.js';
import type { LabProcess } from './process.js';
import { reaches } from './traffic.js';
import { slowness, until } from './wait.js';

/** The host of etcd and the controller. */
export const INFRA = 'infra';
export const INFRA_IP = '192.0.2.2';
export const ETCD = `http://${INFRA_IP}:2379`;
export const CONTROLLER = `${INFRA_IP}:7400`;

/** As `-o json` shapes it. */
export interface EndpointJson {
  id: string;
  name: string;
  network: string;
  node: string;
  target: string;
  ifname: string;
  hostIfname: string;
  mac: string;
  ip: string;
  ip6: string | null;
  gateway: string;
  mtu: number;
  publish: { hostIp: string; hostPort: number; port: number; protocol: string }[];
}

/** An address without its prefix length. */
export const bare = (address: string): string => address.split('/')[0] ?? '';

export class Cluster {
  readonly #places = new Map<string, Namespace>();
  readonly #processes = new Map<string, LabProcess>();
  /** By host: its Docker socket, for the agent. */
  readonly #engines = new Map<string, readonly string[]>();
  /** etcd and the controller as the hosts reach them. */
  readonly #infra: { etcd: string; controller: string };
  /** The etcd endpoints of the agents. */
  etcd: string;
  /** What daemons are started from: this checkout, or another release. Commands are of this checkout. */
  program = WEFT;
  /** By which the agents join, where the cluster has certificates. */
  #token = '';

  private constructor(
    readonly lab: Lab,
    private readonly ipv4: boolean,
    /** With certificates, as users have it, and not in plain text. */
    private readonly secure: boolean,
  ) {
    const ip = ipv4 ? INFRA_IP : `[${lab.infra.ip6}]`;
    this.#infra = { etcd: `${secure ? 'https' : 'http'}://${ip}:2379`, controller: `${ip}:7400` };
    this.etcd = this.#infra.etcd;
    for (const place of [lab.infra, lab.outside, ...lab.hosts]) this.#places.set(place.name, place);
  }

  static async create(
    hosts: number,
    { secure = false, ...options }: Pick<LabOptions, 'run' | 'ipv4'> & { secure?: boolean } = {},
  ): Promise<Cluster> {
    return new Cluster(await Lab.up({ hosts, ...options }), options.ipv4 ?? true, secure);
  }

  get folder(): string {
    return this.lab.folder;
  }

  get etcdData(): string {
    return join(this.folder, 'etcd');
  }

  #place(name: string): Namespace {
    const found = this.#places.get(name);
    if (found === undefined) throw new Error(`there is no ${name} in this lab`);
    return found;
  }

  #host(name: string): Host {
    return this.lab.host(Number(name.slice(1)));
  }

  /** The name in /run/netns. */
  ns(name: string): string {
    return this.#place(name).namespace;
  }

  /** Its address on the underlay: IPv4 where that has any. */
  ipOf(host: string): string {
    const { ip, ip6 } = host === INFRA ? this.lab.infra : this.#host(host);
    return this.ipv4 ? ip : ip6;
  }

  async addContainers(...names: readonly string[]): Promise<void> {
    for (const name of names) this.#places.set(name, await this.lab.container(name));
  }

  async removeContainer(name: string): Promise<void> {
    await this.#place(name).remove();
  }

  /** Runs a shell command on a host or in a container; returns what it printed. */
  sh(where: string, command: string, options?: ExecOptions): Promise<string> {
    return this.#place(where).must(['sh', '-c', command], options);
  }

  try(where: string, command: string, options?: ExecOptions): Promise<Outcome> {
    return this.#place(where).exec(['sh', '-c', command], options);
  }

  reaches(from: string, ip: string): Promise<boolean> {
    return reaches(this.#place(from), ip);
  }

  /** From now on this host is entered as its Docker processes are, and its agent starts with these flags. */
  dockerHost(name: string, place: Namespace, agentFlags: readonly string[]): void {
    this.#places.set(name, place);
    this.#engines.set(name, agentFlags);
  }

  place(name: string): Namespace {
    return this.#place(name);
  }

  spawn(name: string, where: string, argv: readonly string[]): LabProcess {
    const started = this.lab.spawn(name, this.#place(where).inside(argv), this.#trust);
    this.#processes.set(name, started);
    return started;
  }

  process(name: string): LabProcess {
    const found = this.#processes.get(name);
    if (found === undefined) throw new Error(`there is no process ${name}`);
    return found;
  }

  async startController(flags: readonly string[] = [], name = 'controller'): Promise<LabProcess> {
    const listen = flags.includes('--etcd') ? [] : ['--etcd-listen', this.#infra.etcd];
    const admin = this.secure ? ['--admin-dir', this.#adminDir] : [];
    const started = this.spawn(name, INFRA, [
      this.program,
      'controller',
      '--listen',
      this.#infra.controller,
      '--state-dir',
      join(this.folder, name),
      ...listen,
      ...admin,
      ...flags,
    ]);
    await this.says(started, 'the controller is ready');
    if (this.secure)
      // The certificate of root is there a moment later.
      this.#token = await this.until('a token', async () => {
        const { token } = await this.json<{ token: string }>('h1', 'token', 'create');
        return token;
      });
    return started;
  }

  get #adminDir(): string {
    return join(this.folder, 'admin');
  }

  /** Environment of daemons and commands. */
  get #trust(): Record<string, string> {
    return this.secure ? { WEFT_INSECURE: '', WEFT_ADMIN_DIR: this.#adminDir } : {};
  }

  agentFlags(host: string): string[] {
    const { runDir, stateDir } = this.#host(host);
    return [
      ...['--node', host, '--controller', this.#infra.controller],
      ...(this.secure ? ['--token', this.#token] : ['--etcd', this.etcd]),
      ...['--run-dir', runDir, '--state-dir', stateDir],
      ...(this.#engines.get(host) ?? [
        '--cnm-socket',
        'none',
        '--docker',
        `unix://${join(this.folder, 'no-docker.sock')}`,
      ]),
    ];
  }

  /** Starts the agents of several hosts at once, and waits until they are ready. */
  async startAgents(hosts: readonly string[], flags: readonly string[] = []): Promise<void> {
    const one = async (host: string): Promise<void> => {
      const started = this.spawn(`agent-${host}`, host, [
        ...[this.program, 'agent', ...this.agentFlags(host), ...flags],
      ]);
      await this.says(started, 'the agent serves');
      await this.until(
        `${host} is ready`,
        async () => (await this.try(host, 'curl -sf http://127.0.0.1:7402/readyz')).code === 0,
      );
    };
    await Promise.all(hosts.map(one));
  }

  /** Starts a separate etcd on the infrastructure host, on its previous data. */
  async startEtcd(): Promise<LabProcess> {
    const peer = 'http://127.0.0.1:2380';
    const urls = [
      '--listen-client-urls',
      this.#infra.etcd,
      '--advertise-client-urls',
      this.#infra.etcd,
      '--listen-peer-urls',
      peer,
      '--initial-advertise-peer-urls',
      peer,
    ];
    const started = this.spawn('etcd', INFRA, [
      'etcd',
      '--name',
      'e',
      '--data-dir',
      this.etcdData,
      ...urls,
      '--initial-cluster',
      `e=${peer}`,
    ]);
    await this.until('etcd serves', async () => (await this.etcdctl('get', '/')) === '');
    return started;
  }

  /** Waits for a text in the log that this process has written since its last start. */
  async says(of: LabProcess, text: string): Promise<void> {
    const logged = (): string => of.log().slice(of.log().lastIndexOf('$ '));
    await until(`${of.name} logs "${text}"`, () => logged().includes(text), { context: () => of.tail() });
  }

  until: Lab['until'] = (what, probe, options) => this.lab.until(what, probe, options);

  /** Runs the command line on a host. */
  weft(host: string, ...args: string[]): Promise<Outcome> {
    const argv = this.#place(host).inside([WEFT, ...args]);
    const call = (): Promise<Outcome> => exec(argv, { env: this.environment(host) });
    return slowness > 1 ? patiently(shown(argv), call) : call();
  }

  /** As `weft`; returns its JSON. @throws Error where it fails */
  async json<T>(host: string, ...args: string[]): Promise<T> {
    const { code, stdout, stderr } = await this.weft(host, ...args, '-o', 'json');
    if (code !== 0) throw new Error(`${host}: weft ${shown(args)}: exit ${code}\n${stdout}${stderr}`);
    return JSON.parse(stdout) as T;
  }

  environment(host: string): Record<string, string> {
    const agent = join(this.#host(host).runDir, 'agent.sock');
    return { WEFT_CONTROLLER: this.#infra.controller, WEFT_AGENT: agent, ...this.#trust };
  }

  attach(host: string, network: string, container: string, ...flags: string[]): Promise<EndpointJson> {
    return this.json(host, 'attach', network, this.ns(container), ...flags);
  }

  etcdctl(...args: string[]): Promise<string> {
    return this.etcdctlIn('', ...args);
  }

  /** As `etcdctl`, with standard input: for a transaction. */
  etcdctlIn(input: string, ...args: string[]): Promise<string> {
    const env = { ETCDCTL_API: '3' };
    return this.lab.infra.must(['etcdctl', '--endpoints', this.#infra.etcd, ...args], { env, input });
  }
}
