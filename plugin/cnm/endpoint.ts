// Network driver, endpoints: create, join, publish, leave, delete.
//
// An endpoint of Docker's is only a record here until Join, and from then on also an endpoint of weft's. Docker moves the
// container's link into the container and configures it from the answer to Join.
import { IpAddress, parseInterface, parseMac } from '../../core/address.js';
import { macOf } from '../../core/compile.js';
import { invalidArgument, messageOf, notFound } from '../../core/errors.js';
import { KeyedMutex } from '../../core/keyed-mutex.js';
import type { NodeSubnets, PluginHost } from '../../daemon/plugin-host.js';
import type { DockerEndpoint, PluginState } from './plugin-state.js';
import type { Networks } from './network.js';
import { parseAllowedAddresses } from './options.js';
import { parsePortMap } from './port-map.js';
import { LABEL, type CreateEndpoint, type External, type Join } from './protocol.js';
import { WayOut } from './way-out.js';

export interface EndpointsOptions {
  host: PluginHost;
  state: PluginState;
  networks: Networks;
}

/** Docker's route types: through a gateway, or on the link (libnetwork/types). */
const ROUTE = { via: 0, connected: 1 } as const;

interface StaticRoute {
  Destination: string;
  RouteType: number;
  NextHop?: string;
}

export class DockerEndpoints {
  readonly #locks = new KeyedMutex();
  readonly #wayOut: WayOut;

  constructor(private readonly options: EndpointsOptions) {
    this.#wayOut = new WayOut(options.host);
  }

  /** Call it when no more requests arrive. */
  async stop(): Promise<void> {
    await this.#wayOut.stop();
  }

  async create(request: CreateEndpoint): Promise<object> {
    const network = await this.options.networks.ready(request.NetworkID);
    return this.#locks.run(request.EndpointID, () => this.#create(network, request));
  }

