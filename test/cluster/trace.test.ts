// weft trace between real hosts: what it says of whole and of broken ways.
import test, { type ExecutionContext } from 'ava';

import { bare, Cluster, type EndpointJson } from '../lab/cluster.js';
import { FLANNELD, NO_FLANNELD, startFlanneld } from '../lab/flanneld.js';
import { shareAmongTests } from '../lab/fresh.js';

interface HopJson {
  node: string | null;
  point: string;
  seen: boolean | null;
  detail: string;
}
interface TraceJson {
  verdict: 'reached' | 'stopped' | 'unknown';
  node: string | null;
  reason: string | null;
  why: string;
  fix: string;
  hops: HopJson[];
  back: HopJson[];
}

const NETWORKS: readonly (readonly string[])[] = [
  ['blue', '--subnet', '10.100.0.0/16', '--subnet6', 'fd42:100::/48'],
  ['green', '--subnet', '10.101.0.0/16', '--port', '8473'],
  ['inner', '--subnet', '10.102.0.0/16', '--internal'],
  ['gw', '--subnet', '10.103.0.0/16', '--backend', 'host-gw'],
  ['near', '--subnet', '10.104.0.0/16', '--direct-routing'],
  ['pump', '--subnet', '10.105.0.0/16', '--backend', 'udp'],
];
/** A trace takes three seconds at most; this machine does much else. */
const LIMIT_MS = 3000 * Number(process.env['WEFT_TEST_SLOWNESS'] ?? 1);

let lab: Cluster;
const ends = new Map<string, EndpointJson>();
const ipOf = (name: string): string => bare(ends.get(name)?.ip ?? '');
const ip6Of = (name: string): string => bare(ends.get(name)?.ip6 ?? '');

async function attach(host: string, network: string, container: string, name = container): Promise<void> {
  ends.set(name, await lab.attach(host, network, container, '--name', name));
}

async function setUp(): Promise<void> {
  lab = await Cluster.create(3);
  await lab.startController();
  for (const [name = '', ...flags] of NETWORKS) await lab.json('h1', 'network', 'create', name, ...flags);
  await lab.startAgents(['h1', 'h2']);
  // Its own rules are iptables'.
  await lab.startAgents(['h3'], ['--firewall', 'iptables']);
  await lab.addContainers('c1', 'c2', 'c3', 'c4', 'g1', 'g2', 'i1', 'm1', 'm2');
  await attach('h1', 'blue', 'c1');
  await attach('h2', 'blue', 'c2');
  await attach('h1', 'blue', 'c3');
  await attach('h3', 'blue', 'c4');
  await attach('h1', 'green', 'g1');
  await attach('h2', 'green', 'g2');
  await attach('h1', 'inner', 'i1');
  for (const network of ['gw', 'near', 'pump']) {
    await attach('h1', network, 'm1', `m1-${network}`);
    await attach('h2', network, 'm2', `m2-${network}`);
  }
  for (const name of ['c2', 'c3', 'c4', 'm2-gw', 'm2-near', 'm2-pump'])
    await lab.until(`${name} is reached`, () => lab.reaches(name.startsWith('m') ? 'm1' : 'c1', ipOf(name)));
}

shareAmongTests(test, setUp, () => lab?.lab.down());

async function trace(...words: string[]): Promise<TraceJson> {
  const { stdout, stderr, code } = await lab.weft('h1', 'trace', ...words, '-o', 'json');
  const result = JSON.parse(stdout) as TraceJson;
  if (result.verdict === undefined) throw new Error(`${words.join(' ')}: ${stderr}`);
  if (code !== (result.verdict === 'reached' ? 0 : 1)) throw new Error(`exit ${code} with ${result.verdict}`);
  return result;
}

const seen = (hops: readonly HopJson[]): (boolean | null)[] => [...new Set(hops.map((hop) => hop.seen))];

/** By a process in the container that lasts until the end of the test. */
function listen(t: ExecutionContext, where: string, code: string): Promise<void> {
  const script = `import socket, time\n${code}\nprint('lis' + 'tens', flush=True)\ntime.sleep(600)`;
  const listener = lab.spawn(`listener-${where}-${t.title.length}`, where, ['python3', '-c', script]);
  t.teardown(() => listener.stop());
  return lab.says(listener, 'listens');
}

