// A small cluster with some of everything, for pictures and for tests of what is drawn.
import { Policy } from '../../proto/gen/weft/v1/controller.js';
import { Event } from '../../proto/gen/weft/v1/events.js';
import { IpamFinding } from '../../proto/gen/weft/v1/ipam.js';
import { TraceResult } from '../../proto/gen/weft/v1/trace.js';
import { Endpoint, Network, Node, Status, type Problem } from '../../proto/gen/weft/v1/types.js';
import type { State } from './stand-in.js';

const NODES = [
  'edge-1',
  'edge-2',
  'db-1',
  'db-2',
  'web-1',
  'web-2',
  'web-3',
  'batch-1',
  'batch-2',
  'cache-1',
];
const DOWN = 'batch-2';
const NETWORKS = [
  { name: 'blue', subnet: '10.100.0.0/16', subnet6: 'fd42:100::/48', prefix: 24 },
  { name: 'red', subnet: '10.101.0.0/16', subnet6: '', prefix: 24 },
  { name: 'tiny', subnet: '10.100.64.0/22', subnet6: '', prefix: 25 },
];
const SERVICES = ['api', 'web', 'db', 'queue', 'cache', 'mail'];
const NOW = Date.now();

const PROBLEMS: Problem[] = [
  {
    what: 'node db-2: its firewall drops VXLAN',
    why: 'rule 3 of chain INPUT in table filter drops UDP port 8472, before weft can accept it',
    fix: 'Remove the rule on db-2 (`iptables -D INPUT 3`), then run weft check db-2.',
    consequences: [
      'between node edge-1 and node db-2, in network blue, IPv4: packets from node edge-1 to node db-2 are lost',
      'between node web-1 and node db-2, in network blue, IPv4: packets from node web-1 to node db-2 are lost',
    ],
    broken: [],
    isCause: true,
  },
  {
    what: 'node batch-2 is down',
    why: 'it was last seen 4 minutes ago, and its lease of 3 s has run out',
    fix: 'Start the agent on it; if it is gone for good, weft node rm batch-2.',
    consequences: [],
    broken: [],
    isCause: false,
  },
];

const WARNINGS: Problem[] = [
  {
    what: 'etcd at http://192.0.2.2:2379 speaks plain text',
    why: 'who sees the underlay sees the keys of the cluster',
    fix: 'Give it certificates, and the daemons --etcd-ca.',
    consequences: [],
    broken: [],
    isCause: false,
  },
];

const event = (ago: number, node: string, reason: string, object: string, message: string, type = 'normal') =>
  Event.fromPartial({
    ...{
      time: new Date(NOW - ago * 1000).toISOString(),
      type,
      node,
      reason,
      object,
      message,
      sequence: 1000 - ago,
    },
  });

function endpoints(): Endpoint[] {
  return NETWORKS.flatMap(({ name: network, subnet, prefix }, index) =>
    NODES.flatMap((node, place) => {
      const base = subnet.split('.').slice(0, 2).join('.');
      const many = node === DOWN ? 0 : network === 'tiny' ? (place === 2 ? 105 : 0) : 3 + ((place * 7) % 5);
      return Array.from({ length: many }, (_, i) => {
        const service = SERVICES[(place + i) % SERVICES.length] ?? '';
        const third = network === 'tiny' ? 66 : place * 23;
        return Endpoint.fromPartial({
          ...{
            id: `${index}${place}${i}`.padStart(8, 'e0a1c2'),
            name: `${service}-${place}${i}`,
            network,
            node,
          },
          ...{
            target: `docker:${service}-${place}${i}`,
            ifname: 'eth0',
            hostIfname: `wfe${place}${i}`,
            mtu: 1450,
          },
          ...{ mac: `02:42:0a:64:${place.toString(16).padStart(2, '0')}:${i.toString(16).padStart(2, '0')}` },
          ...{
            ip: `${base}.${third}.${i + 2}/${prefix}`,
            labels: { role: service, tier: place % 2 ? 'back' : 'front' },
          },
          ...(network === 'blue' && { ip6: `fd42:100:0:${(place * 6007).toString(16)}::${i + 2}/64` }),
          ...(service === 'web' && {
            publish: [{ hostPort: 8080, port: 80, protocol: 'tcp', everywhere: true }],
          }),
          ...{ aliases: [service], manager: 'docker' },
        });
      });
    }),
  );
}

function nodes(): Node[] {
  return NODES.map((name, place) =>
    Node.fromPartial({
      ...{ name, publicIp: `192.0.2.${place + 11}`, state: name === DOWN ? 'down' : 'up', version: '0.2.0' },
      ...{
        networks: place < 8 ? ['blue', 'red', ...(place < 3 ? ['tiny'] : [])] : ['blue'],
        endpoints: 3 + place,
      },
      problems: ['edge-1', 'web-1'].includes(name)
        ? [
            {
              what: `the path to node db-2 (192.0.2.14) in network blue, IPv4`,
              why: `packets from node ${name} to node db-2 are lost`,
              fix: 'Let UDP port 8472 through on db-2, then run weft check db-2.',
              broken: [{ node: 'db-2', network: 'blue', family: 4, hears: true }],
            },
          ]
        : [],
      ...(name === DOWN && { why: 'its lease has run out', lastSeen: new Date(NOW - 240_000).toISOString() }),
    }),
  );
}

