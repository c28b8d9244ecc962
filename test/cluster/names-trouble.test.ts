// DNS under failures: nodes down, etcd away, restarts, deleted links, ports in use.
//
// Also a network of 5,000 endpoints.
import test from 'ava';

import { bare, Cluster, ETCD, INFRA, type EndpointJson } from '../lab/cluster.js';
import { shareAmongTests } from '../lab/fresh.js';
import { WEFT } from '../lab/lab.js';
import { addressesOf, agentOf, dig, program, seenBy, watchName } from '../lab/names.js';

let lab: Cluster;
let one: EndpointJson;
let two: EndpointJson;
let asker: EndpointJson;

interface StatusJson {
  problems: { what: string; why: string; fix: string }[];
}

const shared = (): Promise<string[]> => addressesOf(lab, 'c1', 'shared.blue.weft', `@${asker.gateway}`);

async function setUp(): Promise<void> {
  lab = await Cluster.create(2);
  await lab.addContainers('c1', 'c2', 'c3', 'late');
  await lab.startEtcd();
  await lab.startController(['--etcd', ETCD]);
  await lab.startAgents(['h1', 'h2']);
  await lab.json('h1', 'network', 'create', 'blue', '--subnet', '10.100.0.0/16');
  asker = await lab.attach('h1', 'blue', 'c1', '--name', 'asker');
  one = await lab.attach('h1', 'blue', 'c2', '--alias', 'shared');
  two = await lab.attach('h2', 'blue', 'c3', '--alias', 'shared');
  await lab.until('both endpoints resolve', async () => (await shared()).length === 2);
}

shareAmongTests(test, setUp, async () => lab?.lab.down());

test.serial('a bridge deleted by hand is restored, and its DNS with it', async (t) => {
  await lab.sh('h1', "ip link del $(ip -o link | sed -n 's/.*: \\(wfbr[0-9]*\\):.*/\\1/p')");
  await lab.until('it answers', async () => (await shared()).length === 2);
  const { problems } = await lab.json<StatusJson>('h1', 'status');
  t.deepEqual(
    problems.filter(({ what }) => what.startsWith('names')),
    [],
  );
});

test.serial(
  'names of a node whose agent is killed are answered last while it is reachable on the underlay',
  async (t) => {
    await lab.process('agent-h2').kill();
    const state = async (): Promise<string | undefined> =>
      (await lab.json<{ name: string; node: string; state: string }[]>('h1', 'dns', 'ls')).find(
        ({ name, node }) => name === 'shared' && node === 'h2',
      )?.state;
    await lab.until('it is down', async () => (await state()) === 'down');
    for (let i = 0; i < 4; i++) t.deepEqual(await shared(), [bare(one.ip), bare(two.ip)]);
    // Longer than an unreachable node keeps its names.
    const since = Date.now();
    while (Date.now() - since < 6500) t.deepEqual(await shared(), [bare(one.ip), bare(two.ip)]);
    await lab.lab.cut(lab.lab.host(2));
    await lab.until('the node is absent', async () => (await state()) === 'gone');
    t.deepEqual(await shared(), [bare(one.ip)]);
    t.is((await dig(lab, 'c1', '-x', bare(two.ip), `@${asker.gateway}`)).status, 'NXDOMAIN');
    await lab.lab.heal(lab.lab.host(2));
    await lab.until('it answers on the underlay again', async () => (await shared()).length === 2);
    await lab.startAgents(['h2']);
    await lab.until('it is up', async () => (await state()) === 'up');
  },
);

test.serial('names of a node that is cut off are dropped after five seconds, and return', async (t) => {
  await lab.until('h2 is up', async () => (await shared()).length === 2);
  await lab.lab.cut(lab.lab.host(2));
  const cut = Date.now();
  await lab.until('its names are dropped', async () => (await shared()).length === 1);
  // Three seconds of its life lease and five more; a slow etcd or machine may add to it, never shorten it.
  t.true(Date.now() - cut > 5000, `${Date.now() - cut} ms`);
  t.true(Date.now() - cut < 14_000, `${Date.now() - cut} ms`);
  await lab.lab.heal(lab.lab.host(2));
  await lab.until('its names are back', async () => (await shared()).length === 2);
});

