// Two Docker hosts with weft, and helpers for the tests in this folder.
import type { ExecutionContext } from 'ava';

import { Cluster, type EndpointJson } from '../lab/cluster.js';
import { dockerHosts, IMAGE, type DockerHost } from '../lab/docker.js';
import type { Prepare, Prepared } from '../lab/prepare.js';

export const CREATE = ['network', 'create', '-d', 'weft', '--ipam-driver', 'weft'] as const;

export interface NetworkJson {
  name: string;
  subnet: string;
  subnet6: string | null;
  hostPrefix: number;
  vni: number;
  mtu: number | null;
  internal: boolean;
  masquerade: boolean;
  leases: { node: string | null; subnet: string; subnet6: string | null }[];
  endpoints: number;
}

/** As `docker inspect` shows a container's network. */
export interface Connection {
  IPAddress: string;
  IPPrefixLen: number;
  Gateway: string;
  GlobalIPv6Address: string;
  GlobalIPv6PrefixLen: number;
  IPv6Gateway: string;
  MacAddress: string;
  EndpointID: string;
}

export class DockerCluster {
  private constructor(
    readonly cluster: Cluster,
    readonly h1: DockerHost,
    readonly h2: DockerHost,
    private readonly prepared: Prepared,
  ) {}

  static async up(prepare: Prepare = () => Promise.resolve({})): Promise<DockerCluster> {
    const cluster = await Cluster.create(2);
    let prepared: Prepared = {};
    try {
      prepared = await prepare(cluster, ['h1', 'h2']);
      const { flags } = prepared;
      const [[h1, h2]] = await Promise.all([
        dockerHosts(cluster, ['h1', 'h2']),
        cluster.startController(flags),
      ]);
      if (h1 === undefined || h2 === undefined) throw new Error('the lab has fewer than two hosts');
      await cluster.startAgents(['h1', 'h2'], flags);
      return new DockerCluster(cluster, h1, h2, prepared);
    } catch (error) {
      await prepared.stop?.();
      await cluster.lab.down();
      throw error;
    }
  }

  /** Of the agents. */
  get flags(): readonly string[] | undefined {
    return this.prepared.flags;
  }

  async down(): Promise<void> {
    await this.prepared.stop?.();
    await this.cluster.lab.down();
  }

  until: Cluster['until'] = (what, probe, options) => this.cluster.until(what, probe, options);

  network(name: string): Promise<NetworkJson> {
    return this.cluster.json('h1', 'network', 'inspect', name);
  }

  async hasNetwork(name: string): Promise<boolean> {
    const all = await this.cluster.json<NetworkJson[]>('h1', 'network', 'ls');
    return all.some((network) => network.name === name);
  }

  /** Waits until weft has so many endpoints on the network, and returns them. */
  endpoints(network: string, count: number): Promise<EndpointJson[]> {
    return this.until(`${count} endpoints on ${network}`, async () => {
      const all = await this.cluster.json<EndpointJson[]>('h1', 'endpoint', 'ls', '--network', network);
      return all.length === count && all;
    });
  }

  /** Creates the network on both hosts. */
  async createOnBoth(...args: string[]): Promise<void> {
    for (const host of [this.h1, this.h2]) await host.ask(...CREATE, ...args);
  }

  async removeFromBoth(...names: string[]): Promise<void> {
    for (const host of [this.h1, this.h2]) await host.ask('network', 'rm', ...names);
  }
}

/** Starts a container that waits. */
export async function start(host: DockerHost, name: string, ...options: string[]): Promise<void> {
  await host.ask(
    'run',
    '-d',
    '--init',
    '--name',
    name,
    '--hostname',
    name,
    ...options,
    IMAGE,
    'sleep',
    'infinity',
  );
}

export async function connection(host: DockerHost, container: string, network: string): Promise<Connection> {
  const { NetworkSettings } = await host.inspect<{
    NetworkSettings: { Networks: Record<string, Connection> };
  }>('inspect', container);
  const found = NetworkSettings.Networks[network];
  if (found === undefined) throw new Error(`${container} is not on ${network}`);
  return found;
}

export async function pings(
  t: ExecutionContext,
  host: DockerHost,
  container: string,
  ip: string,
): Promise<void> {
  const six = ip.includes(':') ? '-6 ' : '';
  const { code, stdout, stderr } = await host.in(container, `ping ${six}-c 1 -w 10 ${ip}`);
  t.is(code, 0, `${container} does not reach ${ip}: ${stdout}${stderr}`);
}

export async function pingsNot(
  t: ExecutionContext,
  host: DockerHost,
  container: string,
  ip: string,
): Promise<void> {
  const { code } = await host.in(container, `ping -c 1 -w 2 -W 2 ${ip}`);
  t.not(code, 0, `${container} reaches ${ip}`);
}

/** Docker refuses the command and shows the plugin's error. */
export async function refused(
  t: ExecutionContext,
  host: DockerHost,
  args: readonly string[],
  words: RegExp,
): Promise<void> {
  const { code, stdout, stderr } = await host.docker(...args);
  t.not(code, 0, `docker ${args.join(' ')} was not refused: ${stdout}`);
  t.regex(stderr, words);
}
