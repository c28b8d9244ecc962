// Broken paths between real hosts: what `weft status` says on both nodes and on the controller, and that it heals.
import test, { type ExecutionContext } from 'ava';

import { Cluster, INFRA } from '../lab/cluster.js';
import { shareAmongTests } from '../lab/fresh.js';
import { slowness } from '../lab/wait.js';

interface PathJson {
  network: string;
  family: number;
  state: string;
  mtu: number | null;
}
interface ProblemJson {
  what: string;
  why: string;
  fix: string;
  consequences: string[];
}
interface StatusJson {
  health: string;
  peers: { node: string; paths: PathJson[] }[];
  problems: ProblemJson[];
}

const HOSTS = ['h1', 'h2', 'h3'];
/** For what a status says of all nodes. */
const SOON = { timeoutMs: 30_000, everyMs: 200 };

/** A broken path is found within paths/16 + 5 seconds; each host has six. */
const FOUND_MS = (6 / 16 + 5) * 1000 * slowness;

let lab: Cluster;

async function setUp(): Promise<void> {
  lab = await Cluster.create(3);
  await lab.startController();
  await lab.json(
    'h1',
    'network',
    'create',
    'blue',
    '--subnet',
    '10.100.0.0/16',
    '--subnet6',
    'fd42:100::/48',
  );
  await lab.json('h1', 'network', 'create', 'red', '--subnet', '10.101.0.0/16', '--port', '8473');
  await lab.startAgents(HOSTS, ['--join', 'blue,red']);
  for (const host of HOSTS) await lab.until(`all paths of ${host} are ok`, () => isWell(host), SOON);
}

shareAmongTests(test, setUp, () => lab?.lab.down());

const status = (host: string): Promise<StatusJson> => lab.json<StatusJson>(host, 'status');

async function isWell(host: string): Promise<boolean> {
  const { health, peers } = await status(host);
  const states = peers.flatMap(({ paths }) => paths.map(({ state }) => state));
  return health === 'ok' && states.length === 6 && states.every((state) => state === 'ok');
}

/** Problems of the nodes, as the controller counts them. */
async function ofCluster(): Promise<ProblemJson[]> {
  const { stdout } = await lab.weft('h1', 'status', '--agent', '/nonexistent/agent.sock', '-o', 'json');
  const { problems } = JSON.parse(stdout) as StatusJson;
  return problems.filter(({ what }) => !what.startsWith('the agent at'));
}

/** The paths of a host that are not ok, as `NODE NETWORK FAMILY STATE`. */
const broken = ({ peers }: StatusJson): string[] =>
  peers.flatMap(({ node, paths }) =>
    paths.flatMap(({ network, family, state }) =>
      state === 'ok' ? [] : [`${node} ${network} ${family} ${state}`],
    ),
  );

/** Drops on the switch what these matches of nft select, until the test is over. */
async function drop(t: ExecutionContext, ...matches: readonly string[]): Promise<() => Promise<void>> {
  const underlay = lab.lab.existing('underlay');
  const rules = matches.map((match) => `add rule bridge faults drops ${match} drop`).join('\n');
  const chain = 'add chain bridge faults drops { type filter hook forward priority 0; }';
  await underlay.must(['nft', '-f', '-'], { input: `add table bridge faults\n${chain}\n${rules}\n` });
  let isOver = false;
  const heal = async (): Promise<void> => {
    if (isOver) return;
    isOver = true;
    await underlay.must(['nft', 'delete table bridge faults']);
  };
  t.teardown(heal);
  return heal;
}

/** The milliseconds from a time until a host told that a path is broken, by its events. */
async function foundAfter(began: number, host: string, peer: string): Promise<number> {
  const { stdout } = await lab.weft(host, 'events', '-o', 'json', '--for', `node/${peer}`);
  const told = stdout
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as { time: string; node: string; reason: string; object: string })
    .filter(
      ({ node, reason, object }) => node === host && reason === 'path-broken' && object === `path/${peer}`,
    )
    .map(({ time }) => Date.parse(time) - began)
    .find((after) => after >= 0);
  if (told === undefined) throw new Error(`${host} told of no broken path to ${peer}:\n${stdout}`);
  return told;
}

async function healed(t: ExecutionContext): Promise<void> {
  for (const host of HOSTS) await lab.until(`${host} is well again`, () => isWell(host), SOON);
  await lab.until('nothing is told of the cluster', async () => (await ofCluster()).length === 0, SOON);
  t.pass();
}

