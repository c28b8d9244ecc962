// Faults of etcd's history: restored from an older snapshot, or emptied.
//
// Also a subnet that a newcomer took in the gap, and a removal that the copy does not have.
import { cpSync, rmSync } from 'node:fs';
import { join } from 'node:path';

import { bare } from '../../lab/cluster.js';
import { isDeleted, keysBelow, nodeStates, routes, statusOf, tunnels } from './observe.js';
import { raise, suite, type Fault } from './suite.js';

const BLUE = '/weft/networks/blue/';
const ENDPOINTS = `${BLUE}endpoints/`;

const fault = suite({
  lane: 'history',
  build: () => raise(4, { containers: ['c3', 'c4', 'c5', 'c6'] }),
});

/** Copies etcd's data, as a snapshot does. */
async function snapshot(f: Fault): Promise<string> {
  const copy = join(f.cluster.folder, `copy-${Date.now()}`);
  await f.cluster.process('etcd').stop();
  cpSync(f.cluster.etcdData, copy, { recursive: true });
  await f.cluster.startEtcd();
  await f.cluster.until('the agents are back', async () => {
    const all = await Promise.all(['h1', 'h2'].map((host) => statusOf(f.cluster, host)));
    return all.every(({ store }) => store.state === 'connected' && store.pending === 0);
  });
  return copy;
}

/** Restarts etcd with the data of the copy, or with none. */
async function restore(f: Fault, copy?: string): Promise<void> {
  await f.cluster.process('etcd').kill();
  rmSync(f.cluster.etcdData, { recursive: true });
  if (copy !== undefined) cpSync(copy, f.cluster.etcdData, { recursive: true });
  await f.cluster.startEtcd();
}

interface Kept {
  key: string;
  create_revision: number;
}

/** By key: its create revision. */
async function revisions(f: Fault, prefix: string): Promise<Map<string, number>> {
  const { kvs = [] } = JSON.parse(await f.cluster.etcdctl('get', '--prefix', prefix, '-w', 'json')) as {
    kvs?: Kept[];
  };
  return new Map(kvs.map(({ key, create_revision: at }) => [Buffer.from(key, 'base64').toString(), at]));
}

/** A config must not exist without its writer's subnet: a newcomer would take that. */
async function writtenTogether(f: Fault, network: string): Promise<void> {
  const all = await revisions(f, `/weft/networks/${network}/`);
  const config = all.get(`/weft/networks/${network}/config`);
  f.check(
    config !== undefined && [...all].some(([key, at]) => key.includes('/subnets/') && at === config),
    'the config together with the writer’s own subnet',
  );
}

const reported = (f: Fault): Promise<unknown> =>
  f.within(2, 'status reports it', async () => {
    const { problems } = await statusOf(f.cluster, 'h1');
    return problems.some(({ what, why }) => what.startsWith('etcd') && /restored|emptied/.test(why));
  });