test.serial('with etcd away names still resolve, also those of new endpoints', async (t) => {
  const etcd = lab.process('etcd');
  await etcd.kill();
  t.deepEqual((await shared()).toSorted(), [bare(one.ip), bare(two.ip)].toSorted());
  const late = await lab.attach('h1', 'blue', 'late', '--alias', 'latecomer');
  t.deepEqual(await addressesOf(lab, 'c1', 'latecomer', `@${asker.gateway}`), [bare(late.ip)]);
  await lab.json('h1', 'detach', 'blue', lab.ns('late'));
  t.is((await dig(lab, 'c1', 'latecomer.weft', `@${asker.gateway}`)).status, 'NXDOMAIN');
  // A new agent knows its own containers, before etcd answers.
  await lab.process('agent-h1').stop();
  const started = lab.spawn('agent-h1', 'h1', [WEFT, 'agent', ...lab.agentFlags('h1')]);
  await lab.says(started, 'the agent serves');
  await lab.until('it answers', async () => (await shared()).includes(bare(one.ip)));
  await lab.startEtcd();
  await lab.until('all endpoints resolve', async () => (await shared()).length === 2);
});

test.serial('a DNS port in use is reported with its owner, and bound once it is free', async (t) => {
  await lab.process('agent-h1').stop();
  const first = lab.spawn('squatter', 'h1', [
    ...[
      'dnsmasq',
      '--keep-in-foreground',
      '--conf-file=/dev/null',
      '--pid-file',
      '--user=root',
      '--no-resolv',
    ],
  ]);
  await lab.until('it listens', async () => (await lab.sh('h1', 'ss -Hlun sport = :53')).includes(':53'));
  await lab.startAgents(['h1']);
  const { problems } = await lab.until('status reports it', async () => {
    const status = await lab.json<StatusJson>('h1', 'status');
    return status.problems.length === 4 ? status : undefined;
  });
  for (const [n, [about, address]] of [
    ['network blue', '10\\.100\\.\\d+\\.1'],
    ['every network', '169\\.254\\.53\\.53'],
  ].entries())
    for (const [i, protocol] of ['UDP', 'TCP'].entries()) {
      const problem = problems[2 * n + i];
      t.is(problem?.what, `DNS on ${about}`);
      t.regex(
        problem?.why ?? '',
        new RegExp(`^${protocol} port 53 of ${address} is taken by dnsmasq \\(pid \\d+\\)$`),
      );
    }
  await first.stop();
  await lab.until('it answers', async () => (await shared()).length === 2);
  t.deepEqual((await lab.json<StatusJson>('h1', 'status')).problems, []);
});

test.serial('5,000 endpoints: all resolve, and one more costs as much as before', async (t) => {
  const filler = lab.lab.spawn(
    'fill',
    program(lab, INFRA, '../lab/fill.js', ETCD, 'blue', 'ghost', '5000', 'alive'),
  );
  await lab.until('etcd has them', () => filler.log().includes('filled'), { timeoutMs: 60_000 });
  const server = `@${asker.gateway}`;
  await lab.until(
    'the last one resolves',
    async () => (await addressesOf(lab, 'c1', 'many-4999', server)).length === 1,
  );
  for (const n of [0, 1, 255, 256, 2500, 4998]) {
    const ip = `10.100.${200 + (n >> 8)}.${n & 0xff}`;
    t.deepEqual(await addressesOf(lab, 'c1', `many-${n}.blue.weft`, server), [ip]);
    t.deepEqual(await addressesOf(lab, 'c1', '-x', ip, server), [`many-${n}.blue.weft.`]);
  }
  // As many as fit, and TC; dig then repeats the query over TCP, where 65,535 bytes are the limit.
  const cut = await dig(lab, 'c1', 'crowd', server, '+ignore');
  t.true(cut.flags.includes('tc'));
  t.true(cut.answers.length > 50);
  t.true((await dig(lab, 'c1', 'crowd', server, '+ignore', '+noedns')).answers.length > 25);
  const all = await dig(lab, 'c1', 'crowd', server);
  t.false(all.flags.includes('tc'));
  t.true(all.answers.length > 4000, `${all.answers.length}`);
  const watcher = watchName(lab, 'c1', asker.gateway, 'late.blue.weft');
  await lab.until('the watcher runs', () => seenBy(watcher).length === 1);
  const agent = agentOf(lab, 'h2');
  const took: number[] = [];
  for (let round = 0; round < 5; round++) {
    const before = seenBy(watcher).length;
    const done = await agent.attach('blue', `netns:/run/netns/${lab.ns('late')}`, 'late');
    took.push(Math.max(0, (await lab.until('the watcher sees it', () => seenBy(watcher)[before])).at - done));
    await agent.detach('blue', `netns:/run/netns/${lab.ns('late')}`);
    await lab.until('the node is absent', () => seenBy(watcher)[before + 1]);
  }
  agent.close();
  t.log(`among 5,000 a name resolves after ${took.join(', ')} ms`);
  t.true((took.sort((a, b) => a - b)[2] ?? Infinity) <= 100);
});
