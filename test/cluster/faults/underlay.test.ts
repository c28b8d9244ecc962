// Faults of the underlay and of peers.
//
// Cut between two nodes, cut between a node and etcd, a node dead for good, a peer removed or replaced while the agent
// could not be notified, an address of a node that is cut off.
import { setTimeout as delay } from 'node:timers/promises';

import { bare, INFRA } from '../../lab/cluster.js';
import { monotonic } from '../../lab/meter.js';
import { deletePeer, isDeleted, keysBelow, nodeStates, putPeer, statusOf, tunnels } from './observe.js';
import { raise, suite, type Fault } from './suite.js';

const SUBNETS = '/weft/networks/blue/subnets/';

const fault = suite({
  lane: 'underlay',
  build: () => raise(3, { agents: ['h1', 'h2', 'h3'], containers: ['c3', 'c4', 'c5'] }),
});

/** Drops everything between two hosts, in both directions, as when a router between them fails. */
async function block(f: Fault, one: string, other: string): Promise<void> {
  const { cluster } = f;
  await Promise.all([
    cluster.sh(one, `ip route add blackhole ${cluster.ipOf(other)}/32`),
    cluster.sh(other, `ip route add blackhole ${cluster.ipOf(one)}/32`),
  ]);
}

async function unblock(f: Fault, one: string, other: string): Promise<void> {
  const { cluster } = f;
  await Promise.all([
    cluster.sh(one, `ip route del blackhole ${cluster.ipOf(other)}/32`),
    cluster.sh(other, `ip route del blackhole ${cluster.ipOf(one)}/32`),
  ]);
}

fault('cut between two nodes for 60 s', async (f) => {
  const { cluster } = f;
  const leases = await keysBelow(cluster, SUBNETS);
  f.begins();
  await block(f, 'h1', 'h2');
  await delay(f.pick(4000, 60_000));
  await unblock(f, 'h1', 'h2');
  f.ends();
  await f.flowsWithin(1);
  await f.streamLives();
  f.same(await keysBelow(cluster, SUBNETS), leases, 'no subnet changed its node');
});

fault('a node’s cable pulled for 60 s', async (f) => {
  const { cluster } = f;
  const leases = await keysBelow(cluster, SUBNETS);
  const before = await tunnels(cluster, 'h1');
  f.begins();
  await cluster.lab.cut(cluster.lab.host(2));
  await cluster.until('it is down', async () => (await nodeStates(cluster))['h2'] === 'down');
  f.same(await tunnels(cluster, 'h1'), before, 'being down changes nothing on the data path');
  await delay(f.pick(1000, 55_000));
  await cluster.lab.heal(cluster.lab.host(2));
  f.ends();
  await f.flowsWithin(1);
  await f.within(5, 'up again', async () => (await nodeStates(cluster))['h2'] === 'up');
  await f.streamLives();
  f.same(await keysBelow(cluster, SUBNETS), leases, 'no subnet changed its node');
});

fault('cut between a node and etcd', async (f) => {
  const { cluster } = f;
  const leases = await keysBelow(cluster, SUBNETS);
  f.begins();
  await block(f, 'h2', INFRA);
  await cluster.until('it is down', async () => (await nodeStates(cluster))['h2'] === 'down');
  const made = await cluster.attach('h2', 'blue', 'c3');
  f.check(await cluster.reaches('c3', bare(f.site.a.ip)), 'attach meanwhile');
  await delay(f.pick(500, 55_000));
  await unblock(f, 'h2', INFRA);
  f.ends();
  await Promise.all([
    f.within(1.5, 'the change reaches etcd', async () =>
      (await keysBelow(cluster, '/weft/networks/blue/endpoints/')).join().includes(made.id),
    ),
    f.within(5, 'up again', async () => (await nodeStates(cluster))['h2'] === 'up'),
  ]);
  await f.lossless();
  f.same(await keysBelow(cluster, SUBNETS), leases, 'no subnet changed its node');
  await cluster.json('h2', 'detach', 'blue', cluster.ns('c3'));
});