function networks(): Network[] {
  return NETWORKS.map(({ name, subnet, subnet6, prefix }) => {
    const base = subnet.split('.').slice(0, 2).join('.');
    return Network.fromPartial({
      ...{
        name,
        driver: 'overlay',
        backend: 'vxlan',
        subnet,
        hostPrefix: prefix,
        mtu: 1450,
        portSecurity: true,
      },
      ...(subnet6 !== '' && { subnet6 }),
      leases: NODES.slice(0, name === 'tiny' ? 3 : 10).map((node, place) => ({
        ...{ node, publicIp: `192.0.2.${place + 11}` },
        subnet: name === 'tiny' ? `10.100.${64 + place}.0/25` : `${base}.${place * 23}.0/24`,
        ...(subnet6 !== '' && { subnet6: `fd42:100:0:${(place * 6007).toString(16)}::/64` }),
      })),
      endpoints: endpoints().filter((one) => one.network === name).length,
    });
  });
}

/** A new one each time: a test may change it. */
export function sample(): State {
  const all = networks();
  let asked = 0;
  return {
    status: Status.fromPartial({
      health: 'degraded',
      store: { state: 'connected', endpoints: ['http://192.0.2.2:2379'], revision: 912 },
      controller: { state: 'connected', address: '192.0.2.2:7400', leader: true, nodesUp: 9, nodesDown: 1 },
      networks: all.map(({ name, subnet }) => ({ name, subnet })),
      problems: PROBLEMS.toReversed(),
      warnings: WARNINGS,
    }),
    ...{ nodes: nodes(), networks: all, endpoints: endpoints() },
    events: [
      event(900, 'web-2', 'attached', 'endpoint/web-51.blue', 'web-51 has 10.100.15.3'),
      event(420, 'web-3', 'published', 'endpoint/web-61.blue', 'port 8080 leads to web-61'),
      event(240, 'batch-2', 'node-down', 'node/batch-2', 'its lease has run out', 'warning'),
      event(
        95,
        'edge-1',
        'path-broken',
        'path/db-2',
        'packets to node db-2 in network blue are lost',
        'warning',
      ),
      event(
        93,
        'web-1',
        'path-broken',
        'path/db-2',
        'packets to node db-2 in network blue are lost',
        'warning',
      ),
      event(12, 'db-1', 'attached', 'endpoint/db-20.blue', 'db-20 has 10.100.6.2'),
    ],
    policies: [
      Policy.fromPartial({
        name: 'db-from-api',
        from: ['role=api'],
        to: ['role=db,network=blue'],
        ports: ['tcp/5432'],
      }),
    ],
    findings: [
      IpamFinding.fromPartial({
        ...{ id: '7f3a', kind: 'orphan', network: 'red', address: '10.101.9.9', node: 'web-2', safe: true },
        why: 'endpoint queue-99 is in etcd, and its container is gone',
      }),
    ],
    trace: TraceResult.fromPartial({
      ...{
        verdict: 'stopped',
        node: 'db-2',
        reason: 'firewall',
        source: '10.100.12.2',
        destination: '10.100.9.2',
      },
      why: 'rule 3 of chain INPUT in table filter on node db-2 drops the packet',
      fix: 'Remove the rule on db-2 (`iptables -D INPUT 3`), then run weft check db-2.',
      hops: [
        { node: 'web-1', point: 'eth0 of api-40', seen: true, detail: '10.100.12.2 to 10.100.9.2, ICMP' },
        { node: 'web-1', point: 'bridge wfbblue', seen: true, detail: 'route 10.100.9.0/24' },
        { node: 'web-1', point: 'tunnel wfxblue', seen: true, detail: 'to 192.0.2.14, VNI 4097' },
        { point: 'underlay', detail: 'between 192.0.2.15 and 192.0.2.14' },
        { node: 'db-2', point: 'tunnel wfxblue', seen: false, detail: 'INPUT drops UDP 8472' },
        { node: 'db-2', point: 'eth0 of db-30', seen: false, detail: '' },
      ],
      back: [],
    }),
    traffic: (node) => {
      asked += 1;
      const share = NODES.indexOf(node) + 1;
      const wave = 1 + Math.sin(asked / 40) / 3;
      return [
        { network: 'blue', bytes: asked * share * 40_000 * wave, drops: Math.floor(asked / 30) },
        { network: 'red', bytes: asked * share * 9000 * wave, drops: 0 },
      ];
    },
  };
}
