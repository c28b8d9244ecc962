// Faults of etcd members and of controllers.
//
// One of three etcd members lost or stalled, the leader moved, the quorum lost; a controller killed, the leader of two killed.
import { join } from 'node:path';

import { bare, Cluster, CONTROLLER, INFRA, INFRA_IP } from '../../lab/cluster.js';
import type { LabProcess } from '../../lab/process.js';
import { deletePeer, keysBelow, putPeer, routes, loggedSince, statusOf } from './observe.js';
import { noNodeReportedDown, oneLinePerState } from './outage.js';
import { populate, suite, type Fault } from './suite.js';

const ENDPOINTS = '/weft/networks/blue/endpoints/';
const MEMBERS = [0, 1, 2].map((i) => ({
  name: `etcd${i}`,
  client: `http://${INFRA_IP}:${2379 + 10 * i}`,
  peer: `http://127.0.0.1:${2380 + 10 * i}`,
}));
const SECOND = `${INFRA_IP}:7410`;
/** Seconds for the loss of servers, including the whole timeout of a slow one. */
const ELECTION_S = 4;

function startMember(cluster: Cluster, i: number): LabProcess {
  const { name, client, peer } = MEMBERS[i] ?? { name: '', client: '', peer: '' };
  return cluster.spawn(name, INFRA, [
    ...['etcd', '--name', name, '--data-dir', join(cluster.folder, name)],
    ...['--listen-client-urls', client, '--advertise-client-urls', client],
    ...['--listen-peer-urls', peer, '--initial-advertise-peer-urls', peer],
    ...['--initial-cluster', MEMBERS.map((one) => `${one.name}=${one.peer}`).join()],
  ]);
}

const startSecond = (cluster: Cluster): Promise<LabProcess> =>
  cluster.startController(['--etcd', cluster.etcd, '--listen', SECOND, '--http', '127.0.0.1:7411'], 'second');

const fault = suite({
  lane: 'servers',
  build: async () => {
    const cluster = await Cluster.create(2);
    cluster.etcd = MEMBERS.map(({ client }) => client).join();
    for (const i of MEMBERS.keys()) startMember(cluster, i);
    await cluster.until('etcd serves', async () => (await cluster.etcdctl('get', '/')) === '');
    await cluster.startController(['--etcd', cluster.etcd]);
    await startSecond(cluster);
    await cluster.startAgents(['h1', 'h2'], ['--controller', `${CONTROLLER},${SECOND}`]);
    const site = await populate(cluster);
    await cluster.addContainers('c3', 'c4');
    return site;
  },
});

interface Member {
  Endpoint: string;
  Status: { header: { member_id: number }; leader: number };
}

/** Numbers of the members, leader first. */
async function membersByRank(cluster: Cluster): Promise<number[]> {
  return cluster.until('the members have a leader', async () => {
    const text = await cluster.etcdctl('endpoint', 'status', '-w', 'json', '--endpoints', cluster.etcd);
    const all = JSON.parse(text) as Member[];
    const leader = all.find(({ Status }) => Status.header.member_id === Status.leader);
    const first = MEMBERS.findIndex(({ client }) => client === leader?.Endpoint);
    if (all.length < MEMBERS.length || first < 0) return undefined;
    return [first, ...[0, 1, 2].filter((i) => i !== first)];
  });
}

/** Changes reach the nodes from etcd, and etcd from a node, over the remaining members. */
async function changesPass(f: Fault, seconds: number): Promise<void> {
  const { cluster } = f;
  const endpoints = cluster.etcd;
  const made = await cluster.attach('h1', 'blue', 'c3');
  f.check(await cluster.reaches('c3', bare(f.site.b.ip)), 'attach');
  await f.within(seconds, 'a change reaches etcd', async () =>
    (await cluster.etcdctl('get', '--prefix', '--keys-only', ENDPOINTS, '--endpoints', endpoints)).includes(
      made.id,
    ),
  );
  await f.within(seconds, 'a change reaches the nodes', async () => {
    await putPeer(cluster, '10.100.250.0/24', 250, endpoints);
    return (await routes(cluster, 'h2')).includes('10.100.250.0/24');
  });
  await cluster.json('h1', 'detach', 'blue', cluster.ns('c3'));
  f.check(!(await cluster.reaches('c2', bare(made.ip))), 'detach');
  await cluster.until('the peer goes', async () => {
    await deletePeer(cluster, '10.100.250.0/24', endpoints);
    return !(await routes(cluster, 'h2')).includes('10.100.250.0/24');
  });
}