fault('a node dead for good, removed, and back', async (f) => {
  const { cluster } = f;
  const dead = await cluster.attach('h3', 'blue', 'c4');
  await cluster.until('it is reached', () => cluster.reaches('c1', bare(dead.ip)));
  const subnet = dead.gateway.replace(/1$/, '0/24');
  const before = await tunnels(cluster, 'h1');
  const early = await cluster.weft('h1', 'node', 'rm', 'h3', '-o', 'json');
  f.same(early.code, 1, 'one that is up is not removed');
  f.begins();
  await cluster.process('agent-h3').kill();
  await f.within(5, 'down', async () => (await nodeStates(cluster))['h3'] === 'down');
  f.same(await tunnels(cluster, 'h1'), before, 'being down changes nothing on the data path');
  f.check(await cluster.reaches('c1', bare(dead.ip)), 'its containers are still reached');
  await cluster.json('h1', 'node', 'rm', 'h3');
  f.ends();
  await f.within(1, 'its leases and endpoints are deleted everywhere', () =>
    isDeleted(cluster, subnet.split('/')[0] ?? '', dead.id),
  );
  await cluster.startAgents(['h3']);
  await f.cluster.until('it is back', () => cluster.reaches('c1', bare(dead.ip)));
  f.same(await tunnels(cluster, 'h1'), before, 'back with its old subnet');
  await f.lossless();
  await cluster.json('h3', 'detach', 'blue', cluster.ns('c4'));
});

fault('a node thrown out while it is up, and back', async (f) => {
  const { cluster } = f;
  const out = await cluster.attach('h3', 'blue', 'c4');
  await cluster.until('it is reached', () => cluster.reaches('c1', bare(out.ip)));
  const subnet = out.gateway.replace(/1$/, '0');
  f.begins();
  await cluster.json('h1', 'node', 'rm', 'h3', '--force');
  f.ends();
  await f.within(1, 'its leases and endpoints are deleted everywhere', () =>
    isDeleted(cluster, subnet, out.id),
  );
  await f.within(2, 'it has left', async () => !(await cluster.sh('h3', 'ip -br link')).includes('wf'));
  const { problems } = await statusOf(cluster, 'h3');
  f.check(
    problems.some(({ why, fix }) => why.includes('node rm --force') && fix.includes('Restart')),
    'status reports why, and what to do',
  );
  const refused = await cluster.weft('h3', 'attach', 'blue', cluster.ns('c4'));
  f.check(
    refused.code === 1 && refused.stderr.includes('node rm --force'),
    'an attach is refused and says why',
  );
  f.check(cluster.process('agent-h3').isRunning, 'its agent stays up');
  const ready = await cluster.sh('h3', "curl -s -w '%{http_code}' http://127.0.0.1:7402/readyz");
  f.check(ready.includes('node rm --force') && ready.endsWith('503'), '/readyz says so, too');
  await cluster.process('agent-h3').stop();
  await cluster.startAgents(['h3']);
  const back = await cluster.attach('h3', 'blue', 'c4');
  await f.within(60, 'back when its agent is restarted', () => cluster.reaches('c1', bare(back.ip)));
  await f.lossless();
  await cluster.json('h3', 'detach', 'blue', cluster.ns('c4'));
});

/** Removes and replaces peers while h2 cannot be notified. */
async function behindItsBack(f: Fault, without: (work: () => Promise<void>) => Promise<void>): Promise<void> {
  const { cluster } = f;
  await putPeer(cluster, '10.100.230.0/24', 230);
  await putPeer(cluster, '10.100.231.0/24', 231);
  await cluster.until('both are known', async () => {
    const now = await tunnels(cluster, 'h2');
    return now.includes('10.100.230.0') && now.includes('10.100.231.0');
  });
  f.begins();
  await without(async () => {
    await deletePeer(cluster, '10.100.230.0/24');
    // The same subnet, another MAC address, another host.
    await putPeer(cluster, '10.100.231.0/24', 232);
    await cluster.until('h1 has the change', async () =>
      (await tunnels(cluster, 'h1')).includes('192.0.2.232'),
    );
  });
  const only = (text: string): string[] =>
    text.split('\n').filter((line) => /10\.100\.23\d|192\.0\.2\.23\d/.test(line));
  await f.within(2, 'right on its return, nothing stale', async () => {
    const [expected, now] = await Promise.all([tunnels(cluster, 'h1'), tunnels(cluster, 'h2')]);
    return (
      JSON.stringify(only(expected)) === JSON.stringify(only(now)) &&
      !/10\.100\.230|192\.0\.2\.23[01]/.test(now) &&
      now.includes('192.0.2.232')
    );
  });
  await f.lossless();
  await deletePeer(cluster, '10.100.231.0/24');
  await cluster.until(
    'the route is deleted',
    async () => !(await tunnels(cluster, 'h2')).includes('10.100.231'),
  );
}

fault('peers removed and replaced while an agent was down', async (f) => {
  await behindItsBack(f, async (work) => {
    await f.cluster.process('agent-h2').kill();
    await work();
    await f.cluster.startAgents(['h2']);
    f.ends();
  });
});

