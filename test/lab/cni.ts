// A CNI runtime: starts the shim of weft as libcni does.
//
// The environment says what is to be done, standard input is one plugin's object with the network's name and version; the exit
// status and standard output are the answer.
import { join } from 'node:path';

import type { Cluster } from './cluster.js';
import { exec, type Outcome } from './exec.js';
import { CHECKOUT } from './lab.js';

export const SHIM = join(CHECKOUT, 'bin/weft-cni');

export interface CniResult {
  cniVersion: string;
  interfaces: { name: string; mac?: string; sandbox?: string; mtu?: number }[];
  ips: { version?: string; address: string; gateway?: string; interface: number }[];
  routes: { dst: string; gw?: string }[];
  dns: { nameservers?: string[]; search?: string[]; options?: string[] };
}

export interface CniFailure {
  cniVersion: string;
  code: number;
  msg: string;
  details: string;
}

export interface CniCall {
  command: string;
  /** What a runtime changes of the configuration; undefined leaves a field out. */
  conf?: Record<string, unknown>;
  id?: string;
  ifname?: string;
  /** The lab's name of the container; '' is an empty CNI_NETNS. */
  container?: string;
  args?: string;
  env?: Record<string, string>;
}

export class CniRuntime {
  constructor(
    private readonly cluster: () => Cluster,
    readonly host: string,
  ) {}

  get socket(): string {
    return join(this.cluster().folder, this.host, 'run/cni.sock');
  }

  conf(changes: Record<string, unknown> = {}): Record<string, unknown> {
    return {
      ...{ cniVersion: '1.0.0', name: 'blue', type: 'weft', network: 'blue', socket: this.socket },
      ...changes,
    };
  }

  netns(container: string): string {
    return container === '' ? '' : `/run/netns/${this.cluster().ns(container)}`;
  }

  environment({ command, id, ifname = 'eth0', container, args, env }: CniCall): Record<string, string> {
    return {
      CNI_COMMAND: command,
      ...(id !== undefined && { CNI_CONTAINERID: id, CNI_IFNAME: ifname }),
      ...(container !== undefined && { CNI_NETNS: this.netns(container) }),
      ...(args !== undefined && { CNI_ARGS: args }),
      CNI_PATH: '/opt/cni/bin',
      ...env,
    };
  }

  /** Starts the shim, whatever its answer. */
  call(call: CniCall): Promise<Outcome> {
    return exec(this.cluster().place(this.host).inside(['sh', SHIM]), {
      env: this.environment(call),
      input: JSON.stringify(this.conf(call.conf)),
    });
  }

  /** @throws Error where it fails */
  async add(call: Omit<CniCall, 'command'>): Promise<CniResult> {
    return JSON.parse(await this.#done({ command: 'ADD', ...call })) as CniResult;
  }

  /** @throws Error where it fails, or says anything */
  async done(call: CniCall): Promise<void> {
    const said = await this.#done(call);
    if (said !== '') throw new Error(`${call.command} says ${said}`);
  }

  async #done(call: CniCall): Promise<string> {
    const { code, stdout, stderr } = await this.call(call);
    if (code !== 0) throw new Error(`${call.command}: exit ${code}\n${stdout}${stderr}`);
    return stdout;
  }

  /** The error of a call that fails. @throws Error where it does not, or its answer is not one JSON */
  async refused(call: CniCall): Promise<CniFailure> {
    const { code, stdout } = await this.call(call);
    if (code === 0) throw new Error(`${call.command} was not refused: ${stdout}`);
    return JSON.parse(stdout) as CniFailure;
  }
}
