// What an operator must be able to do to a cluster without containers noticing: kill, stop, cut, damage, restart.
import { setTimeout as delay } from 'node:timers/promises';

import test from 'ava';

import { bare, Cluster, ETCD, type EndpointJson } from '../lab/cluster.js';
import { WEFT } from '../lab/lab.js';
import type { LabProcess } from '../lab/process.js';
import { steadyPing } from '../lab/traffic.js';

let lab: Cluster;
let etcd: LabProcess;
let a: EndpointJson;
let b: EndpointJson;

test.before(async () => {
  lab = await Cluster.create(3);
  await lab.addContainers('c1', 'c2', 'c3', 'c4', 'c5');
  etcd = await lab.startEtcd();
  await lab.startController(['--etcd', ETCD]);
  await lab.startAgents(['h1', 'h2']);
  await lab.json('h1', 'network', 'create', 'blue', '--subnet', '10.100.0.0/16');
  a = await lab.attach('h1', 'blue', 'c1');
  b = await lab.attach('h2', 'blue', 'c2');
  await lab.until('they reach each other', () => lab.reaches('c1', bare(b.ip)));
});
test.after.always(() => lab?.lab.down());

/** How many of the pings that go every 10 ms while `work` is done are lost. */
async function lostDuring(work: () => Promise<unknown>): Promise<number> {
  const pings = steadyPing(lab.place('c1'), bare(b.ip));
  await delay(200);
  await work();
  await delay(200);
  const { sent, received } = await pings.stop();
  // The one that is on its way at the end is not lost.
  return Math.max(0, sent - received - 1);
}

const vtep = (host: string): Promise<string> => lab.sh(host, 'ip -br link show type vxlan');

test.serial('an agent is killed and started again: nothing is lost, nothing is done twice', async (t) => {
  const mac = await vtep('h1');
  const lost = await lostDuring(async () => {
    await lab.process('agent-h1').kill();
    await delay(500);
    await lab.startAgents(['h1']);
  });
  t.is(lost, 0);
  t.is(await vtep('h1'), mac);
  const status = await lab.json<{
    node: { stepsApplied: number; stepsFailed: number };
    networks: { subnet: string }[];
  }>('h1', 'status');
  t.is(status.node.stepsApplied + status.node.stepsFailed, 0);
  t.is(status.networks[0]?.subnet, a.gateway.replace(/1$/, '0/24'));
  t.is((await lab.json<{ id: string }>('h1', 'attach', 'blue', lab.ns('c1'))).id, a.id);
});

test.serial('etcd is away: attach and detach work, and it is told when it is back', async (t) => {
  const lost = await lostDuring(async () => {
    await etcd.kill();
    const c = await lab.attach('h1', 'blue', 'c3');
    t.true(await lab.reaches('c3', bare(b.ip)));
    t.regex(c.ip, /^10\.100\./);
    await lab.until(
      'status tells',
      async () =>
        (await lab.json<{ store: { state: string } }>('h1', 'status')).store.state === 'disconnected',
    );
    etcd = await lab.startEtcd();
    await lab.until('it is told', async () =>
      (await lab.etcdctl('get', '--prefix', '/weft/networks/blue/endpoints/')).includes(c.id),
    );
    await lab.json('h1', 'detach', 'blue', lab.ns('c3'));
    await lab.until(
      'and told that it is gone',
      async () => !(await lab.etcdctl('get', '--prefix', '/weft/networks/blue/endpoints/')).includes(c.id),
    );
  });
  t.is(lost, 0);
  await lab.until(
    'all is well',
    async () => (await lab.json<{ health: string }>('h1', 'status')).health === 'ok',
  );
});

test.serial('the controller is away, and knows everything again when it is back', async (t) => {
  await lab.process('controller').kill();
  const c = await lab.attach('h2', 'blue', 'c4');
  t.true(await lab.reaches('c1', bare(c.ip)));
  const status = await lab.json<{ health: string; controller: { state: string } }>('h1', 'status');
  t.like(status, { health: 'degraded', controller: { state: 'disconnected' } });
  await lab.startController(['--etcd', ETCD]);
  const nodes = await lab.until('both report to it', async () => {
    const now = await lab.json<{ name: string; state: string; endpoints: number }[]>('h1', 'node', 'ls');
    return now.length === 2 && now.every(({ state }) => state === 'up') ? now : undefined;
  });
  t.deepEqual(
    nodes.map(({ endpoints }) => endpoints),
    [1, 2],
  );
});

for (const damage of [
  'ip route del $(ip route show proto 119 | head -1 | cut -d" " -f1)',
  'ip neigh flush dev $(ip -br link show type vxlan | cut -d" " -f1) nud permanent',
  'ip link del $(ip -br link show type vxlan | cut -d" " -f1)',
  'ip link del $(ip -br link show type bridge | grep wfbr | cut -d" " -f1)',
  'ip link set $(ip -br link show type bridge | grep wfbr | cut -d" " -f1) down',
  'ip link set $(ip -br link show type vxlan | cut -d" " -f1) address 02:00:00:00:00:01',
  'ip link set $(ip -br link show type veth | grep -o "^wfep[0-9a-f]*" | head -1) nomaster',
  'ip link del $(ip -br link show type veth | grep -o "^wfep[0-9a-f]*" | head -1)',
  'ip addr flush dev $(ip -br link show type bridge | grep wfbr | cut -d" " -f1)',
]) {
  test.serial(`by hand: ${damage}`, async (t) => {
    await lab.sh('h1', damage);
    const began = performance.now();
    await lab.until('it is right again', () => lab.reaches('c1', bare(b.ip)), {
      everyMs: 20,
      timeoutMs: 10_000,
    });
    const ms = performance.now() - began;
    t.log(`${ms.toFixed(0)} ms`);
    t.true(await lab.reaches('c2', bare(a.ip)));
  });
}

