// Silent peers: a problem, unless this node's own tunnel is missing, which is one already.
import test from 'ava';

import { agentMetrics } from '../../../agent/health/metrics.js';
import { Problems } from '../../../agent/health/problems.js';
import { Peers } from '../../../agent/underlay/peers.js';
import type { Membership } from '../../../core/compile.js';
import { leaseOf, membershipOf, overlay } from '../../core/records.js';
import { until } from '../../lab/wait.js';

const networks = ['blue', 'red'].map((name, i) =>
  overlay({ name, vni: 4097 + i, subnet: `10.10${i}.0.0/16` }),
);
const memberships: Membership[] = networks.map((network) => membershipOf(network));
/** Node n2 is in the first network, and n3 in the second. */
const leases = networks.map((network, i) => ({ ...leaseOf(network, i + 2), etcdLease: '1' }));

test('a silent peer is a problem, and not where this node has no tunnel of its own', async (t) => {
  const problems = new Problems();
  let asked = 0;
  const store = {
    state: { revision: 1 },
    view: {
      leases: new Map(leases.map((lease) => [lease.network, new Map([[lease.subnet.toString(), lease]])])),
      alive: new Map([
        ['n2', 'i2'],
        ['n3', 'i3'],
      ]),
    },
  };
  const peers = new Peers({
    store: store as never,
    kernel: {
      ping: (ips: readonly string[]) => {
        asked++;
        return Promise.resolve(ips.map(() => undefined));
      },
    } as never,
    memberships: {
      list: () => memberships,
      get: (name: string) => memberships.find(({ network }) => network.name === name),
    } as never,
    reconciler: { lacks: (links) => links.includes('wfvx4097') },
    overlaps: { over: () => undefined },
    ...{ problems, metrics: agentMetrics(), node: 'n1' },
  });
  peers.start();
  t.teardown(() => peers.stop());
  await until('each was asked four times', () => asked > 3, { everyMs: 20 });
  t.deepEqual(
    problems.list().map(({ what }) => what),
    ['the path to node n3 (192.0.2.3)'],
  );
  // The peers are found again with the next revision of etcd.
  store.view.leases.delete('red');
  store.state.revision++;
  t.deepEqual(
    peers.list().map(({ node }) => node),
    ['n2'],
  );
});