const between = (from: string, to: string): string => `ip saddr ${lab.ipOf(from)} ip daddr ${lab.ipOf(to)}`;

test.serial(
  'one direction, the port of one network, and the IPv6 tunnel: each path, with its cause',
  async (t) => {
    const six = lab.lab.host(3).ip6;
    const heal = await drop(
      t,
      `${between('h1', 'h2')} udp dport 8472`,
      ...[`${between('h1', 'h3')} udp dport 8473`, `${between('h3', 'h1')} udp dport 8473`],
      `ip6 saddr ${lab.lab.host(2).ip6} ip6 daddr ${six} udp dport 8472`,
    );
    const began = Date.now();
    for (const [host, paths] of [
      ['h1', ['h2 blue 4 blocked', 'h3 red 4 blocked']],
      ['h2', ['h1 blue 4 blocked', 'h3 blue 6 blocked']],
      ['h3', ['h1 red 4 blocked', 'h2 blue 6 blocked']],
    ] as const) {
      const now = await lab.until(
        `${host} says which paths are blocked`,
        async () => {
          const found = await status(host);
          return broken(found).toSorted().join() === paths.join() && found.problems.length === 2 && found;
        },
        SOON,
      );
      t.is(now.health, 'degraded');
    }
    for (const [host, peer] of [
      ['h1', 'h2'],
      ['h1', 'h3'],
      ['h2', 'h3'],
    ] as const)
      t.true((await foundAfter(began, host, peer)) <= FOUND_MS);
    // Which direction it is becomes clear a little later, as each end tells what it hears.
    let told: ProblemJson[] = [];
    const saying = (what: string, words: RegExp): Promise<ProblemJson> =>
      lab.until(
        `the controller says of ${what}: ${words.source}`,
        async () => {
          told = await ofCluster();
          return told.find((problem) => problem.what === `between ${what}` && words.test(problem.why));
        },
        { ...SOON, context: () => JSON.stringify(told) },
      );
    const oneWay = await saying(
      'node h1 and node h2, in network blue, IPv4',
      /packets from node h1 to node h2 are lost$/,
    );
    t.regex(oneWay.fix, /UDP port 8472/);
    const bothWays = await saying(
      'node h1 and node h3, in network red, IPv4',
      /nor does anything the other way$/,
    );
    t.regex(bothWays.fix, /UDP port 8473/);
    await saying('node h2 and node h3, in network blue, IPv6', /from node h2 to node h3 are lost$/);
    t.is(told.length, 3);
    await heal();
    await healed(t);
  },
);

test.serial(
  'the port of a network dropped on a host: which rule it is, once, and what follows from it',
  async (t) => {
    const drops = 'INPUT -p udp --dport 8472 -j DROP';
    await lab.sh('h2', `iptables -I ${drops}`);
    for (const host of ['h1', 'h3']) {
      const { problems } = await lab.until(
        `${host} says which path is blocked, and the direction`,
        async () => {
          const found = await status(host);
          const isKnown = found.problems.every(({ why }) =>
            why.endsWith(`from node ${host} to node h2 are lost`),
          );
          return broken(found).join() === 'h2 blue 4 blocked' && isKnown && found;
        },
        SOON,
      );
      t.regex(problems[0]?.what ?? '', /the path to node h2 \(192\.0\.2\.12\) in network blue, IPv4/);
    }
    let told: ProblemJson[] = [];
    await lab.until(
      'h2 has found the rule, and all else follows from it',
      async () => {
        told = await ofCluster();
        return told.length === 1 && told[0]?.what.startsWith('node h2: iptables');
      },
      { ...SOON, context: () => JSON.stringify(told) },
    );
    const [rule] = told;
    t.regex(rule?.why ?? '', /dport 8472 -j DROP. is before any that accepts UDP port 8472/);
    t.deepEqual(rule?.consequences.toSorted(), [
      'from node h2 to node h1, network blue, IPv4: blocked',
      'from node h2 to node h3, network blue, IPv4: blocked',
    ]);
    await lab.sh('h2', `iptables -D ${drops}`);
    await healed(t);
  },
);