test.serial('by hand: the firewall and forwarding', async (t) => {
  await lab.sh('h1', 'nft flush ruleset');
  await lab.until(
    'the rules are back',
    async () => (await lab.sh('h1', 'nft list ruleset')).includes('masquerade'),
    { timeoutMs: 10_000 },
  );
  await lab.sh('h1', 'sysctl -qw net.ipv4.ip_forward=0');
  await lab.until(
    'forwarding is on again',
    async () => (await lab.sh('h1', 'cat /proc/sys/net/ipv4/ip_forward')).trim() === '1',
    { timeoutMs: 11_000 },
  );
  const { node } = await lab.json<{ node: { driftRepaired: number } }>('h1', 'status');
  t.true(node.driftRepaired >= 9);
});

test.serial('a host whose FORWARD policy is DROP', async (t) => {
  await lab.sh('h1', 'iptables -P FORWARD DROP');
  await lab.until('weft’s links are accepted', () => lab.reaches('c1', bare(b.ip)), { timeoutMs: 11_000 });
  t.regex(await lab.sh('h1', 'iptables -S FORWARD'), /-P FORWARD DROP[^]*WEFT-ACCEPT/);
  await lab.sh('h1', 'iptables -P FORWARD ACCEPT');
});

test.serial('a container that is gone gives its address back', async (t) => {
  const gone = await lab.attach('h1', 'blue', 'c5');
  await lab.until('it is known', async () =>
    (await lab.etcdctl('get', '--prefix', '/weft/networks/blue/endpoints/')).includes(gone.id),
  );
  await lab.removeContainer('c5');
  await lab.until(
    'it is forgotten',
    async () => !(await lab.etcdctl('get', '--prefix', '/weft/networks/blue/endpoints/')).includes(gone.id),
  );
  await lab.addContainers('c5');
  t.is((await lab.attach('h1', 'blue', 'c5', '--ip', bare(gone.ip))).ip, gone.ip);
});

test.serial('a node that is down, its removal, and its return with the same subnet', async (t) => {
  const before = await lab.json<{ leases: { node: string; subnet: string }[] }>(
    'h1',
    'network',
    'inspect',
    'blue',
  );
  const subnet = before.leases.find(({ node }) => node === 'h2')?.subnet;
  const early = await lab.weft('h1', 'node', 'rm', 'h2', '-o', 'json');
  t.is(early.code, 1);
  t.regex(early.stdout, /FAILED_PRECONDITION/);
  await lab.process('agent-h2').kill();
  await lab.until(
    'it is down',
    async () => (await lab.json<{ state: string }>('h1', 'node', 'inspect', 'h2')).state === 'down',
    { timeoutMs: 8000 },
  );
  t.true(await lab.reaches('c1', bare(b.ip)), 'being down changes nothing on the data path');
  await lab.json('h1', 'node', 'rm', 'h2');
  await lab.until(
    'its subnet is gone everywhere',
    async () => !(await lab.sh('h1', 'ip route')).includes(subnet ?? '?'),
  );
  await lab.startAgents(['h2']);
  await lab.until('it is back', () => lab.reaches('c1', bare(b.ip)));
  const after = await lab.json<{ leases: { node: string; subnet: string }[] }>(
    'h1',
    'network',
    'inspect',
    'blue',
  );
  t.is(after.leases.find(({ node }) => node === 'h2')?.subnet, subnet);
});

test.serial('a key that is deleted is taken again with the same subnet', async (t) => {
  const keys = (await lab.etcdctl('get', '--prefix', '--keys-only', '/weft/networks/blue/subnets/'))
    .trim()
    .split(/\s+/);
  await lab.etcdctl('del', '--prefix', '/weft/networks/blue/subnets/');
  await lab.until('they are back', async () => {
    const now = (await lab.etcdctl('get', '--prefix', '--keys-only', '/weft/networks/blue/subnets/'))
      .trim()
      .split(/\s+/);
    return JSON.stringify(now) === JSON.stringify(keys);
  });
  await lab.until('and lead there', () => lab.reaches('c1', bare(b.ip)));
  t.pass();
});

test.serial('a second node of the same name is told apart', async (t) => {
  const { runDir, stateDir } = lab.lab.host(3);
  const flags = [...lab.agentFlags('h1'), '--run-dir', runDir, '--state-dir', stateDir];
  const twin = lab.spawn('twin', 'h3', [WEFT, 'agent', ...flags]);
  await lab.until('it says so', () => twin.log().includes('taken'));
  t.true(await lab.reaches('c1', bare(b.ip)));
  await twin.stop();
});

test.serial('a node that was thrown out comes back when its agent is restarted', async (t) => {
  await lab.json('h1', 'node', 'rm', 'h2', '--force');
  await lab.until('it has left', async () => !(await lab.sh('h2', 'ip -br link')).includes('wfbr'));
  const { problems } = await lab.json<{ problems: { why: string }[] }>('h2', 'status');
  t.true(problems.some(({ why }) => why.includes('node rm --force')));
  await lab.process('agent-h2').stop();
  await lab.startAgents(['h2']);
  const back = await lab.attach('h2', 'blue', 'c2');
  await lab.until('it is reached again', () => lab.reaches('c1', bare(back.ip)));
});