const TCP = (address: string, port: number): string =>
  `t${port} = socket.create_server(('${address}', ${port}))`;
const UDP = (port: number): string =>
  `u${port} = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u${port}.bind(('0.0.0.0', ${port}))`;

test.serial(
  'a whole way: every point is seen, there and back, by ICMP, TCP and UDP, small and large',
  async (t) => {
    await listen(t, 'c2', [TCP('', 80), UDP(5353)].join('\n'));
    const mtu = ends.get('c2')?.mtu ?? 0;
    for (const words of [
      ['c1', 'c2'],
      ['c1', 'c2.blue', '--size', String(mtu)],
      [ends.get('c1')?.id ?? '', ipOf('c2'), '--tcp', '80'],
      ['c1', 'c2', '--tcp', '80', '--size', '1000'],
      ['c1', 'c2', '--udp', '5353', '--size', String(mtu)],
      [lab.ns('c1'), ip6Of('c2')],
      [`netns:/run/netns/${lab.ns('c1')}`, ip6Of('c2'), '--size', '1400'],
    ]) {
      const began = performance.now();
      const result = await trace(...words);
      t.is(result.verdict, 'reached', `${words.join(' ')}: ${result.reason}`);
      t.true(performance.now() - began < LIMIT_MS, words.join(' '));
      t.deepEqual([seen(result.hops), seen(result.back)], [[true], [true]], words.join(' '));
      const nodes = result.hops.map(({ node }) => node).join(' ');
      t.is(nodes, 'h1 h1 h1 h1 h1 h2 h2 h2 h2 h2 h2', words.join(' '));
      t.is(result.back.map(({ node }) => node).join(' '), 'h2 h2 h2 h2 h2 h1 h1 h1 h1 h1 h1');
    }
    t.deepEqual(
      [await lab.sh('h1', 'nft list tables'), await lab.sh('h2', 'nft list tables')].filter((text) =>
        text.includes('trace'),
      ),
      [],
    );
  },
);

test.serial(
  'neighbours on a bridge, nodes, gateways, name servers and addresses outside are ends, too',
  async (t) => {
    const points = async (...words: string[]): Promise<string[]> => {
      const { verdict, reason, hops } = await trace(...words);
      t.is(verdict, 'reached', `${words.join(' ')}: ${reason}`);
      return hops
        .filter((hop) => hop.seen === true)
        .map(({ node, point }) => `${node} ${point.split(' ')[0]}`);
    };
    t.deepEqual(await points('c1', 'c3'), ['h1 eth0', 'h1 port', 'h1 port', 'h1 eth0', 'h1 c3']);
    t.deepEqual(await points('h1', 'h2'), ['h1 underlay', 'h2 underlay', 'h2 the']);
    t.is((await points('c1', 'h2')).at(-1), 'h2 the');
    t.is((await points('h1', 'c2')).at(-1), 'h2 c2');
    const gateway = ends.get('c1')?.gateway ?? '';
    t.is((await points('c1', gateway, '--udp', '53')).at(-1), 'h1 the');
    t.is((await points('c1', '169.254.53.53', '--udp', '53')).at(-1), 'h1 the');
    const outside = await trace('c1', lab.lab.outside.ip);
    t.deepEqual([outside.verdict, outside.hops.at(-1)?.seen], ['reached', null]);
  },
);

test.serial('each backend that runs here, and a host whose rules are iptables’', async (t) => {
  const links = async (to: string): Promise<string[]> => {
    const { verdict, reason, hops, back } = await trace(to.startsWith('m2') ? lab.ns('m1') : 'c1', to);
    t.is(verdict, 'reached', `${to}: ${reason}`);
    t.deepEqual([seen(hops), seen(back)], [[true], [true]], to);
    return hops.flatMap(({ node, point }) => (node === 'h1' ? (point.split(' ')[0] ?? '') : []));
  };
  t.deepEqual(await links('c4'), ['eth0', 'port', 'bridge', 'tunnel', 'underlay']);
  t.deepEqual(await links('m2-gw.gw'), ['eth0', 'port', 'bridge', 'underlay']);
  t.deepEqual(await links('m2-near.near'), ['eth1', 'port', 'bridge', 'underlay']);
  t.deepEqual(await links('m2-pump.pump'), ['eth2', 'port', 'bridge', 'tunnel', 'underlay']);
});