fault('restored from an older snapshot', async (f) => {
  const { cluster } = f;
  await cluster.json('h1', 'network', 'create', 'red', '--subnet', '10.102.0.0/16');
  const old = await cluster.attach('h1', 'blue', 'c3');
  await cluster.until('etcd has the endpoint', async () =>
    (await keysBelow(cluster, ENDPOINTS)).includes(ENDPOINTS + old.id),
  );
  await cluster.startAgents(['h4']);
  const fourth = await cluster.attach('h4', 'blue', 'c6');
  await cluster.until('etcd has the endpoint', async () =>
    (await keysBelow(cluster, ENDPOINTS)).includes(ENDPOINTS + fourth.id),
  );
  const copy = await snapshot(f);
  // After the copy: a network with a subnet and an endpoint, an endpoint more and one less, a network less, a new node, and
  // one less.
  await cluster.process('agent-h4').kill();
  await cluster.json('h1', 'node', 'rm', 'h4', '--force');
  await cluster.json('h1', 'network', 'create', 'green', '--subnet', '10.103.0.0/16', '--mtu', '1300');
  await cluster.json('h1', 'network', 'rm', 'red');
  const green = await cluster.attach('h2', 'green', 'c4');
  await cluster.json('h1', 'detach', 'blue', cluster.ns('c3'));
  await cluster.startAgents(['h3']);
  const third = await cluster.attach('h3', 'blue', 'c5');
  await cluster.until('etcd has the endpoint', async () =>
    (await keysBelow(cluster, '/weft/networks/')).some((key) => key.endsWith(third.id)),
  );
  const [before, config, leases] = await Promise.all([
    tunnels(cluster, 'h1'),
    cluster.etcdctl('get', '--print-value-only', '/weft/networks/green/config'),
    keysBelow(cluster, '/weft/networks/blue/subnets/'),
  ]);
  f.begins();
  await restore(f, copy);
  f.ends();
  await Promise.all([
    f.within(2, 'all is written back', async () => {
      const keys = await keysBelow(cluster, '/weft/networks/');
      return (
        keys.includes(`/weft/networks/green/endpoints/${green.id}`) &&
        keys.includes(ENDPOINTS + third.id) &&
        leases.every((key) => keys.includes(key)) &&
        !keys.includes(ENDPOINTS + old.id)
      );
    }),
    f.within(3, 'what was removed on purpose stays removed', async () => {
      const keys = await keysBelow(cluster, '/weft/');
      return (
        !keys.some((key) => key.startsWith('/weft/networks/red/')) &&
        keys.includes('/weft/removed/networks/red')
      );
    }),
    reported(f),
  ]);
  f.same(
    await cluster.etcdctl('get', '--print-value-only', '/weft/networks/green/config'),
    config,
    'the config, word for word',
  );
  await writtenTogether(f, 'green');
  // Its life lease, which the copy has, must expire first: 3 s after etcd is back.
  await f.within(6, 'a removed node, too', async () => {
    const keys = await keysBelow(cluster, '/weft/');
    return (
      !keys.some((key) => key.includes(fourth.id) || key.includes(fourth.gateway.replace(/1$/, '0-24'))) &&
      !keys.includes('/weft/nodes/h4') &&
      keys.includes('/weft/removed/nodes/h4')
    );
  });
  await f.lossless();
  f.same(await tunnels(cluster, 'h1'), before, 'the kernel as before');
  await cluster.until('the nodes are up', async () => {
    const states = await nodeStates(cluster);
    return Object.keys(states).length === 3 && Object.values(states).every((state) => state === 'up');
  });
  await cluster.json('h2', 'detach', 'green', cluster.ns('c4'));
  await cluster.json('h3', 'detach', 'blue', cluster.ns('c5'));
  await cluster.until('they are deleted', async () => {
    const now = (await keysBelow(cluster, '/weft/networks/')).join();
    return !now.includes(green.id) && !now.includes(third.id);
  });
  await cluster.json('h1', 'network', 'rm', 'green');
  await cluster.process('agent-h3').stop();
  await cluster.json('h1', 'node', 'rm', 'h3');
});

fault('emptied', async (f) => {
  const { cluster } = f;
  const [before, keys] = await Promise.all([tunnels(cluster, 'h1'), keysBelow(cluster, BLUE)]);
  f.begins();
  await restore(f);
  f.ends();
  await Promise.all([
    f.within(2, 'network, subnets and endpoints are written back', async () => {
      const now = await keysBelow(cluster, BLUE);
      return JSON.stringify(now) === JSON.stringify(keys);
    }),
    reported(f),
  ]);
  await writtenTogether(f, 'blue');
  await f.lossless();
  f.same(await tunnels(cluster, 'h1'), before, 'the kernel as before');
});

fault('emptied, and a node that is dead for good is removed', async (f) => {
  const { cluster } = f;
  await cluster.startAgents(['h3']);
  const dead = await cluster.attach('h3', 'blue', 'c5');
  await cluster.until('it is reached', () => cluster.reaches('c1', bare(dead.ip)));
  await cluster.process('agent-h3').kill();
  await cluster.until('it is down', async () => (await nodeStates(cluster))['h3'] === 'down');
  f.begins();
  await restore(f);
  f.ends();
  await reported(f);
  f.check(await cluster.reaches('c1', bare(dead.ip)), 'the route to its containers stays');
  await cluster.json('h1', 'node', 'rm', 'h3');
  f.ends();
  await f.within(1, 'and is deleted everywhere when the node is removed', () =>
    isDeleted(cluster, dead.gateway.replace(/1$/, '0'), dead.id),
  );
  await f.lossless();
  const unknown = await cluster.weft('h1', 'node', 'rm', 'h3', '-o', 'json');
  f.check(unknown.code === 1 && unknown.stderr.includes('no such node'), 'a second time there is none');
  await cluster.startAgents(['h3']);
  await cluster.until('it is back', () => cluster.reaches('c1', bare(dead.ip)));
  await cluster.json('h3', 'detach', 'blue', cluster.ns('c5'));
  await cluster.process('agent-h3').stop();
  await cluster.json('h1', 'node', 'rm', 'h3');
});

