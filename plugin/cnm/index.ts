// Docker plugin: weft as a network driver and an IPAM driver.
//
// This file assembles the parts and maps methods to them; the requests are in protocol.ts.
import { join } from 'node:path';

import { messageOf, nextOf } from '../../core/errors.js';
import { DOCKER } from '../../daemon/common-settings.js';
import { orNone, path } from '../../daemon/kinds.js';
import type { MountedPlugin, Plugin, PluginHost } from '../../daemon/plugin-host.js';
import { setting, type Values } from '../../daemon/settings.js';
import { DockerEvents } from './docker-events.js';
import { DockerEndpoints } from './endpoint.js';
import { Ipam } from './ipam.js';
import { PLUGIN, PluginState } from './plugin-state.js';
import { Networks } from './network.js';
import * as ask from './protocol.js';
import { method, servePlugin, type Method } from './server.js';
import { Upkeep } from './upkeep.js';

const settings = {
  'cnm-socket': setting(orNone(path('PATH')), {
    default: '/run/docker/plugins/weft.sock',
    help: 'socket of the network driver for Docker’s engine; none turns it off',
    group: 'Node',
  }),
  docker: DOCKER,
};

export const cnm = { manager: 'docker', settings, mount } satisfies Plugin<typeof settings>;

async function mount(
  host: PluginHost,
  { cnmSocket: socket, docker: engine }: Values<typeof settings>,
): Promise<MountedPlugin> {
  if (socket === undefined) return { stop: () => Promise.resolve() };
  const state = new PluginState(join(host.stateDir, 'docker'));
  for (const { path, why } of state.load()) {
    host.problem(
      { plugin: PLUGIN, kind: 'state-file', id: path },
      {
        what: `the state file ${path}`,
        why: `it cannot be read: ${why}`,
        fix: 'Create its Docker network again, and delete the file.',
      },
    );
  }
  const events: DockerEvents = new DockerEvents({
    host,
    engine,
    isUsed: () => state.networks.list().length > 0,
    onContainer: (id) => void upkeep.learn(id),
    onStarted: (id) => void upkeep.learnMissed(id),
    onChange: () => upkeep.lookSoon(),
  });
  const networks = new Networks({
    host,
    state,
    nameOf: (id) => events.nameOf(id),
    hasNames: () => events.connected,
  });
  const ipam = new Ipam({ host, state, networks });
  const endpoints = new DockerEndpoints({ host, state, networks });
  const upkeep = new Upkeep({ host, state, networks, endpoints, events });
  const server = await serve(host, socket, methodsOf(ipam, networks, endpoints));
  networks.resume();
  upkeep.start();
  upkeep.lookSoon();
  const following = events.follow();
  return {
    socket: server === undefined ? undefined : socket,
    stop: async () => {
      await server?.stop();
      await endpoints.stop();
      await upkeep.stop();
      await following;
    },
  };
}

/** A failure is a problem and does not stop the agent: the node may have no Docker. */
async function serve(
  host: PluginHost,
  socket: string,
  methods: ReadonlyMap<string, Method>,
): Promise<MountedPlugin | undefined> {
  try {
    const server = await servePlugin(socket, methods, host.log);
    host.log.info('the Docker plugin serves', { socket });
    return server;
  } catch (error) {
    host.log.warn('the Docker plugin cannot serve', { socket, error: messageOf(error) });
    host.problem(
      { plugin: PLUGIN, kind: 'plugin-socket' },
      {
        what: 'the Docker plugin',
        why: messageOf(error),
        fix: nextOf(error) ?? 'Check --cnm-socket; none turns it off.',
      },
    );
    return undefined;
  }
}

function methodsOf(ipam: Ipam, networks: Networks, endpoints: DockerEndpoints): Map<string, Method> {
  const table: [string, (name: string) => Method][] = [
    [
      'Plugin.Activate',
      (name) => method(name, ask.nothing, () => ({ Implements: ['NetworkDriver', 'IpamDriver'] })),
    ],
    [
      'NetworkDriver.GetCapabilities',
      (name) =>
        method(name, ask.nothing, () => ({
          Scope: 'local',
          ConnectivityScope: 'global',
          GwAllocChecker: true,
        })),
    ],
    // Every host has a gateway in every network, internal ones included.
    [
      'NetworkDriver.GwAllocCheck',
      (name) => method(name, ask.gwAllocCheck, () => ({ SkipIPv4: false, SkipIPv6: false })),
    ],
    // For managers of swarm, which do not call a plugin on a plain socket.
    ['NetworkDriver.AllocateNetwork', (name) => method(name, ask.nothing, () => ({ Options: {} }))],
    ['NetworkDriver.FreeNetwork', (name) => method(name, ask.nothing, () => ({}))],
    ['NetworkDriver.DiscoverNew', (name) => method(name, ask.nothing, () => ({}))],
    ['NetworkDriver.DiscoverDelete', (name) => method(name, ask.nothing, () => ({}))],
    [
      'NetworkDriver.CreateNetwork',
      (name) => method(name, ask.createNetwork, (request) => networks.create(request)),
    ],
    [
      'NetworkDriver.DeleteNetwork',
      (name) => method(name, ask.networkOnly, ({ NetworkID }) => networks.delete(NetworkID)),
    ],
    [
      'NetworkDriver.CreateEndpoint',
      (name) => method(name, ask.createEndpoint, (request) => endpoints.create(request)),
    ],
    [
      'NetworkDriver.EndpointOperInfo',
      (name) => method(name, ask.endpointOnly, ({ EndpointID }) => endpoints.info(EndpointID)),
    ],
    [
      'NetworkDriver.DeleteEndpoint',
      (name) => method(name, ask.endpointOnly, ({ EndpointID }) => endpoints.delete(EndpointID)),
    ],
    ['NetworkDriver.Join', (name) => method(name, ask.join, (request) => endpoints.join(request))],
    [
      'NetworkDriver.Leave',
      (name) => method(name, ask.endpointOnly, ({ EndpointID }) => endpoints.leave(EndpointID)),
    ],
    [
      'NetworkDriver.ProgramExternalConnectivity',
      (name) => method(name, ask.external, (request) => endpoints.open(request)),
    ],
    [
      'NetworkDriver.RevokeExternalConnectivity',
      (name) => method(name, ask.endpointOnly, (request) => endpoints.close(request)),
    ],
    [
      'IpamDriver.GetCapabilities',
      (name) =>
        method(name, ask.nothing, () => ({ RequiresMACAddress: false, RequiresRequestReplay: false })),
    ],
    [
      'IpamDriver.GetDefaultAddressSpaces',
      (name) =>
        method(name, ask.nothing, () => ({
          LocalDefaultAddressSpace: ask.ADDRESS_SPACE,
          GlobalDefaultAddressSpace: ask.ADDRESS_SPACE,
        })),
    ],
    [
      'IpamDriver.RequestPool',
      (name) => method(name, ask.requestPool, (request) => ipam.requestPool(request)),
    ],
    [
      'IpamDriver.ReleasePool',
      (name) => method(name, ask.poolOnly, ({ PoolID }) => ipam.releasePool(PoolID)),
    ],
    [
      'IpamDriver.RequestAddress',
      (name) => method(name, ask.requestAddress, (request) => ipam.requestAddress(request)),
    ],
    [
      'IpamDriver.ReleaseAddress',
      (name) => method(name, ask.releaseAddress, (request) => ipam.releaseAddress(request)),
    ],
  ];
  return new Map(table.map(([name, make]) => [name, make(name)]));
}