/** What is broken, by whom, and what is said; what `heal` is needed beside the end of the test. */
interface Fault {
  title: string;
  where: string;
  breaks: () => string;
  heals: () => string;
  words: () => string[];
  node: string | null;
  reason: RegExp;
  back?: true;
  /** An answer has come, of another. */
  answered?: true;
}

const drop = (hook: string, match: string): string =>
  `nft 'add table inet t; add chain inet t c { type filter hook ${hook} priority 0; }; add rule inet t c ${match} drop'`;
/** On the switch between the hosts. */
const lose = (match: string): string =>
  `nft 'add table bridge t; add chain bridge t c { type filter hook forward priority 0; }; add rule bridge t c ${match} drop'`;
const UNDERLAY = 'underlay';
const UNDROP = 'nft delete table inet t';

const FAULTS: readonly Fault[] = [
  {
    title: 'UDP 8472 is dropped on the other host',
    ...{ where: 'h2', breaks: () => drop('input', 'udp dport 8472'), heals: () => UNDROP },
    ...{ words: () => ['c1', 'c2'], node: 'h2', reason: /udp dport 8472 drop.*table inet t, chain c/ },
  },
  {
    title: 'only one direction is dropped: the answer',
    ...{ where: 'h2', breaks: () => drop('output', 'udp dport 8472'), heals: () => UNDROP },
    ...{ words: () => ['c1', 'c2'], node: 'h2', reason: /udp dport 8472 drop/, back: true },
  },
  {
    title: 'the port of a second network',
    ...{ where: 'h2', breaks: () => drop('input', 'udp dport 8473'), heals: () => UNDROP },
    ...{ words: () => ['g1', 'g2'], node: 'h2', reason: /udp dport 8473 drop/ },
  },
  {
    title: 'the IPv6 tunnel',
    ...{ where: 'h2', breaks: () => drop('input', 'meta nfproto ipv6 udp dport 8472'), heals: () => UNDROP },
    ...{ words: () => ['c1', ip6Of('c2')], node: 'h2', reason: /ipv6 udp dport 8472 drop/ },
  },
  {
    title: 'by iptables-legacy',
    where: 'h2',
    breaks: () => 'iptables-legacy -w 5 -A INPUT -p udp --dport 8472 -j DROP',
    heals: () => 'iptables-legacy -w 5 -F INPUT',
    ...{
      words: () => ['c1', 'c2'],
      node: 'h2',
      reason: /iptables-legacy drops it on node h2: .*--dport 8472 -j DROP/,
    },
  },
  {
    title: 'large packets vanish between the hosts',
    ...{
      where: UNDERLAY,
      breaks: () => lose(`ip saddr ${lab.ipOf('h1')} ip daddr ${lab.ipOf('h2')} ip length > 1400`),
      heals: () => 'nft delete table bridge t',
    },
    words: () => ['c1', 'c2', '--size', '1400'],
    ...{ node: null, reason: /packets of 1400 bytes are lost between .* and those of 84 bytes pass/ },
  },
  {
    title: 'UDP 8472 is dropped between the hosts',
    ...{ where: UNDERLAY, breaks: () => lose('udp dport 8472'), heals: () => 'nft delete table bridge t' },
    ...{ words: () => ['c1', 'c2'], node: null },
    reason: /lost between underlay eth0 on h1 and underlay eth0 on h2/,
  },
  {
    title: 'a wrong permanent neighbour on the underlay',
    where: 'h1',
    breaks: () => `ip neigh replace ${lab.ipOf('h2')} lladdr 02:00:00:00:00:99 dev eth0 nud permanent`,
    heals: () => `ip neigh del ${lab.ipOf('h2')} dev eth0`,
    ...{ words: () => ['c1', 'c2'], node: 'h1', reason: /wrong MAC address: 02:00:00:00:00:99 for / },
  },
  {
    title: 'a blackhole route in the container',
    where: 'c1',
    breaks: () => `ip route add blackhole ${ipOf('c2')}`,
    heals: () => `ip route del blackhole ${ipOf('c2')}`,
    ...{ words: () => ['c1', 'c2'], node: 'h1', reason: /c1 has no way to .*blackhole/ },
  },
  {
    title: 'a blackhole route in the other container',
    where: 'c2',
    breaks: () => `ip route add blackhole ${ipOf('c1')}`,
    heals: () => `ip route del blackhole ${ipOf('c1')}`,
    ...{ words: () => ['c1', 'c2'], node: 'h2', reason: /c2 has no way to .*blackhole/, back: true },
  },
  {
    title: 'a more specific route in the container',
    where: 'c1',
    breaks: () =>
      `ip link add d0 type veth peer name d1; ip link set d0 up; ip link set d1 up; ip route add ${ipOf('c2')} dev d0`,
    heals: () => 'ip link del d0',
    ...{ words: () => ['c1', 'c2'], node: 'h1', reason: /a route in c1 takes packets to .* to d0/ },
  },
  {
    title: 'the address of another container, too',
    answered: true,
    where: 'c1',
    breaks: () => `ip addr add ${ipOf('c3')}/24 dev eth0`,
    heals: () => `ip addr del ${ipOf('c3')}/24 dev eth0`,
    ...{ words: () => ['c1', 'c3'], node: 'h1', reason: /c1 has .* itself/ },
  },
  {
    title: 'nobody has the address',
    ...{ where: 'h1', breaks: () => 'true', heals: () => 'true' },
    words: () => ['c1', ipOf('c2').replace(/\.\d+$/, '.77')],
    ...{ node: 'h2', reason: /nobody has .*\.77 on node h2/ },
  },
  {
    title: 'the port for names is dropped on the host',
    ...{ where: 'h1', breaks: () => drop('input', 'udp dport 53'), heals: () => UNDROP },
    words: () => ['c1', ends.get('c1')?.gateway ?? '', '--udp', '53'],
    ...{ node: 'h1', reason: /udp dport 53 drop/ },
  },
  {
    title: 'a container’s own rules, of iptables',
    where: 'c2',
    breaks: () => 'iptables-nft -A INPUT -p icmp -j DROP',
    heals: () => 'iptables-nft -F INPUT',
    ...{ words: () => ['c1', 'c2'], node: 'h2', reason: /drops it on c2 \(node h2\): .*icmp.* drop/ },
  },
  {
    title: 'a container’s own rules for what it sends',
    ...{ where: 'c1', breaks: () => drop('output', 'ip protocol icmp'), heals: () => UNDROP },
    ...{ words: () => ['c1', 'c2'], node: 'h1', reason: /drops it on c1 \(node h1\): ip protocol icmp drop/ },
  },
  {
    title: 'a rule that rejects',
    where: 'h2',
    breaks: () => drop('forward', 'ip protocol icmp').replace(/drop'$/, "reject'"),
    heals: () => UNDROP,
    ...{ words: () => ['c1', 'c2'], node: 'h2', reason: /ip protocol icmp reject/ },
  },
  {
    title: 'port security',
    where: 'c1',
    breaks: () =>
      `ip addr add 10.100.77.9/32 dev eth0; ip route add ${ipOf('c2')} via ${ends.get('c1')?.gateway} src 10.100.77.9`,
    heals: () => `ip route del ${ipOf('c2')}; ip addr del 10.100.77.9/32 dev eth0`,
    ...{
      words: () => ['c1', 'c2'],
      node: 'h1',
      reason: /port security drops it: a source address that is not its own/,
    },
  },
  {
    title: 'two networks without a route',
    ...{ where: 'h1', breaks: () => 'true', heals: () => 'true' },
    ...{
      words: () => ['c1', 'g2.green'],
      node: 'h1',
      reason: /networks blue and green do not reach each other/,
    },
  },
  {
    title: 'two networks without a route, where weft’s rules are iptables’',
    ...{ where: 'h1', breaks: () => 'true', heals: () => 'true' },
    ...{ words: () => ['c4', 'g2'], node: 'h3', reason: /networks blue and green do not reach each other/ },
  },
  {
    title: 'an internal network',
    ...{ where: 'h1', breaks: () => 'true', heals: () => 'true' },
    ...{ words: () => ['i1', 'c2'], node: 'h1', reason: /network inner is internal/ },
  },
  {
    title: 'a packet that is too large for the interface',
    ...{ where: 'h1', breaks: () => 'true', heals: () => 'true' },
    ...{
      words: () => ['c1', 'c2', '--size', '1451'],
      node: 'h1',
      reason: /larger than the MTU of eth0 in c1/,
    },
  },
];

for (const { title, where, breaks, heals, words, node, reason, back, answered } of FAULTS)
  test.serial(`broken: ${title}`, async (t) => {
    const place = where === UNDERLAY ? lab.lab.existing(UNDERLAY) : lab.place(where);
    await place.must(['sh', '-c', breaks()]);
    try {
      const began = performance.now();
      const result = await trace(...words());
      t.true(performance.now() - began < LIMIT_MS, `${Math.round(performance.now() - began)} ms`);
      t.is(result.verdict, 'stopped', JSON.stringify(result));
      t.regex(result.reason ?? '', reason, JSON.stringify(result));
      t.is(result.node, node);
      t.not(result.fix, '');
      if (answered === true) return;
      t.is(
        result.hops.some((hop) => hop.seen === false),
        back !== true,
        JSON.stringify(result.hops),
      );
      t.true(result.back.some((hop) => hop.seen === false));
    } finally {
      await place.must(['sh', '-c', heals()]);
    }
  });

test.serial(
  'published ports: from a container, another host and the host itself; and nobody behind one',
  async (t) => {
    await lab.json('h2', 'port', 'publish', 'c2', '8080:80', '8081:81', '8053:5353/udp');
    t.teardown(() => lab.weft('h2', 'port', 'rm', 'c2', '8080', '8081', '8053/udp'));
    for (const words of [
      ['c1', lab.ipOf('h2'), '--tcp', '8080'],
      ['h1', 'h2', '--tcp', '8080'],
    ]) {
      const { verdict, node, reason } = await trace(...words);
      t.deepEqual([verdict, node], ['stopped', 'h2']);
      t.is(reason, 'nobody listens on TCP port 80 in c2');
    }
    await listen(t, 'c2', [TCP('', 80), TCP('127.0.0.1', 81), UDP(5353)].join('\n'));
    for (const [from, protocol, port] of [
      ['c1', 'tcp', '8080'],
      ['h1', 'tcp', '8080'],
      ['c4', 'udp', '8053'],
    ] as const) {
      const { verdict, reason, hops } = await trace(from, lab.ipOf('h2'), `--${protocol}`, port);
      t.is(verdict, 'reached', `${from}: ${reason}`);
      t.is(hops.at(-1)?.point, 'c2');
    }
    const loopback = await trace('c1', lab.ipOf('h2'), '--tcp', '8081');
    t.regex(`${loopback.reason} ${loopback.why}`, /nobody listens on TCP port 81 in c2 .*the loopback alone/);
  },
);

test.serial('an interface that is down, in either container', async (t) => {
  for (const [down, node] of [
    ['c3', 'h1'],
    ['c2', 'h2'],
  ] as const) {
    // weft sets it up again at its next comparison, which may be before the packet is sent.
    const found = await lab.until(`it is told that eth0 of ${down} is down`, async () => {
      await lab.sh(down, 'ip link set eth0 down');
      const result = await trace('c1', down);
      return result.reason === `eth0 in ${down} is down` && result;
    });
    t.deepEqual([found.verdict, found.node], ['stopped', node]);
    await lab.sh(down, 'ip link set eth0 up');
    await lab.until(`${down} is reached again`, () => lab.reaches('c1', ipOf(down)), { timeoutMs: 30_000 });
  }
});

test.serial(
  'a container that weft did not attach: its address is reached, and twice that of another is told',
  async (t) => {
    const bridge = (await lab.sh('h1', 'ip -o link show type bridge')).match(/wfbr\S+(?=:)/g) ?? [];
    const own = await lab.sh('h1', `ip -o addr show to ${ends.get('c1')?.gateway}`);
    const blue = bridge.find((name) => own.includes(name)) ?? '';
    const mac = '02:00:00:00:00:77';
    const strange = ipOf('c3').replace(/\.\d+$/, '.200');
    await lab.addContainers('twin');
    await lab.sh(
      'twin',
      `ip link add eth0 address ${mac} type veth peer name twin netns ${lab.ns('h1')}
     ip link set eth0 up; ip addr add ${strange}/24 dev eth0; ip addr add ${ipOf('c3')}/24 dev eth0
     ip -n ${lab.ns('h1')} link set twin master ${blue} up`,
    );
    const one = await trace('c1', strange);
    t.is(one.verdict, 'reached', one.reason ?? '');
    t.true(one.hops.some(({ point, seen: was }) => point === 'link twin' && was === true));
    await lab.sh('c1', `ip neigh replace ${ipOf('c3')} lladdr ${mac} nud permanent dev eth0`);
    const twice = await trace('c1', 'c3');
    t.is(twice.verdict, 'stopped');
    t.regex(twice.why, new RegExp(`${mac}, and c3 has`));
    await lab.sh('c1', `ip neigh del ${ipOf('c3')} dev eth0`);
    await lab.removeContainer('twin');
  },
);

test.serial('two hosts with one underlay address: the frames go to the other', async (t) => {
  const mac = '02:00:00:00:0b:ad';
  // h2 answers the agents' own questions meanwhile: the other host is the quicker one each time.
  const [entry, dev] = [`${lab.ipOf('h2')} lladdr ${mac} nud reachable`, 'dev eth0'];
  const other = lab.spawn('other-host', 'h1', [
    ...['sh', '-c', `while ip neigh replace ${entry} ${dev}; do echo said; sleep 0.01; done`],
  ]);
  await lab.says(other, 'said');
  const { verdict, node, reason, why } = await trace('c1', 'c2');
  await other.kill();
  await lab.sh('h1', 'ip neigh flush dev eth0 nud reachable');
  t.deepEqual([verdict, node], ['stopped', 'h1']);
  t.regex(`${reason} ${why}`, new RegExp(`${mac} for .* another host answers`));
});

test.serial('words: an id, an address, a name of several, none, and wrong calls', async (t) => {
  await lab.addContainers('d1', 'd2');
  await lab.attach('h1', 'blue', 'd1', '--name', 'twice');
  await lab.attach('h2', 'green', 'd2', '--name', 'twice');
  const call = async (...words: string[]): Promise<[number, string]> => {
    const { code, stderr } = await lab.weft('h1', 'trace', ...words);
    return [code, stderr];
  };
  const [code, text] = await call('c1', 'twice');
  t.is(code, 2);
  t.regex(text, /twice: means 2 containers: .*of blue on h1.*of green on h2/);
  t.is((await trace('c1', 'twice.blue')).verdict, 'reached');
  for (const [words, status, says] of [
    [['c1', 'nonsense'], 1, /nonsense: no endpoint, container or node is called so/],
    [['c1', 'c1'], 2, /both ends are the same/],
    [['c1', 'c2', '--tcp', '0'], 2, /tcp/],
    [['c1', 'c2', '--tcp', '1', '--udp', '1'], 2, /exclude each other/],
    [['c1', 'c2', '--size', '10'], 2, /size/],
    [['192.0.2.250', 'c2'], 1, /begins at a container or a node/],
    [['c1'], 2, /missing required argument/],
  ] as const) {
    const [status_, stderr] = await call(...words);
    t.is(status_, status, `${words.join(' ')}: ${stderr}`);
    t.regex(stderr, says);
  }
  const lookUp = await lab.weft('h1', 'dns', 'lookup', 'g2.green', '--from', lab.ns('c1'));
  t.regex(lookUp.stdout, /network green has that name, and the client is not on it/);
  await lab.weft('h1', 'detach', 'blue', lab.ns('d1'));
  await lab.weft('h2', 'detach', 'green', lab.ns('d2'));
});

test.serial('an agent that is killed leaves no rule behind, and one that hangs sees nothing', async (t) => {
  await lab.sh('h2', drop('input', 'udp dport 8472'));
  const tables = (host: string): Promise<string> => lab.sh(host, 'nft list tables');
  const running = lab.weft('h1', 'trace', 'c1', 'c2');
  await lab.until('the rules are there', async () => (await tables('h2')).includes('weft-trace'), {
    everyMs: 20,
  });
  await lab.process('agent-h2').kill();
  t.false((await tables('h2')).includes('weft-trace'));
  t.is((await running).code, 1);
  await lab.sh('h2', UNDROP);
  await lab.startAgents(['h2']);
  await lab.until('a whole way', async () =>
    (await trace('c1', 'c2')).hops.every((hop) => hop.seen === true),
  );
  const agent = lab.process('agent-h2');
  agent.signal('SIGSTOP');
  const { verdict, hops } = await trace('c1', 'c2');
  agent.signal('SIGCONT');
  t.is(verdict, 'reached');
  t.deepEqual(hops.at(-1), {
    ...{ node: 'h2', point: 'c2', seen: null },
    detail: hops.at(-1)?.detail ?? '',
  });
  t.regex(hops.at(-1)?.detail ?? '', /does not look on/);
});

test.serial('the cable of the other host is out: nothing is claimed of what nobody sees', async (t) => {
  await lab.lab.cut(lab.lab.host(3));
  t.teardown(() => lab.lab.heal(lab.lab.host(3)));
  const { verdict, reason, hops } = await trace('c1', 'c4');
  t.not(verdict, 'reached');
  t.regex(reason ?? '', /nobody answers for 192\.0\.2\.13|last seen at underlay eth0 on h1/);
  t.deepEqual(
    hops.filter(({ node }) => node === 'h3').map((hop) => hop.seen),
    [null],
  );
  await lab.lab.heal(lab.lab.host(3));
  await lab.until(
    'a whole way again',
    async () => (await trace('c1', 'c4')).hops.every((hop) => hop.seen === true),
    { timeoutMs: 30_000 },
  );
});

if (FLANNELD === undefined) {
  test.skip(`a flanneld at the other end is unknown (${NO_FLANNELD})`, () => undefined);
} else {
  test.serial('a flanneld at the other end is unknown, and its answer is seen', async (t) => {
    await lab.json('h1', 'network', 'create', 'theirs', '--subnet', '10.110.0.0/16');
    const { env, flanneld } = await startFlanneld(lab, 'h2', 'theirs', ['-ip-masq=false', '-iface=eth0']);
    const gateway = env.get('FLANNEL_SUBNET') ?? '';
    await lab.sh('h2', `ip link add br-t type bridge; ip addr add ${gateway} dev br-t; ip link set br-t up`);
    await lab.addContainers('f1');
    await lab.attach('h1', 'theirs', 'f1', '--name', 'f1');
    await lab.until('the flanneld’s subnet is reached', () => lab.reaches('f1', bare(gateway)));
    const whole = await trace('f1', bare(gateway));
    t.is(whole.verdict, 'reached', whole.reason ?? '');
    const other = whole.hops.at(-1);
    t.deepEqual([other?.node, other?.seen], [null, null]);
    t.regex(other?.detail ?? '', /flanneld at 192\.0\.2\.12/);
    const nobody = await trace('f1', bare(gateway).replace(/\.1$/, '.77'), '--udp', '7');
    t.deepEqual([nobody.verdict, nobody.node], ['unknown', null]);
    t.regex(nobody.reason ?? '', /last seen at underlay eth0 on h1/);
    await lab.weft('h1', 'detach', 'theirs', lab.ns('f1'));
    await flanneld.stop();
    await lab.sh('h2', 'ip link del br-t');
  });
}