fault('peers removed and replaced while an agent was cut off', async (f) => {
  await behindItsBack(f, async (work) => {
    await block(f, 'h2', INFRA);
    await f.cluster.until(
      'it notices the cut',
      async () => (await statusOf(f.cluster, 'h2')).store.state === 'disconnected',
    );
    await work();
    await unblock(f, 'h2', INFRA);
    f.ends();
  });
});

fault('an address asked for in the subnet of a node that is cut off', async (f) => {
  const { cluster } = f;
  const subnet = f.site.b.gateway.replace(/\.1$/, '');
  const wanted = `${subnet}.77`;
  f.begins();
  await block(f, 'h2', INFRA);
  // Before the cut can be noticed, and after.
  const early = await cluster.weft('h1', 'attach', 'blue', cluster.ns('c3'), '--ip', wanted);
  f.same(early.code, 1, 'refused');
  f.check(early.stderr.includes('h2'), 'with a sentence that names the node');
  const own = await cluster.attach('h2', 'blue', 'c4', '--ip', wanted);
  f.same(bare(own.ip), wanted, 'the owner allocates it');
  await cluster.until('it is down', async () => (await nodeStates(cluster))['h2'] === 'down');
  const late = await cluster.weft('h1', 'attach', 'blue', cluster.ns('c3'), '--ip', `${subnet}.78`);
  f.same(late.code, 1, 'refused while it is down');
  await unblock(f, 'h2', INFRA);
  f.ends();
  await f.within(5, 'never twice: refused as in use', async () => {
    const { code, stderr } = await cluster.weft('h1', 'attach', 'blue', cluster.ns('c3'), '--ip', wanted);
    f.t.is(code, 1);
    return /in use|c4/.test(stderr);
  });
  await f.lossless();
  await cluster.json('h2', 'detach', 'blue', cluster.ns('c4'));
});

fault('an address asked for at the moment at which its node gives it out', async (f) => {
  const { cluster } = f;
  const subnet = f.site.b.gateway.replace(/\.1$/, '');
  for (let round = 0; round < f.pick(3, 10); round++) {
    const wanted = `${subnet}.${100 + round}`;
    const both = await Promise.all([
      cluster.weft('h1', 'attach', 'blue', cluster.ns('c3'), '--ip', wanted),
      cluster.weft('h2', 'attach', 'blue', cluster.ns('c4'), '--ip', wanted),
    ]);
    f.same(both.filter(({ code }) => code === 0).length, 1, 'one has it, the other is refused');
    await cluster.weft('h1', 'detach', 'blue', cluster.ns('c3'));
    await cluster.weft('h2', 'detach', 'blue', cluster.ns('c4'));
  }
  const granted = await cluster.attach('h1', 'blue', 'c3', '--ip', `${subnet}.150`);
  const claim = await cluster.etcdctl(
    'get',
    '--print-value-only',
    `/weft/networks/blue/claims/${subnet}.150`,
  );
  f.check(claim.includes('"granted"') && claim.includes(granted.id), 'granted after its agreement');
  const late = await cluster.weft('h2', 'attach', 'blue', cluster.ns('c4'), '--ip', `${subnet}.150`);
  f.same(late.code, 1, 'then its node does not give it out');
  await cluster.json('h1', 'detach', 'blue', cluster.ns('c3'));
  await f.lossless();
});

fault('a node’s public address changes', async (f) => {
  const { cluster } = f;
  const old = cluster.ipOf('h2');
  const fresh = '192.0.2.212';
  const subnet = f.site.b.gateway.replace(/1$/, '0');
  for (const [from, to] of [
    [old, fresh],
    [fresh, old],
  ] as const) {
    if (to === fresh) f.begins();
    await cluster.sh(
      'h2',
      `ip address del ${from}/24 dev eth0; ip address add ${to}/24 dev eth0; ip route replace default via 192.0.2.1`,
    );
    const began = monotonic();
    await cluster.until('the lease has the new address', async () =>
      (await cluster.etcdctl('get', '--print-value-only', '--prefix', SUBNETS)).includes(to),
    );
    await cluster.until('peers follow', async () => (await tunnels(cluster, 'h1')).includes(`dst ${to} `));
    f.t.log(`${((monotonic() - began) / 1000).toFixed(2)} s`);
    f.ends();
  }
  await f.flowsWithin(2);
  f.check((await tunnels(cluster, 'h1')).includes(subnet), 'the subnet stays');
  await f.streamLives();
});