const restart = async (f: Fault, i: number): Promise<void> => {
  startMember(f.cluster, i);
  await membersByRank(f.cluster);
};

fault('a member of three killed', async (f) => {
  const [, follower = 1] = await membersByRank(f.cluster);
  f.begins();
  await f.cluster.process(`etcd${follower}`).kill();
  await changesPass(f, ELECTION_S);
  await f.lossless();
  await restart(f, follower);
});

fault('the leader of three killed', async (f) => {
  const [leader = 0] = await membersByRank(f.cluster);
  f.begins();
  await f.cluster.process(`etcd${leader}`).kill();
  await changesPass(f, ELECTION_S + 4);
  await f.lossless();
  await restart(f, leader);
});

/** Since when each node is up. */
async function upSince(cluster: Cluster): Promise<Record<string, string>> {
  const nodes = await cluster.json<{ name: string; state: string; since: string }[]>('h1', 'node', 'ls');
  return Object.fromEntries(nodes.map(({ name, state, since }) => [name, `${state} ${since}`]));
}

fault('a member of three stalled (SIGSTOP)', async (f) => {
  const [leader = 0] = await membersByRank(f.cluster);
  const up = await upSince(f.cluster);
  f.begins();
  f.cluster.process(`etcd${leader}`).signal('SIGSTOP');
  await changesPass(f, ELECTION_S + 8);
  f.cluster.process(`etcd${leader}`).signal('SIGCONT');
  await membersByRank(f.cluster);
  await f.lossless();
  f.same(await upSince(f.cluster), up, 'no node was reported down');
});

fault('the leader moved', async (f) => {
  const { cluster } = f;
  const [leader = 0, next = 1] = await membersByRank(cluster);
  const list = await cluster.etcdctl('member', 'list', '--endpoints', cluster.etcd);
  const id =
    list
      .split('\n')
      .find((line) => line.includes(`etcd${next},`))
      ?.split(',')[0] ?? '';
  f.begins();
  await cluster.etcdctl('move-leader', id, '--endpoints', MEMBERS[leader]?.client ?? '');
  await changesPass(f, ELECTION_S);
  await f.lossless();
});

fault('the quorum lost', async (f) => {
  const { cluster } = f;
  const [, one = 1, two = 2] = await membersByRank(cluster);
  const deleted = await cluster.attach('h2', 'blue', 'c3');
  await cluster.until('etcd has it', async () =>
    (await keysBelow(cluster, ENDPOINTS)).includes(ENDPOINTS + deleted.id),
  );
  const agents = ['h1', 'h2'].map((host) => cluster.process(`agent-${host}`));
  const logs = agents.map((agent) => agent.log().length);
  f.begins();
  await Promise.all([one, two].map((i) => cluster.process(`etcd${i}`).kill()));
  const made = await cluster.attach('h1', 'blue', 'c4');
  f.check(await cluster.reaches('c4', bare(f.site.b.ip)), 'attach meanwhile');
  await cluster.json('h2', 'detach', 'blue', cluster.ns('c3'));
  f.check(!(await cluster.reaches('c1', bare(deleted.ip))), 'detach meanwhile');
  await cluster.until(
    'status reports it',
    async () => (await statusOf(cluster, 'h1')).store.state === 'disconnected',
  );
  for (const i of [one, two]) startMember(cluster, i);
  await membersByRank(cluster);
  f.ends();
  await f.within(1, 'the change reaches etcd', async () => {
    const keys = await keysBelow(cluster, ENDPOINTS);
    return keys.includes(ENDPOINTS + made.id) && !keys.includes(ENDPOINTS + deleted.id);
  });
  await noNodeReportedDown(f);
  oneLinePerState(f, agents, logs);
  await f.lossless();
  await cluster.json('h1', 'detach', 'blue', cluster.ns('c4'));
});

/** By the last line of its log about it. */
const leads = (one: LabProcess, from = one.log().lastIndexOf('$ ')): boolean => {
  const last = loggedSince(one, from).findLast((line) => line.includes('leading'));
  return last !== undefined && !last.includes('not leading');
};