fault('a newcomer takes a subnet in the gap', async (f) => {
  const { cluster } = f;
  // Room for two subnets only, so that the newcomer must take the one that is not written back yet.
  const config = {
    Network: '10.104.0.0/16',
    SubnetMin: '10.104.1.0',
    SubnetMax: '10.104.2.0',
    Backend: { Type: 'vxlan', VNI: 4104, Port: 8472 },
  };
  await cluster.etcdctl('put', '/weft/networks/small/config', JSON.stringify(config));
  const copy = await snapshot(f);
  const [one, two] = [await cluster.attach('h1', 'small', 'c3'), await cluster.attach('h2', 'small', 'c4')];
  await cluster.until('they reach each other', () => cluster.reaches('c3', bare(two.ip)));
  f.begins();
  await cluster.lab.cut(cluster.lab.host(2));
  await restore(f, copy);
  await cluster.startAgents(['h3']);
  const stranger = await cluster.attach('h3', 'small', 'c5');
  f.same(stranger.gateway, two.gateway, 'the newcomer got it');
  await cluster.lab.heal(cluster.lab.host(2));
  f.ends();
  await f.within(5, 'it goes back to the node whose containers run in it', async () => {
    const value = await cluster.etcdctl(
      'get',
      '--print-value-only',
      `/weft/networks/small/subnets/${two.gateway.replace(/1$/, '0-24')}`,
    );
    return value.includes(cluster.ipOf('h2'));
  });
  await f.within(5, 'and traffic with it', () => cluster.reaches('c3', bare(two.ip)));
  f.check(!(await routes(cluster, 'h2')).includes(two.gateway.replace(/1$/, '0/24')), 'no stray route');
  const { problems } = await statusOf(cluster, 'h3');
  f.check(
    problems.some(({ what }) => what.includes('small')),
    'the newcomer reports it',
  );
  for (const [host, container] of [
    ['h1', 'c3'],
    ['h2', 'c4'],
    ['h3', 'c5'],
  ] as const) {
    await cluster.weft(host, 'detach', 'small', cluster.ns(container));
  }
  void one;
  await cluster.process('agent-h3').stop();
  await cluster.json('h1', 'node', 'rm', 'h3', '--force');
  await cluster.json('h1', 'network', 'rm', 'small', '--force');
  await cluster.until('the network is gone from its nodes', async () => {
    const all = await Promise.all(['h1', 'h2'].map((host) => statusOf(cluster, host)));
    const links = await Promise.all(['h1', 'h2'].map((host) => cluster.sh(host, 'ip -o link')));
    return (
      all.every(({ networks }) => networks.every(({ name }) => name !== 'small')) &&
      links.every((text) => !text.includes('wfvx4104'))
    );
  });
});

for (const [what, prefix] of [
  ['the keys of all subnets', `${BLUE}subnets/`],
  ['the key of a network', `${BLUE}config`],
  ['every key of a network', BLUE],
] as const) {
  fault(`${what} deleted by hand`, async (f) => {
    const { cluster } = f;
    const valuesBelow = (): Promise<string> =>
      cluster.etcdctl('get', '--prefix', `${BLUE}config`, '--print-value-only');
    const [keys, config, ...before] = await Promise.all([
      keysBelow(cluster, BLUE),
      valuesBelow(),
      ...['h1', 'h2'].map((host) => tunnels(cluster, host)),
    ]);
    f.begins();
    await cluster.etcdctl('del', '--prefix', prefix);
    f.ends();
    await f.within(2, 'written back', async () => {
      const now = await keysBelow(cluster, BLUE);
      return JSON.stringify(now) === JSON.stringify(keys);
    });
    f.same(await valuesBelow(), config, 'the config, word for word');
    await f.lossless();
    f.same(
      await Promise.all(['h1', 'h2'].map((host) => tunnels(cluster, host))),
      before,
      'the same subnets, VTEPs and routes',
    );
  });
}
