// The fakes' answers, and the JSON that the contract documents for them.
import { formatToken, newToken } from '../../core/identity.js';
import { Check, LinkTraffic, type NodeAnswer, PingPath } from '../../proto/gen/weft/v1/inspection.js';
import { IpamFinding } from '../../proto/gen/weft/v1/ipam.js';
import type { Policy } from '../../proto/gen/weft/v1/controller.js';
import type { Token } from '../../proto/gen/weft/v1/identity.js';
import type { Endpoint, Network, Node, Problem, Status } from '../../proto/gen/weft/v1/types.js';

export const token: Token = {
  id: '0123456789ab',
  token: formatToken(newToken('a'.repeat(50))),
  role: 'node',
  node: undefined,
  uses: undefined,
  expires: '2026-12-01T00:00:00.000Z',
  controller: '192.0.2.10:7400',
};

export const network: Network = {
  name: 'blue',
  driver: 'overlay',
  backend: 'vxlan',
  subnet: '10.100.0.0/16',
  subnet6: undefined,
  hostPrefix: 24,
  hostPrefix6: undefined,
  vni: 4097,
  port: 8472,
  mtu: undefined,
  internal: false,
  masquerade: true,
  portSecurity: true,
  isolated: false,
  directAccess: false,
  vlan: undefined,
  parent: undefined,
  gateway: undefined,
  routes: [],
  leases: [
    {
      node: undefined,
      subnet: '10.100.5.0/24',
      subnet6: undefined,
      publicIp: '192.0.2.10',
      vtepMac: '02:00:00:00:00:2a',
      expires: undefined,
    },
  ],
  endpoints: 1,
};

export const networkJson = {
  name: 'blue',
  driver: 'overlay',
  backend: 'vxlan',
  subnet: '10.100.0.0/16',
  subnet6: null,
  hostPrefix: 24,
  vni: 4097,
  port: 8472,
  mtu: null,
  internal: false,
  masquerade: true,
  vlan: null,
  parent: null,
  gateway: null,
  leases: [
    {
      node: null,
      subnet: '10.100.5.0/24',
      subnet6: null,
      publicIp: '192.0.2.10',
      vtepMac: '02:00:00:00:00:2a',
      expires: null,
    },
  ],
  endpoints: 1,
};

export const endpoint: Endpoint = {
  id: '0123456789abcdef',
  name: 'web',
  network: 'blue',
  node: 'a',
  target: 'netns:/run/netns/web',
  ifname: 'eth0',
  hostIfname: 'wfep0123456789a',
  mac: '02:77:0a:64:05:02',
  ip: '10.100.5.2/24',
  ip6: undefined,
  gateway: '10.100.5.1',
  mtu: 1450,
  vlan: undefined,
  aliases: ['www'],
  publish: [],
  manager: 'weft',
  labels: {},
  warnings: [],
  allowedAddresses: [],
  drops: [],
};

const { warnings: _warnings, ...shown } = endpoint;
export const endpointJson = { ...shown, ip6: null, vlan: null };

export const node: Node = {
  name: 'a',
  publicIp: '192.0.2.10',
  state: 'up',
  lastSeen: '2026-01-02T03:04:05Z',
  version: '0.1.0',
  networks: ['blue'],
  endpoints: 1,
  since: undefined,
  publicIp6: undefined,
  problems: [],
};

export const nodeJson = {
  name: 'a',
  publicIp: '192.0.2.10',
  state: 'up',
  lastSeen: '2026-01-02T03:04:05Z',
  version: '0.1.0',
  networks: ['blue'],
  endpoints: 1,
};

const BLUE = { network: 'blue', family: 4, state: 'ok', mtu: 1450, rttMs: 0.42 };

export const problem = (what: string, why: string, fix: string, consequences: string[] = []): Problem => ({
  ...{ what, why, fix, consequences },
  ...{ broken: [], isCause: false },
});

