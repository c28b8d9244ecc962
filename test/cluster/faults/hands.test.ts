// Damage by hand: objects of weft deleted or changed by another program.
//
// What the kernel notifies of is repaired within a second, the rest at the next comparison, at most 10 s later; each repair is
// counted, and an object that keeps changing is reported.
import { setTimeout as delay } from 'node:timers/promises';

import { bare } from '../../lab/cluster.js';
import { createSix, cpuMs, metric, statusOf, tunnels } from './observe.js';
import { raise, suite, type Fault } from './suite.js';

/** Seconds to repair: by notification, as the requirement asks, or else by the next comparison. */
const NOTIFIED = 1;
const COMPARED = 10.5;

const fault = suite({
  lane: 'by hand',
  build: () => raise(3, { agents: ['h1', 'h2', 'h3'] }),
});

const VXLAN = '$(ip -br link show type vxlan | grep -o "^wfvx[0-9]*" | head -1)';
const BRIDGE = '$(ip -br link show type bridge | grep -o "^wfbr[0-9]*")';
const VETH = '$(ip -br link show type veth | grep -o "^wfep[0-9a-f]*" | head -1)';
const PEER = '$(ip route show proto 119 | grep -o "^[0-9.]*/24" | head -1)';

/** Everything of weft's in the host's kernel and in the container, as text. */
async function everything(f: Fault): Promise<string> {
  const { cluster } = f;
  const parts = await Promise.all([
    tunnels(cluster, 'h1'),
    cluster.sh(
      'h1',
      'ip route show proto kernel | grep " wf"; ip -br link | grep "^wf" | sed "s/@[^ ]*//" | sort; ip -o addr | grep " wf" | sed "s/^[0-9]*: //;s/ *valid_lft.*//" | sort; ' +
        'ip -br link show master $(ip -br link show type bridge | grep -o "^wfbr[0-9]*") | sed "s/@[^ ]*//" | sort; ' +
        'sysctl net.ipv4.ip_forward; nft list ruleset | grep -v "^#" | sed "s/packets [0-9]* bytes [0-9]*//;s/ # handle [0-9]*//"',
    ),
    cluster.sh(
      'c1',
      'ip -br addr show dev eth0 | sed "s/@[^ ]*//"; ip -br link show eth0 | sed "s/@[^ ]*//"; ip route',
    ),
  ]);
  return (
    parts
      .join('\n')
      // Chosen by the kernel: link-local addresses, and the MAC address of the host end of a veth pair.
      .replaceAll(/fe80::(?!1\/)[0-9a-f:]+\/64/g, '')
      .replaceAll(/(wfep\S+\s+\S+\s+)[0-9a-f:]{17}/g, '$1')
      // What the kernel counts of each container's packets.
      .replaceAll(/^\tset (?:loss|queries|connections)\w* \{\n(?:\t\t.*\n)*\t\}\n/gm, '')
      // A connected route that weft has restored carries weft's protocol number.
      .replaceAll(/proto (?:kernel|119) /g, '')
      .replaceAll(/ +/g, ' ')
      .replaceAll(/ +$/gm, '')
  );
}

/** Damages one thing and waits until everything is as before: peers are refreshed in the background meanwhile. */
async function damaged(f: Fault, where: string, command: string, seconds: number): Promise<void> {
  const { cluster } = f;
  const before = await everything(f);
  const repaired = (await statusOf(cluster, 'h1')).node.driftRepaired;
  f.begins();
  await cluster.sh(where, command);
  f.ends();
  const same = async (): Promise<true> => {
    const now = (await everything(f)).split('\n');
    const was = before.split('\n');
    const differences = [
      ...was.filter((line) => !now.includes(line)).map((line) => `- ${line}`),
      ...now.filter((line) => !was.includes(line)).map((line) => `+ ${line}`),
    ];
    if (differences.length > 0) throw new Error(differences.join('\n'));
    return true;
  };
  await f.within(seconds, 'all as before', same, { everyMs: 20 });
  await f.flowsWithin(seconds + 0.5);
  f.check((await statusOf(cluster, 'h1')).node.driftRepaired > repaired, 'counted');
  await f.streamLives();
}