fault('the leading controller killed', async (f) => {
  const { cluster } = f;
  const leader = await cluster.until('one leads', async () =>
    ['controller', 'second'].find((name) => leads(cluster.process(name))),
  );
  const other = leader === 'controller' ? 'second' : 'controller';
  const from = cluster.process(other).log().length;
  f.begins();
  await cluster.process(leader).kill();
  await cluster.attach('h1', 'blue', 'c3');
  f.check(await cluster.reaches('c3', bare(f.site.b.ip)), 'attach meanwhile');
  await f.within(5, 'another leads', () => leads(cluster.process(other), from));
  const left = other === 'second' ? SECOND : CONTROLLER;
  await f.within(6, 'it knows every node', async () => {
    const nodes = await cluster.json<{ state: string; endpoints: number }[]>(
      'h1',
      'node',
      'ls',
      '--controller',
      left,
    );
    return (
      nodes.length === 2 && nodes.every(({ state }) => state === 'up') && nodes.some((n) => n.endpoints === 2)
    );
  });
  await f.within(6, 'agents report to it', async () => {
    const { controller } = await cluster.json<{ controller: { state: string; address: string } }>(
      'h1',
      'status',
    );
    return controller.state === 'connected' && controller.address === left;
  });
  await f.lossless();
  await cluster.json('h1', 'detach', 'blue', cluster.ns('c3'));
  if (leader === 'second') await startSecond(cluster);
  else await cluster.startController(['--etcd', cluster.etcd]);
  const keys = (await cluster.etcdctl('get', '--prefix', '/weft/elections/', '--keys-only'))
    .trim()
    .split(/\s+/);
  f.same(keys.length, 1, 'one leader');
});

// The clean-up looks every 15 s and deletes what it has found twice.
fault('the leader killed between two looks at a removed node’s leftovers', async (f) => {
  const { cluster } = f;
  const logs = new Map(
    ['controller', 'second'].map((name) => [cluster.process(name), cluster.process(name).log().length]),
  );
  f.begins();
  const record = { node: 'ghost', name: 'g', target: 'netns:/run/netns/g', ip: '10.100.9.9/24' };
  const there = (await keysBelow(cluster, ENDPOINTS))[0] ?? '';
  const like = JSON.parse(await cluster.etcdctl('get', '--print-value-only', there)) as object;
  await cluster.etcdctl('put', '/weft/removed/nodes/ghost', '{"at":"2026-11-21T00:00:00Z","forced":false}');
  await cluster.etcdctl('put', `${ENDPOINTS}00000000deadbeef`, JSON.stringify({ ...like, ...record }));
  const leader = await cluster.until('one leads', async () =>
    ['controller', 'second'].find((name) => leads(cluster.process(name))),
  );
  await cluster.process(leader).kill();
  if (leader === 'second') await startSecond(cluster);
  else await cluster.startController(['--etcd', cluster.etcd]);
  await cluster.until(
    'it is deleted',
    async () => !(await keysBelow(cluster, ENDPOINTS)).join().includes('deadbeef'),
    { timeoutMs: 60_000 },
  );
  // The whole log of the one that was started meanwhile is new.
  const deletions = (): string[] =>
    ['controller', 'second'].flatMap((name) =>
      loggedSince(cluster.process(name), logs.get(cluster.process(name)) ?? 0).filter(
        (line) => line.includes('took away') && line.includes('deadbeef'),
      ),
    );
  await cluster.until('it is logged', () => deletions().length > 0);
  f.same(deletions().length, 1, 'deleted, and no work done twice');
  await cluster.etcdctl('del', '/weft/removed/nodes/ghost');
  await f.lossless();
});

fault('both controllers killed', async (f) => {
  const { cluster } = f;
  f.begins();
  await Promise.all(['controller', 'second'].map((name) => cluster.process(name).kill()));
  await cluster.attach('h2', 'blue', 'c3');
  f.check(await cluster.reaches('c3', bare(f.site.a.ip)), 'attach meanwhile');
  const status = await cluster.json<{ health: string; controller: { state: string } }>('h1', 'status');
  f.same([status.health, status.controller.state], ['degraded', 'disconnected'], 'status reports it');
  await cluster.startController(['--etcd', cluster.etcd]);
  await startSecond(cluster);
  f.ends();
  await f.within(5, 'the nodes are known again', async () => {
    const nodes = await cluster.json<{ state: string; endpoints: number }[]>('h1', 'node', 'ls');
    return (
      nodes.length === 2 && nodes.every(({ state }) => state === 'up') && nodes.some((n) => n.endpoints === 2)
    );
  });
  await f.lossless();
  await cluster.json('h2', 'detach', 'blue', cluster.ns('c3'));
});