export const status: Status = {
  health: 'ok',
  node: {
    name: 'a',
    publicIp: '192.0.2.10',
    publicIp6: undefined,
    version: '0.1.0',
    startedAt: '2026-01-02T03:04:05Z',
    firewall: 'nftables',
    stepsApplied: 12,
    stepsFailed: 0,
    driftRepaired: 0,
    capabilities: [],
  },
  store: {
    state: 'connected',
    endpoints: ['http://192.0.2.1:2379'],
    since: '2026-01-02T03:04:05Z',
    revision: 7,
    pending: 0,
    error: '',
  },
  controller: {
    state: 'connected',
    address: '192.0.2.1:7400',
    error: '',
    leader: false,
    nodesUp: 0,
    nodesDown: 0,
  },
  networks: [
    {
      name: 'blue',
      subnet: '10.100.5.0/24',
      subnet6: undefined,
      gateway: '10.100.5.1',
      mtu: 1450,
      endpoints: 1,
      peers: 2,
      expires: undefined,
      vni: 4097,
    },
  ],
  peers: [
    {
      node: 'b',
      publicIp: '192.0.2.11',
      state: 'up',
      rttMs: 0.42,
      paths: [BLUE, { ...BLUE, family: 6, state: 'mtu', mtu: 1350, rttMs: undefined }],
    },
    {
      node: 'c',
      publicIp: '192.0.2.12',
      state: 'down',
      rttMs: undefined,
      paths: [{ ...BLUE, state: 'node-down', mtu: undefined }],
    },
  ],
  problems: [],
  warnings: [problem('etcd at http://192.0.2.1:2379', 'is plain text', 'Give it TLS.')],
  plugins: [{ manager: 'cni', socket: '/run/weft/cni.sock' }],
};

const ok: Check = Check.fromPartial({
  group: 'etcd',
  name: 'connection',
  ok: true,
  what: 'etcd at http://e:1',
});
const failed: Check = {
  ...ok,
  group: 'ports',
  name: 'udp 8472',
  ok: false,
  what: 'UDP port 8472',
  why: 'taken',
  fix: 'Free it.',
};

/** What a node answers, by the kind of the question. */
export const answers: Record<string, NonNullable<NodeAnswer['answer']>[]> = {
  check: [
    { $case: 'check', value: ok },
    {
      $case: 'check',
      value: {
        ...ok,
        group: 'clock',
        name: 'controller',
        ok: undefined,
        what: 'the clock',
        why: 'no controller',
      },
    },
    { $case: 'check', value: failed },
  ],
  ping: [
    {
      $case: 'path',
      value: PingPath.fromPartial({
        ...{
          network: 'blue',
          family: 4,
          state: 'ok',
          mtu: 1450,
          p50: 0.42,
          p99: 0.9,
          sent: 10,
          lost: 1,
          ip: '10.100.6.0',
        },
      }),
    },
  ],
  diff: [
    { $case: 'step', value: { target: 'node', verb: 'create', what: 'link wfvx0000' } },
    { $case: 'note', value: 'a namespace cannot be looked into' },
  ],
  traffic: [
    {
      $case: 'traffic',
      value: LinkTraffic.fromPartial({ kind: 'network', network: 'blue', sentBytes: 1000 }),
    },
    {
      $case: 'traffic',
      value: LinkTraffic.fromPartial({ kind: 'endpoint', network: 'blue', id: 'aa', name: 'web' }),
    },
  ],
};

export const policy: Policy = {
  ...{ name: 'p', from: ['role=web'], to: ['role=db'], ports: ['tcp/5432'] },
  ...{ createdAt: '2026-01-01T00:00:00.000Z', pending: [] },
};

export const ipamFinding: IpamFinding = IpamFinding.fromPartial({
  ...{
    id: 'endpoint-of-no-node/blue/aa',
    kind: 'endpoint-of-no-node',
    network: 'blue',
    address: '10.100.7.2/24',
  },
  ...{ node: 'gone', why: 'node gone is not in the cluster', safe: false, since: '2026-01-01T00:00:00.000Z' },
  safeFrom: '2026-01-01T00:02:00.000Z',
});