for (const [what, command] of [
  ['a route deleted', `ip route del ${PEER}`],
  ['a route changed', `ip route replace ${PEER} dev lo proto 119`],
  ['every neighbour deleted', `ip neigh flush dev ${VXLAN} nud permanent`],
  [
    'a neighbour changed',
    `ip neigh replace $(ip neigh show dev ${VXLAN} nud permanent | head -1 | cut -d" " -f1) lladdr 02:00:00:00:00:99 dev ${VXLAN} nud permanent`,
  ],
  [
    'an FDB entry deleted',
    `bridge fdb del $(bridge fdb show dev ${VXLAN} | grep dst | head -1 | cut -d" " -f1) dev ${VXLAN}`,
  ],
  [
    'an FDB entry changed',
    `bridge fdb replace $(bridge fdb show dev ${VXLAN} | grep dst | head -1 | cut -d" " -f1) dev ${VXLAN} dst 192.0.2.99`,
  ],
  ['the vxlan device deleted', `ip link del ${VXLAN}`],
  ['the vxlan device down', `ip link set ${VXLAN} down`],
  ['the vxlan device’s MAC rewritten', `ip link set ${VXLAN} address 02:00:00:00:00:01`],
  ['the vxlan device’s MTU changed', `ip link set ${VXLAN} mtu 1280`],
  ['the bridge deleted', `ip link del ${BRIDGE}`],
  ['the bridge down', `ip link set ${BRIDGE} down`],
  ['the bridge’s MAC rewritten', `ip link set ${BRIDGE} address 02:00:00:00:00:02`],
  ['the bridge’s address deleted', `ip addr flush dev ${BRIDGE}`],
  ['the bridge’s own route deleted', `ip route del $(ip route show dev ${BRIDGE} | head -1 | cut -d" " -f1)`],
  ['the tunnel’s address deleted', `ip addr flush dev ${VXLAN}`],
  ['a bridge port taken out', `ip link set ${VETH} nomaster`],
  ['a veth deleted', `ip link del ${VETH}`],
  ['a veth down', `ip link set ${VETH} down`],
  ['forwarding turned off', 'sysctl -qw net.ipv4.ip_forward=0'],
  ['the nftables rules flushed', 'nft flush ruleset'],
] as const) {
  fault(what, (f) => damaged(f, 'h1', command, NOTIFIED));
}

for (const [what, command] of [
  ['an address in a container deleted', 'ip addr flush dev eth0'],
  ['a route in a container deleted', 'ip route flush dev eth0'],
  ['a container’s MAC rewritten', 'ip link set eth0 address 02:00:00:00:00:03'],
  ['a container’s interface down', 'ip link set eth0 down'],
  [
    'a container’s interface renamed',
    'ip link set eth0 down; ip link set eth0 name eth7; ip link set eth7 up',
  ],
] as const) {
  fault(what, (f) => damaged(f, 'c1', command, COMPARED));
}

fault('IPv6: ways to a peer, the connected route, the gateway’s address and forwarding', async (f) => {
  const { cluster } = f;
  await cluster.addContainers('c6', 'c7');
  await createSix(cluster);
  await cluster.attach('h1', 'six', 'c6');
  const there = await cluster.attach('h3', 'six', 'c7');
  const reached = (): Promise<boolean> => cluster.reaches('c6', bare(there.ip6 ?? ''));
  await cluster.until('they reach each other', reached);
  const tunnel = '$(ip -br link show type vxlan | grep -o "^wfvx6-[0-9]*")';
  const bridge = '$(ip -br link show type vxlan | grep -o "^wfvx6-[0-9]*" | sed s/wfvx6-/wfbr/)';
  const everything6 = async (): Promise<string> =>
    (
      await cluster.sh(
        'h1',
        `ip -6 route show | grep -E "wf(br|vx6)" | grep -v fe80 | sort; ip -6 neigh show dev ${tunnel} nud permanent; bridge fdb show dev ${tunnel} | grep dst; ip -br -6 addr show dev ${bridge}; sysctl net.ipv6.conf.all.forwarding`,
      )
    ).replaceAll(/fe80::\S+| proto (?:kernel|119)| (?:pref|metric) \S+| +$/gm, '');
  const before = await everything6();
  for (const [what, command, seconds] of [
    ['a route', 'ip -6 route del $(ip -6 route show proto 119 | grep onlink | cut -d" " -f1)', NOTIFIED],
    ['neighbours', `ip -6 neigh flush dev ${tunnel} nud permanent`, NOTIFIED],
    [
      'an FDB entry',
      `bridge fdb del $(bridge fdb show dev ${tunnel} | grep dst | cut -d" " -f1) dev ${tunnel}`,
      NOTIFIED,
    ],
    ['the tunnel', `ip link del ${tunnel}`, NOTIFIED],
    ['forwarding', 'sysctl -qw net.ipv6.conf.all.forwarding=0', NOTIFIED],
    ['the gateway’s address', `ip -6 addr flush dev ${bridge} scope global`, NOTIFIED],
    [
      'the connected route',
      `ip -6 route del $(ip -6 route show dev ${bridge} | grep -v fe80 | head -1 | cut -d" " -f1) dev ${bridge}`,
      COMPARED,
    ],
  ] as const) {
    const repaired = (await statusOf(cluster, 'h1')).node.driftRepaired;
    f.begins();
    await cluster.sh('h1', command);
    f.ends();
    await f.within(seconds, what, async () => {
      const now = await everything6();
      if (now !== before) throw new Error(`${before}\nbecame\n${now}`);
      return true;
    });
    await cluster.until('traffic flows', reached);
    f.check((await statusOf(cluster, 'h1')).node.driftRepaired > repaired, 'counted');
  }
  await f.lossless();
  await cluster.json('h1', 'detach', 'six', cluster.ns('c6'));
  await cluster.json('h3', 'detach', 'six', cluster.ns('c7'));
  await cluster.json('h1', 'network', 'rm', 'six');
  await Promise.all(['c6', 'c7'].map((name) => cluster.removeContainer(name)));
});

