// StatusService of a controller: its own state and the cluster's.
import { subnetIn } from '../core/families.js';
import { describeNetwork } from '../core/drivers/index.js';
import type { Problem } from '../core/problem.js';
import { unary } from '../daemon/grpc.js';
import { problemMessage } from '../daemon/problem-message.js';
import type { StatusServiceServer } from '../proto/gen/weft/v1/agent.js';
import type { Peer, Status, StatusNetwork } from '../proto/gen/weft/v1/types.js';
import type { Store } from '../store/store.js';
import type { Sources } from './messages.js';
import type { Problems } from './problems.js';
import type { Registry } from './registry.js';

export interface ControllerIdentity {
  name: string;
  version: string;
  /** HOST:PORT of its gRPC. */
  address: string;
  /** RFC 3339. */
  startedAt: string;
  /** URLs of etcd. */
  etcd: readonly string[];
  /** RFC 3339; undefined without a certificate. */
  certificateExpires?: string | undefined;
}

export function statusService(options: {
  identity: () => ControllerIdentity;
  sources: Sources;
  registry: Registry;
  problems: Problems;
  isLeader: () => boolean;
  warnings?: () => Problem[];
}): StatusServiceServer {
  const { identity, sources, registry, problems, isLeader, warnings = () => [] } = options;
  const { store } = sources;
  return {
    // It answers without etcd, too: that is when people ask.
    getStatus: unary((): Status => {
      const self = identity();
      const { state } = store;
      const nodes = registry.count();
      const found = problems.all();
      return {
        health: !store.isSynced ? 'down' : found.length > 0 || !state.connected ? 'degraded' : 'ok',
        node: {
          name: self.name,
          version: self.version,
          startedAt: self.startedAt,
          publicIp: '',
          publicIp6: undefined,
          firewall: '',
          stepsApplied: 0,
          stepsFailed: 0,
          driftRepaired: 0,
          capabilities: [],
          certificateExpires: self.certificateExpires,
        },
        store: {
          state: state.connected ? 'connected' : 'disconnected',
          endpoints: [...self.etcd],
          since: state.since.toISOString(),
          revision: state.revision,
          pending: 0,
          error: state.connected ? '' : (state.error ?? ''),
        },
        controller: {
          state: 'connected',
          address: self.address,
          error: '',
          leader: isLeader(),
          nodesUp: nodes.up,
          nodesDown: nodes.down,
        },
        networks: networksOf(store),
        peers: peersOf(store, registry),
        problems: found.map(problemMessage),
        warnings: warnings().map(problemMessage),
        plugins: [],
        policies: undefined,
      };
    }),
  };
}

function networksOf({ view }: Store): StatusNetwork[] {
  return [...view.networks.values()]
    .toSorted((a, b) => (a.name < b.name ? -1 : 1))
    .map((network) => ({
      name: network.name,
      vni: describeNetwork(network).vni,
      subnet: subnetIn(network, 4)?.toString() ?? '',
      subnet6: subnetIn(network, 6)?.toString(),
      // A controller has no subnet, and so neither a gateway nor a lease of its own.
      gateway: '',
      mtu: network.mtu ?? 0,
      expires: undefined,
      endpoints: view.endpoints.get(network.name)?.size ?? 0,
      peers: view.leases.get(network.name)?.size ?? 0,
    }));
}

function peersOf({ view }: Store, registry: Registry): Peer[] {
  return registry.names().map((node) => ({
    node,
    publicIp: view.nodes.get(node)?.publicIp ?? '',
    state: registry.isUp(node) ? 'up' : 'down',
    rttMs: undefined,
    handshakeAgeS: undefined,
    paths: [],
  }));
}
