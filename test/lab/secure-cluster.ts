// A cluster that is secure by default: its controller is a certificate authority, and its nodes join by tokens.
import { join } from 'node:path';

import { Cluster, CONTROLLER, INFRA, INFRA_IP } from './cluster.js';
import type { Outcome } from './exec.js';
import { WEFT } from './lab.js';
import type { LabProcess } from './process.js';

const SECURE = { WEFT_INSECURE: '' };

export class SecureCluster {
  private constructor(readonly lab: Cluster) {}

  /** Hosts and containers; nothing runs yet. */
  static async create(hosts: number, ...containers: readonly string[]): Promise<SecureCluster> {
    const lab = await Cluster.create(hosts);
    await lab.addContainers(...containers);
    return new SecureCluster(lab);
  }

  /** A command of root, on INFRA with root's certificate; nothing is in its home folder. */
  weft(host: string, args: readonly string[], env: Record<string, string> = {}): Promise<Outcome> {
    const { lab } = this;
    const own = host === INFRA ? { WEFT_CONTROLLER: '127.0.0.1:7400' } : lab.environment(host);
    const all = { ...own, ...SECURE, WEFT_ADMIN_DIR: join(lab.folder, 'admin'), HOME: lab.folder, ...env };
    return lab.place(host).exec([WEFT, ...args], { env: all });
  }

  async json<T>(host: string, args: readonly string[], env: Record<string, string> = {}): Promise<T> {
    const { code, stdout, stderr } = await this.weft(host, [...args, '-o', 'json'], env);
    if (code !== 0) throw new Error(stderr);
    return JSON.parse(stdout) as T;
  }

  async token(...args: readonly string[]): Promise<string> {
    return (await this.json<{ token: string }>(INFRA, ['token', 'create', ...args])).token;
  }

  /** @param env as NAME=VALUE */
  async startController(flags: readonly string[] = [], env: readonly string[] = []): Promise<LabProcess> {
    const { lab } = this;
    const own = ['--state-dir', join(lab.folder, 'controller'), '--admin-dir', join(lab.folder, 'admin')];
    const started = lab.spawn('controller', INFRA, [
      ...['env', 'WEFT_INSECURE=', ...env, WEFT, 'controller', '--advertise', INFRA_IP, ...own],
      ...flags,
    ]);
    await lab.says(started, 'the controller is ready');
    await lab.until(
      'root has a certificate',
      async () => (await this.weft(INFRA, ['node', 'ls'])).code === 0,
    );
    return started;
  }

  agent(host: string, flags: readonly string[]): LabProcess {
    const { lab } = this;
    const { runDir, stateDir } = lab.lab.host(Number(host.slice(1)));
    return lab.spawn(`agent-${host}`, host, [
      ...['env', 'WEFT_INSECURE=', WEFT, 'agent', '--node', host, '--run-dir', runDir],
      ...['--state-dir', stateDir, '--cnm-socket', 'none'],
      ...['--docker', `unix://${join(lab.folder, 'no-docker.sock')}`, '--controller', CONTROLLER, ...flags],
    ]);
  }

  /** Starts agents with a token for each, and waits until they can do their work. */
  async join(...hosts: readonly string[]): Promise<void> {
    for (const host of hosts) this.agent(host, ['--token', await this.token('--node', host)]);
    await Promise.all(hosts.map((host) => this.ready(host)));
  }

  ready(host: string): Promise<boolean> {
    return this.lab.until(
      `${host} is ready`,
      async () => (await this.lab.try(host, 'curl -sf http://127.0.0.1:7402/readyz')).code === 0,
    );
  }

  /** The folder of a node's certificate. */
  identityOf(host: string): string {
    return join(this.lab.lab.host(Number(host.slice(1))).stateDir, 'identity');
  }
}