test.serial('a path MTU of 1400, where larger packets vanish: the size that passes', async (t) => {
  const heal = await drop(
    t,
    `${between('h1', 'h2')} ip length > 1400`,
    `${between('h2', 'h1')} ip length > 1400`,
  );
  const began = Date.now();
  let found: StatusJson | undefined;
  const now = await lab.until(
    'h1 knows the size',
    async () => {
      found = await status('h1');
      const peer = found.peers.find(({ node }) => node === 'h2');
      return peer?.paths.some(({ state, mtu }) => state === 'mtu' && mtu === 1350) === true && found;
    },
    { ...SOON, context: () => JSON.stringify(found?.peers) },
  );
  t.is(now.health, 'degraded');
  t.true(now.problems.every(({ what }) => what.includes('node h2')));
  const { fix = '' } = now.problems.find(({ why }) => why.includes('up to 1350 bytes pass')) ?? {};
  t.regex(fix, /--mtu 1350/);
  t.true((await foundAfter(began, 'h1', 'h2')) <= FOUND_MS);
  await heal();
  await healed(t);
});

test.serial('an address of two hosts, and a wrong permanent neighbour: that, once', async (t) => {
  const mac = '02:00:00:00:0b:ad';
  await lab.addContainers('twin');
  const { namespace: underlay } = lab.lab.existing('underlay');
  const h2 = lab.ipOf('h2');
  await lab.sh(
    'twin',
    `ip link add eth0 address ${mac} type veth peer name twin netns ${underlay}
     ip link set eth0 up; ip addr add ${h2}/24 dev eth0
     ip -n ${underlay} link set twin master br0 up`,
  );
  // h1 and etcd's host have learned the wrong one, as they may; h3 was told another that nobody has.
  for (const host of ['h1', INFRA])
    await lab.sh(host, `ip neigh replace ${h2} lladdr ${mac} nud reachable dev eth0`);
  await lab.sh('h3', `ip neigh replace ${lab.ipOf('h1')} lladdr 02:00:00:00:0b:ee nud permanent dev eth0`);
  const cause = (host: string, what: string): Promise<ProblemJson> =>
    lab.until(
      `${host}: ${what}`,
      async () => {
        const { problems } = await status(host);
        return problems.find((problem) => problem.what === what);
      },
      SOON,
    );
  const twice = await cause('h1', `the address ${h2}, which two hosts have`);
  t.true(twice.why.includes(mac) && !twice.fix.includes('8472'));
  const wrong = await cause('h3', `the permanent neighbour ${lab.ipOf('h1')} of eth0`);
  t.regex(wrong.fix, /^Remove it: ip neigh del 192\.0\.2\.11 dev eth0/);
  const told = await lab.until(
    'the controller says both once',
    async () => {
      const found = await ofCluster();
      const count = (text: string): number => found.filter(({ what }) => what.includes(text)).length;
      return count('the permanent neighbour') === 1 && count(`the address ${h2}`) === 1 && found;
    },
    SOON,
  );
  t.is(told.filter(({ what }) => what.includes('node h3 and')).length, 0, JSON.stringify(told));
  await lab.removeContainer('twin');
  await lab.sh('h3', `ip neigh del ${lab.ipOf('h1')} dev eth0`);
  for (const host of ['h1', 'h3', INFRA]) await lab.sh(host, 'ip neigh flush dev eth0 nud reachable');
  await healed(t);
});

test.serial(
  'a cable that is out is one problem on its node, and the others list the node as down',
  async (t) => {
    await lab.lab.cut(lab.lab.host(3));
    t.teardown(() => lab.lab.heal(lab.lab.host(3)));
    const { problems } = await lab.until(
      'h3 says so, and all that follows',
      async () => {
        const now = await status('h3');
        return now.problems[0]?.consequences.some((line) => line.startsWith('etcd at')) === true && now;
      },
      SOON,
    );
    t.deepEqual(
      problems.map(({ what, why }) => [what, why]),
      [['the link eth0, which carries the underlay', 'it has no carrier']],
    );
    await lab.until(
      'the others are ok',
      async () => {
        const { health, peers } = await status('h1');
        const paths = peers.find(({ node }) => node === 'h3')?.paths ?? [];
        return health === 'ok' && paths.length === 3 && paths.every(({ state }) => state === 'node-down');
      },
      SOON,
    );
    t.deepEqual(
      (await ofCluster()).map(({ what }) => what),
      ['node h3'],
    );
    await lab.lab.heal(lab.lab.host(3));
    await healed(t);
  },
);