  async #create(
    network: string,
    { NetworkID, EndpointID, Interface, Options }: CreateEndpoint,
  ): Promise<object> {
    const { state } = this.options;
    const there = state.endpoints.get(EndpointID);
    if (there !== undefined) return answerOf(there, Interface.MacAddress);
    if (Interface.Address === '') {
      throw invalidArgument('an endpoint of weft needs an IPv4 address', 'Use weft as the IPAM driver, too.');
    }
    const allowedAddresses = parseAllowedAddresses(Options);
    const mac = Interface.MacAddress === '' ? undefined : parseMac(Interface.MacAddress);
    const { id, ip } = await this.#reserved(network, Interface.Address);
    const ip6 =
      Interface.AddressIPv6 === '' ? undefined : (await this.#reserved(network, Interface.AddressIPv6)).ip;
    const record: DockerEndpoint = {
      id: EndpointID,
      network: NetworkID,
      endpoint: id,
      ip,
      ...(ip6 !== undefined && { ip6 }),
      ...(allowedAddresses !== undefined && { allowedAddresses }),
      mac: mac ?? macOf(parseInterface(ip).address),
      named: false,
      createdAt: new Date().toISOString(),
    };
    state.endpoints.put(record);
    return answerOf(record, Interface.MacAddress);
  }

  /** The address that Docker has reserved before; after the loss of a state directory it is reserved now. */
  async #reserved(network: string, text: string): Promise<{ id: string; ip: string }> {
    const { addresses } = this.options.host;
    const asked = IpAddress.parse(text.split('/')[0] ?? '');
    return (
      addresses.find(network, asked.toString()) ??
      (await addresses.reserve({ network, family: asked.family, asked }))
    );
  }

  async join(request: Join): Promise<object> {
    return this.#locks.run(request.EndpointID, () => this.#join(request));
  }

  async #join({ NetworkID, EndpointID, SandboxKey }: Join): Promise<object> {
    const { host, state, networks } = this.options;
    const record = this.#known(EndpointID);
    const network = await networks.ready(NetworkID);
    const subnets = host.networks.get(network);
    if (subnets === undefined) throw notFound(`this host is not on network ${network}`);
    const there = host.endpoints.get(record.endpoint);
    if (there === undefined || there.sandbox.path !== SandboxKey) {
      await host.endpoints.disconnect(record.endpoint);
      await host.endpoints.connect({
        id: record.endpoint,
        key: { manager: 'docker', network: NetworkID, endpoint: EndpointID },
        network,
        // Docker reports the container's name once it runs.
        name: EndpointID.slice(0, 12),
        target: `docker:${EndpointID.slice(0, 12)}`,
        mac: record.mac,
        ip: record.ip,
        ...(record.ip6 !== undefined && { ip6: record.ip6 }),
        ...(record.allowedAddresses !== undefined && { allowedAddresses: record.allowedAddresses }),
        sandbox: SandboxKey,
      });
      if (record.named) state.endpoints.put({ ...record, named: false });
      state.joined.add(EndpointID);
    }
    return {
      InterfaceName: { SrcName: host.endpoints.transit(record.endpoint), DstPrefix: 'eth' },
      ...routing(subnets, record, host.endpoints.resolver(record.endpoint)),
    };
  }

  #known(id: string): DockerEndpoint {
    const record = this.options.state.endpoints.get(id);
    if (record !== undefined) return record;
    throw notFound(`weft does not know Docker's endpoint ${id.slice(0, 12)}`, 'Start the container again.');
  }

  info(id: string): object {
    const record = this.options.state.endpoints.get(id);
    if (record === undefined) return { Value: {} };
    const endpoint = this.options.host.endpoints.get(record.endpoint);
    return {
      Value: {
        'weft.endpoint': record.endpoint,
        'weft.node': this.options.host.node,
        ...(endpoint && { 'weft.network': endpoint.network, 'weft.hostIfname': endpoint.hostIfname }),
      },
    };
  }

  /** This endpoint has the container's default route; its ports are published. */
  async open({ EndpointID, Options }: External): Promise<object> {
    const ports = parsePortMap(Options[LABEL.portmap]);
    return this.#locks.run(EndpointID, async () => {
      const record = this.#known(EndpointID);
      await this.options.host.endpoints.publish(record.endpoint, ports, { defaultRoute: true });
      this.#wayOut.set(record.endpoint, true);
      return {};
    });
  }

  async close({ EndpointID }: { EndpointID: string }): Promise<object> {
    return this.#locks.run(EndpointID, async () => {
      const record = this.options.state.endpoints.get(EndpointID);
      if (record !== undefined) await this.options.host.endpoints.unpublish(record.endpoint);
      if (record !== undefined) this.#wayOut.set(record.endpoint, false);
      return {};
    });
  }

  /** Docker goes on whatever the answer is: nothing may be left behind. */
  async leave(id: string): Promise<object> {
    return this.#locks.run(id, async () => {
      const { host, state } = this.options;
      const record = state.endpoints.get(id);
      if (record === undefined) return {};
      state.joined.delete(id);
      this.#wayOut.drop(record.endpoint);
      await host.endpoints.disconnect(record.endpoint);
      return {};
    });
  }

  async delete(id: string): Promise<object> {
    return this.#locks.run(id, async () => {
      const { host, state } = this.options;
      const record = state.endpoints.get(id);
      if (record === undefined) return {};
      state.forget(id);
      await host.endpoints.disconnect(record.endpoint);
      return {};
    });
  }

  /** Removes an endpoint that Docker does not have any more, without a request. */
  async forget(record: DockerEndpoint): Promise<void> {
    await this.#locks.run(record.id, async () => {
      const { host, state } = this.options;
      if (state.endpoints.get(record.id) === undefined) return;
      const network = state.networks.get(record.network)?.network;
      host.log.info('removed an endpoint that Docker does not have', {
        endpoint: record.id.slice(0, 12),
        network,
      });
      state.forget(record.id);
      try {
        await host.endpoints.disconnect(record.endpoint);
      } catch (error) {
        host.log.warn('could not remove an endpoint that Docker does not have', {
          endpoint: record.id,
          error: messageOf(error),
        });
      }
      if (network === undefined) return;
      for (const text of [record.ip, record.ip6]) {
        if (text !== undefined) host.addresses.release(network, parseInterface(text).address.toString());
      }
    });
  }
}

/** Docker rejects an answer that repeats a value of its request. */
const answerOf = ({ mac }: DockerEndpoint, given: string): object => ({
  Interface: given === '' ? { MacAddress: mac } : {},
});

/** Gateway and routes. An internal network has no default route, and Docker must not add one of its own. */
function routing(
  { network, subnet, subnet6, gateway, gateway6 }: NodeSubnets,
  record: DockerEndpoint,
  resolver: string | undefined,
): object {
  const routes: StaticRoute[] = [];
  if (resolver !== undefined) routes.push({ Destination: `${resolver}/32`, RouteType: ROUTE.connected });
  const side = (whole: string, own: string, via: string, bits: number, ip: string): void => {
    // An address of another host's subnet has a full prefix length: the gateway needs a route on the link.
    if (ip.endsWith(`/${bits}`)) routes.push({ Destination: `${via}/${bits}`, RouteType: ROUTE.connected });
    if (whole !== own) routes.push({ Destination: whole, RouteType: ROUTE.via, NextHop: via });
  };
  side(network.subnet.toString(), subnet.toString(), gateway.toString(), 32, record.ip);
  const six = record.ip6 !== undefined && subnet6 !== undefined && gateway6 !== undefined;
  if (six && network.subnet6 !== undefined) {
    side(network.subnet6.toString(), subnet6.toString(), gateway6.toString(), 128, record.ip6 ?? '');
  }
  return {
    ...(network.internal
      ? { DisableGatewayService: true }
      : { Gateway: gateway.toString(), ...(six && { GatewayIPv6: gateway6.toString() }) }),
    StaticRoutes: routes,
  };
}