fault('the iptables rules of a host whose policy is DROP flushed', async (f) => {
  const { cluster } = f;
  f.begins();
  await cluster.sh('h1', 'iptables -P FORWARD DROP');
  f.ends();
  await f.flowsWithin(COMPARED);
  f.check(/-P FORWARD DROP[^]*WEFT-ACCEPT/.test(await cluster.sh('h1', 'iptables -S')), 'the policy stays');
  f.begins();
  await cluster.sh('h1', 'iptables -F');
  f.ends();
  await f.flowsWithin(COMPARED);
  await cluster.sh('h1', 'iptables -P FORWARD ACCEPT');
  await f.streamLives();
});

fault('something keeps coming back', async (f) => {
  const { cluster } = f;
  const agent = cluster.process('agent-h1');
  const spoiler = cluster.spawn('spoiler', 'h1', [
    'sh',
    '-c',
    `while :; do ip link set ${VXLAN} mtu 1281; sleep 0.05; done`,
  ]);
  f.begins();
  const idle = cpuMs(agent);
  await f.within(10, 'it is reported', async () =>
    (await statusOf(cluster, 'h1')).problems.some(
      ({ what, why }) => what.startsWith('vxlan') && /changed by something else/.test(why),
    ),
  );
  const before = await metric(cluster, 'h1', 'weft_drift_repaired_total');
  const cpu = cpuMs(agent);
  const seconds = f.pick(5, 30);
  await delay(seconds * 1000);
  const repairs = (await metric(cluster, 'h1', 'weft_drift_repaired_total')) - before;
  if (repairs > 1 + seconds / 8) f.t.log(agent.tail(30));
  f.check(
    repairs <= 1 + seconds / 8,
    `repaired by the regular comparison only (${repairs} times in ${seconds} s)`,
  );
  f.check((cpuMs(agent) - cpu) / seconds < 200, 'no busy loop');
  void idle;
  await spoiler.kill();
  f.ends();
  await f.within(
    COMPARED,
    'repaired when it is over',
    async () => !(await cluster.sh('h1', `ip link show ${VXLAN}`)).includes('1281'),
  );
  await f.lossless();
});

fault('a route of another program is in the way', async (f) => {
  const { cluster } = f;
  const to = f.site.b.gateway.replace(/1$/, '0/24');
  f.begins();
  // In one process: the agent may react to the first before a second process has started.
  await cluster.sh('h1', `printf 'route del ${to}\\nroute add blackhole ${to}\\n' | ip -batch -`);
  await cluster.until('it is reported as a conflict', async () => {
    const { problems } = await statusOf(cluster, 'h1');
    return problems.some(({ what, why }) => what.includes(to) && why.includes('weft did not make it'));
  });
  f.checked.push('reported as a conflict');
  f.check((await cluster.sh('h1', 'ip route')).includes(`blackhole ${to}`), 'and left alone');
  await cluster.sh('h1', `ip route del blackhole ${to}`);
  f.ends();
  await f.flowsWithin(NOTIFIED);
  await f.streamLives();
  await cluster.until('the report ends', async () =>
    (await statusOf(cluster, 'h1')).problems.every(({ why }) => !why.includes('weft did not make it')),
  );
});

fault('a container that is gone', async (f) => {
  const { cluster } = f;
  await cluster.addContainers('c9');
  const ended = await cluster.attach('h1', 'blue', 'c9');
  const key = `/weft/networks/blue/endpoints/${ended.id}`;
  await cluster.until('etcd has it', async () => (await cluster.etcdctl('get', '--keys-only', key)) !== '');
  f.begins();
  await cluster.removeContainer('c9');
  await f.within(
    2,
    'its endpoint is deleted',
    async () => (await cluster.etcdctl('get', '--keys-only', key)) === '',
  );
  await cluster.addContainers('c9');
  const again = await cluster.attach('h1', 'blue', 'c9', '--ip', bare(ended.ip));
  f.same(again.ip, ended.ip, 'its address is free again');
  await cluster.json('h1', 'detach', 'blue', cluster.ns('c9'));
  await cluster.removeContainer('c9');
  await f.lossless();
});
