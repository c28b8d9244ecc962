// A cluster of 1,000 nodes and 50,000 endpoints, as data: nobody has such a machine.
import { fileURLToPath } from 'node:url';

import { EventType } from '../../proto/gen/weft/v1/controller.js';
import { Endpoint, Network, Node, Status } from '../../proto/gen/weft/v1/types.js';
import { sample } from './sample.js';
import { StandIn, type State } from './stand-in.js';

const NODES = 1000;
/** Endpoints of each node that stay, and in all those that come and go. */
const OF_NODE = 45;
const YOUNG = 5000;
/** So many come and so many go each second. */
const CHURN = 100;
const NETWORKS = 10;

const nodeName = (index: number): string => `node-${String(index).padStart(4, '0')}`;

function endpointOf(node: number, index: number): Endpoint {
  const [high, low] = [Math.floor(node / 250), node % 250];
  return Endpoint.fromPartial({
    ...{
      id: `${node.toString(16).padStart(4, '0')}${index.toString(16).padStart(4, '0')}`,
      name: `c${index}-${node}`,
    },
    ...{ network: `net-${node % NETWORKS}`, node: nodeName(node), target: `docker:c${index}-${node}` },
    ...{
      ifname: 'eth0',
      hostIfname: `wfe${index}`,
      mtu: 1450,
      ip: `10.${100 + high}.${low}.${index + 2}/24`,
    },
    mac: `02:42:${[high, low, index].map((part) => part.toString(16).padStart(2, '0')).join(':')}:00`,
    labels: { role: `role-${index % 7}`, tier: 'front' },
  });
}

/** The count-th one that comes; as many as there are at once have other ids. */
const young = (count: number): Endpoint =>
  endpointOf((count * 37) % NODES, OF_NODE + (Math.floor(count / NODES) % 10));

/** Every hundredth node has a broken path, and one of them is down. */
export function crowd(): State {
  const nodes = Array.from({ length: NODES }, (_, index) =>
    Node.fromPartial({
      ...{ name: nodeName(index), publicIp: `192.0.2.${index % 250}`, state: index === 7 ? 'down' : 'up' },
      ...{
        version: '0.2.0',
        networks: ['all', `net-${index % NETWORKS}`],
        endpoints: OF_NODE + YOUNG / NODES,
      },
      problems:
        index % 100 === 0
          ? [
              {
                what: `the path to node ${nodeName(index + 1)} in network all, IPv4`,
                ...{ why: 'packets are lost', fix: 'Let UDP port 8472 through.' },
                broken: [{ node: nodeName(index + 1), network: 'all', family: 4 }],
              },
            ]
          : [],
    }),
  );
  const networks = ['all', ...Array.from({ length: NETWORKS }, (_, index) => `net-${index}`)].map((name) =>
    Network.fromPartial({
      ...{
        name,
        driver: 'overlay',
        backend: 'vxlan',
        subnet: name === 'all' ? '10.0.0.0/8' : '10.100.0.0/14',
      },
      leases: nodes.flatMap((node, index) =>
        node.networks.includes(name)
          ? [
              {
                node: node.name,
                publicIp: node.publicIp,
                subnet: `10.${100 + Math.floor(index / 250)}.${index % 250}.0/24`,
              },
            ]
          : [],
      ),
    }),
  );
  const endpoints = nodes.flatMap((_, node) =>
    Array.from({ length: OF_NODE }, (_, index) => endpointOf(node, index)),
  );
  endpoints.push(...Array.from({ length: YOUNG }, (_, count) => young(count)));
  const status = Status.fromPartial({
    ...sample().status,
    controller: { state: 'connected', nodesUp: NODES - 1, nodesDown: 1 },
    networks: networks.map(({ name, subnet }) => ({ name, subnet })),
  });
  return { ...sample(), status, nodes, networks, endpoints };
}

/** A controller of it, some of whose endpoints come and go: node build/test/browser/crowd.js. Prints its address. */
async function serve(): Promise<void> {
  const controller = await StandIn.start(crowd());
  process.stdout.write(`${controller.address}\n`);
  let count = YOUNG;
  setInterval(() => {
    for (let i = 0; i < CHURN / 10; i++, count++) {
      controller.tell('endpoint', young(count));
      controller.tell('endpoint', young(count - YOUNG), EventType.DELETE);
    }
  }, 100);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await serve();
