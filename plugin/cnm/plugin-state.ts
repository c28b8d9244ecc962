// State files of the plugin: pools, Docker networks, Docker endpoints.
//
// Docker replays nothing after a restart of either side. They are small JSON files below the agent's state directory.
import { join } from 'node:path';

import * as z from 'zod';

import { IpAddress, IpNetwork, parseInterface, parseMac } from '../../core/address.js';
import { type FileOptions, RecordTable, type TornRecord } from '../../daemon/record-folder.js';

const parsedBy = (parse: (text: string) => unknown, expected: string): z.ZodType<string> =>
  z.string().refine(
    (text) => {
      try {
        parse(text);
        return true;
      } catch {
        return false;
      }
    },
    { error: `expected ${expected}` },
  );
const prefix = parsedBy((text) => IpNetwork.parse(text), 'a prefix such as 10.9.0.0/16');
const address = parsedBy((text) => IpAddress.parse(text), 'an IP address');
const withLength = parsedBy(parseInterface, 'an address with a prefix length');
const mac = parsedBy(parseMac, 'a MAC address');

const poolSchema = z.object({
  id: z.string(),
  family: z.union([z.literal(4), z.literal(6)]),
  /** The whole network. */
  subnet: prefix,
  /** This host's subnet; its first address is the gateway that Docker has. */
  hostSubnet: prefix,
  /** Length of a host's subnet. */
  hostPrefix: z.int().min(0).max(128),
  /** Of --ip-range, if that is smaller than the host's subnet. */
  within: prefix.optional(),
  /** Of --ipam-opt weft.network. */
  name: z.string().optional(),
  /** Of --ipam-opt weft.force. */
  force: z.boolean().optional(),
  /** Docker asked for any subnet. */
  auto: z.boolean(),
  /** Of --aux-address. */
  aux: z.array(address),
  /** Docker's id of the pool's network; absent before CreateNetwork. */
  network: z.string().optional(),
  /** Docker has released it. */
  released: z.boolean(),
  createdAt: z.string(),
});

const networkSchema = z.object({
  /** Docker's. */
  id: z.string(),
  pool: z.string(),
  pool6: z.string().optional(),
  /**
   * naming: waits for Docker's name, which follows in an event. ready: this host is on it. refused: this host cannot join it.
   * leaving: Docker has deleted it, and etcd has not answered yet.
   */
  state: z.enum(['naming', 'ready', 'refused', 'leaving']),
  /** The name in weft; absent while the network is being named. */
  network: z.string().optional(),
  /** Why it is refused, or not ready yet. */
  why: z.string().optional(),
  options: z.object({
    mtu: z.int().optional(),
    vni: z.int().optional(),
    port: z.int().optional(),
    internal: z.boolean().optional(),
    masquerade: z.boolean().optional(),
    backend: z.string().optional(),
    encrypted: z.boolean().optional(),
    directRouting: z.boolean().optional(),
    portSecurity: z.boolean().optional(),
    directAccess: z.boolean().optional(),
  }),
  createdAt: z.string(),
});

const endpointSchema = z.object({
  /** Docker's. */
  id: z.string(),
  /** Docker's id of its network. */
  network: z.string(),
  /** weft's id, which is that of the reservation of its IPv4 address. */
  endpoint: z.string(),
  ip: withLength,
  ip6: withLength.optional(),
  allowedAddresses: z.array(z.string()).optional(),
  mac,
  /** Its container's name is known. */
  named: z.boolean(),
  createdAt: z.string(),
});

export type Pool = z.output<typeof poolSchema>;
export type DockerNetwork = z.output<typeof networkSchema>;
export type DockerEndpoint = z.output<typeof endpointSchema>;

/** The plugin's name in problems. */
export const PLUGIN = 'docker';

export class PluginState {
  readonly pools: RecordTable<Pool>;
  readonly networks: RecordTable<DockerNetwork>;
  readonly endpoints: RecordTable<DockerEndpoint>;
  /**
   * Docker's ids of endpoints that are in a container. Not saved, because Docker waits for the call; after a restart all
   * endpoints count.
   */
  readonly joined = new Set<string>();

  /** @param folder of the plugin */
  constructor(folder: string, options: FileOptions = {}) {
    const nameOf = ({ id }: { id: string }): string => id;
    // After a power cut Docker still has its networks and asks for them by id. It makes endpoints anew.
    this.pools = new RecordTable({
      folder: join(folder, 'pools'),
      parse: (value) => poolSchema.parse(value),
      nameOf,
      durable: true,
      ...options,
    });
    this.networks = new RecordTable({
      folder: join(folder, 'networks'),
      parse: (value) => networkSchema.parse(value),
      nameOf,
      durable: true,
      ...options,
    });
    this.endpoints = new RecordTable({
      folder: join(folder, 'endpoints'),
      parse: (value) => endpointSchema.parse(value),
      nameOf,
      ...options,
    });
  }

  /** @throws WeftError FAILED_PRECONDITION */
  load(): TornRecord[] {
    const torn = [this.pools, this.networks, this.endpoints].flatMap((table) => {
      table.create();
      return table.load();
    });
    for (const { id } of this.endpoints.list()) this.joined.add(id);
    return torn;
  }

  poolsOf(network: DockerNetwork): Pool[] {
    return [network.pool, network.pool6].flatMap((id) =>
      id === undefined ? [] : (this.pools.get(id) ?? []),
    );
  }

  endpointsOf(network: string): DockerEndpoint[] {
    return this.endpoints.list().filter((endpoint) => endpoint.network === network);
  }

  /** Endpoints in a container whose name is not known yet. */
  unnamed(): DockerEndpoint[] {
    return this.endpoints.list().filter(({ id, named }) => !named && this.joined.has(id));
  }

  forget(endpoint: string): void {
    this.joined.delete(endpoint);
    this.endpoints.delete(endpoint);
  }

  /** The Docker network that is this network of weft's on this host. */
  networkNamed(name: string): DockerNetwork | undefined {
    return this.networks.list().find(({ network, state }) => network === name && state !== 'leaving');
  }
}

/** Milliseconds since a record was made. */
export const ageOf = ({ createdAt }: { createdAt: string }): number => Date.now() - Date.parse(createdAt);

export const isAddressOf = ({ ip, ip6 }: { ip: string; ip6?: string | undefined }, wanted: string): boolean =>
  [ip, ip6].some((text) => text !== undefined && parseInterface(text).address.toString() === wanted);
