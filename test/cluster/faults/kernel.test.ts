// Kernel faults: lost notifications, refused requests, missing features.
//
// The agent stays up, running networks go on, and `weft status` reports the cause and the next step.
import { setTimeout as delay } from 'node:timers/promises';

import { bare } from '../../lab/cluster.js';
import { WEFT } from '../../lab/lab.js';
import {
  createSix,
  cpuMs,
  deletePeer,
  metric,
  metricSum,
  putPeer,
  loggedSince,
  statusOf,
  tunnels,
} from './observe.js';
import { raise, suite, type Fault } from './suite.js';

/** At the next comparison. */
const COMPARED = 10.5;

const fault = suite({
  lane: 'kernel',
  build: () => raise(2, { containers: ['c3', 'c4'] }),
});

type Problem = Awaited<ReturnType<typeof statusOf>>['problems'][number];

/** Waits until `weft status` of h1 has such a problem. */
const reported = (f: Fault, what: string, matches: (problem: Problem) => boolean): Promise<Problem> =>
  f.within(COMPARED, what, async () => (await statusOf(f.cluster, 'h1')).problems.find(matches));

const well = (f: Fault): Promise<unknown> =>
  f.within(COMPARED, 'status ok again', async () => {
    const { health, problems } = await statusOf(f.cluster, 'h1');
    if (health !== 'ok') throw new Error(JSON.stringify(problems));
    return true;
  });

/** Not measured: waits until the problems that the line caused are over. */
const calm = (f: Fault): Promise<unknown> =>
  f.cluster.until('status ok', async () => (await statusOf(f.cluster, 'h1')).health === 'ok');

const pidOf = (f: Fault): number => f.cluster.process('agent-h1').pid;

/** Messages that the rtnetlink sockets in h1's namespace dropped: netlink's own count. */
async function dropped(f: Fault): Promise<number> {
  const [head = '', ...rows] = (await f.cluster.sh('h1', 'cat /proc/net/netlink')).trim().split('\n');
  const names = head.trim().split(/\s+/);
  const field = (row: string, name: string): string => row.trim().split(/\s+/)[names.indexOf(name)] ?? '';
  return rows
    .filter((row) => field(row, 'Eth') === '0' && Number.parseInt(field(row, 'Groups'), 16) !== 0)
    .reduce((sum, row) => sum + Number(field(row, 'Drops')), 0);
}

const FLOOD =
  'for i in $(seq 0 99); do for j in $(seq 1 250); do echo "route add 198.18.$i.$j/32 dev eth0"; echo "route del 198.18.$i.$j/32 dev eth0"; done; done | ip -batch -';

fault('notifications lost (ENOBUFS)', async (f) => {
  const { cluster } = f;
  const agent = cluster.process('agent-h1');
  // A peer without traffic: the damage itself then loses no packet.
  await putPeer(cluster, '10.100.250.0/24', 250);
  const before = await cluster.until('the peer is known', async () => {
    const now = await tunnels(cluster, 'h1');
    return now.includes('192.0.2.250') && now;
  });
  const { driftRepaired } = (await statusOf(cluster, 'h1')).node;
  const losses = await metric(cluster, 'h1', 'weft_notifications_lost_total');
  const drops = await dropped(f);
  const notified = (): Promise<number> =>
    metricSum(cluster, 'h1', 'weft_reconcile_duration_seconds_count', 'reason="notified"');
  const looked = await notified();
  const from = agent.log().length;
  f.begins();
  agent.signal('SIGSTOP');
  await cluster.sh('h1', FLOOD);
  const flooded = await dropped(f);
  f.check(flooded > drops, 'the socket overflowed');
  const link = (await cluster.sh('h1', 'ip -br link show type vxlan')).split(' ')[0] ?? '';
  await cluster.sh(
    'h1',
    `ip route del 10.100.250.0/24; ip neigh del 10.100.250.0 dev ${link}; ` +
      `bridge fdb del $(bridge fdb show dev ${link} | grep 192.0.2.250 | cut -d" " -f1) dev ${link} dst 192.0.2.250 self`,
  );
  f.check((await dropped(f)) > flooded, 'the damage was not notified');
  agent.signal('SIGCONT');
  f.ends();
  await Promise.all([
    f.within(COMPARED, 'repaired', async () => (await tunnels(cluster, 'h1')) === before),
    f.within(1, 'the loss is counted', async () => {
      return (await metric(cluster, 'h1', 'weft_notifications_lost_total')) > losses;
    }),
    f.within(1.5, 'everything is compared for it', async () => (await notified()) > looked),
  ]);
  f.check((await statusOf(cluster, 'h1')).node.driftRepaired >= driftRepaired + 3, 'repairs are counted');
  const cpu = cpuMs(agent);
  const compared = await metricSum(cluster, 'h1', 'weft_reconcile_duration_seconds_count');
  const seconds = f.pick(4, 20);
  await delay(seconds * 1000);
  f.check((cpuMs(agent) - cpu) / seconds < 200, 'no busy loop');
  const more = (await metricSum(cluster, 'h1', 'weft_reconcile_duration_seconds_count')) - compared;
  f.check(more <= 2 + seconds / 10, `not compared again and again (${more} times in ${seconds} s)`);
  const lines = loggedSince(agent, from).filter((line) => /notifications.*lost/.test(line));
  f.same(lines.length, 1, 'one line of log');
  f.same(agent.pid, pidOf(f), 'the process stays up');
  f.check(agent.isRunning, 'the process stays up');
  await f.lossless();
  await deletePeer(cluster, '10.100.250.0/24');
  await calm(f);
});

fault('IPv6 turned off for new links, on the host and in a container', async (f) => {
  const { cluster } = f;
  const isOff = (where: string, link: string): Promise<string> =>
    cluster.sh(where, `cat /proc/sys/net/ipv6/conf/${link}/disable_ipv6`);
  await createSix(cluster);
  const peer = await cluster.attach('h2', 'six', 'c4');
  const agent = cluster.process('agent-h1');
  f.begins();
  await cluster.sh('h1', 'sysctl -qw net.ipv6.conf.default.disable_ipv6=1');
  // As Docker makes the namespace of every container.
  await cluster.sh('c3', 'sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1');
  const made = await cluster.attach('h1', 'six', 'c3');
  f.ends();
  f.same(made.ip6 === null, false, 'the container has an IPv6 address');
  await f.within(1, 'IPv6 works', () => cluster.reaches('c3', bare(peer.ip6 ?? '')));
  f.check(await cluster.reaches('c3', bare(peer.ip)), 'and IPv4');
  await well(f);
  f.same((await isOff('h1', 'default')).trim(), '1', 'the host’s own setting is left alone');
  f.same((await isOff('c3', 'lo')).trim(), '1', 'and that of the container’s other links');
  await cluster.sh('c3', `sysctl -qw net.ipv6.conf.${made.ifname}.disable_ipv6=1`);
  await f.within(COMPARED, 'turned off by hand, it is on again', () =>
    cluster.reaches('c3', bare(peer.ip6 ?? '')),
  );
  f.same([agent.isRunning, agent.pid], [true, pidOf(f)], 'the process stays up');
  await f.lossless();
  await cluster.sh('h1', 'sysctl -qw net.ipv6.conf.default.disable_ipv6=0');
  await cluster.sh('c3', 'sysctl -qw net.ipv6.conf.all.disable_ipv6=0 net.ipv6.conf.default.disable_ipv6=0');
  await cluster.json('h1', 'detach', 'six', cluster.ns('c3'));
  await cluster.json('h2', 'detach', 'six', cluster.ns('c4'));
  await cluster.json('h1', 'network', 'rm', 'six');
  await cluster.until('h1 has left it', async () => {
    const { networks } = await statusOf(cluster, 'h1');
    return networks.every(({ name }) => name !== 'six');
  });
});

fault('a right missing: an agent without CAP_NET_ADMIN', async (f) => {
  const { cluster } = f;
  const before = await tunnels(cluster, 'h1');
  f.begins();
  await cluster.process('agent-h1').kill();
  cluster.spawn('agent-h1', 'h1', [
    ...['setpriv', '--bounding-set=-net_admin', '--inh-caps=-net_admin', '--'],
    ...[WEFT, 'agent', ...cluster.agentFlags('h1')],
  ]);
  const without = cluster.process('agent-h1');
  f.same(await without.ended, 1, 'it ends with 1');
  const log = without.log();
  f.check(log.includes('has no CAP_NET_ADMIN') && log.includes('Run it as root'), 'with cause and next step');
  f.same(
    log
      .trim()
      .split('\n')
      .filter((line) => line.includes(' error ')).length,
    1,
    'in one line of log',
  );
  f.same(await tunnels(cluster, 'h1'), before, 'nothing is touched');
  await cluster.startAgents(['h1']);
  f.ends();
  await well(f);
  f.same((await statusOf(cluster, 'h1')).node.stepsApplied, 0, 'no step when it is back');
  await f.lossless();
});

fault('a request refused: another program’s link has the name', async (f) => {
  const { cluster } = f;
  await cluster.json('h1', 'network', 'create', 'late', '--subnet', '10.109.0.0/16', '--vni', '4777');
  const peer = await cluster.attach('h2', 'late', 'c4');
  const agent = cluster.process('agent-h1');
  f.begins();
  await cluster.sh('h1', 'ip link add wfbr4777 type veth peer name other0');
  const refused = await cluster.weft('h1', 'attach', 'late', cluster.ns('c3'));
  f.same(refused.code, 1, 'an attach is refused');
  f.check(
    refused.stderr.includes('wfbr4777') && /Nothing was left/.test(refused.stderr),
    'with a sentence that names the link',
  );
  f.same((await cluster.sh('c3', 'ip -br link | grep -c eth || true')).trim(), '0', 'nothing half made');
  const problem = await reported(f, 'reported in status', ({ what }) => what.includes('wfbr4777'));
  f.check(
    /did not make/.test(problem.why) && /Remove or rename/.test(problem.fix),
    'with cause and next step',
  );
  f.check((await cluster.sh('h1', 'ip -d link show wfbr4777')).includes('veth'), 'and left alone');
  await cluster.sh('h1', 'ip link del wfbr4777');
  f.ends();
  await well(f);
  f.check((await cluster.weft('h1', 'attach', 'late', cluster.ns('c3'))).code === 0, 'attach works');
  await f.within(COMPARED, 'and traffic', () => cluster.reaches('c3', bare(peer.ip)));
  f.same([agent.isRunning, agent.pid], [true, pidOf(f)], 'the process stays up');
  await f.lossless();
  await cluster.json('h1', 'detach', 'late', cluster.ns('c3'));
  await cluster.json('h2', 'detach', 'late', cluster.ns('c4'));
  await cluster.json('h1', 'network', 'rm', 'late');
});

/** A network in flannel's words, with its default VNI of 1, and a container on h2. */
async function flannelNetwork(f: Fault, name: string, third: number): Promise<string> {
  const { cluster } = f;
  const config = { Network: `10.${third}.0.0/16`, Backend: { Type: 'vxlan' } };
  await cluster.etcdctl('put', `/weft/networks/${name}/config`, JSON.stringify(config));
  const peer = await cluster.until('the network is known', () => cluster.attach('h2', name, 'c4'));
  return bare(peer.ip);
}

async function removeNetwork({ cluster }: Fault, name: string): Promise<void> {
  await cluster.json('h1', 'detach', name, cluster.ns('c3'));
  await cluster.json('h2', 'detach', name, cluster.ns('c4'));
  await cluster.json('h1', 'network', 'rm', name);
  await cluster.until('both have left it', async () => {
    const left = await Promise.all(['h1', 'h2'].map((host) => statusOf(cluster, host)));
    return left.every(({ networks }) => networks.every((network) => network.name !== name));
  });
}

/** The one problem of h1. */
async function onlyProblem(f: Fault, matches: RegExp): Promise<Problem> {
  const problem = await reported(f, 'reported in status', ({ why }) => matches.test(why));
  f.same((await statusOf(f.cluster, 'h1')).problems, [problem], 'and nothing that follows from it');
  return problem;
}

fault('a request refused: a stopped flanneld’s tunnel has the VNI', async (f) => {
  const { cluster } = f;
  const ip = await flannelNetwork(f, 'old', 112);
  const subnet = ip.replace(/\d+$/, '0');
  f.begins();
  await cluster.sh(
    'h1',
    `ip link add flannel.1 type vxlan id 1 dev eth0 local ${cluster.ipOf('h1')} dstport 8472 nolearning && ip link set flannel.1 up && ip route add ${subnet}/24 via ${subnet} dev flannel.1 onlink`,
  );
  const { code, stderr } = await cluster.weft('h1', 'attach', 'old', cluster.ns('c3'));
  f.same(code, 0, 'an attach is done');
  f.check(/warning: network old has no tunnel.*flannel\.1/.test(stderr), 'and warned of');
  const { fix } = await onlyProblem(f, /flannel\.1.* VNI 1 /);
  f.check(fix.includes('ip link delete flannel.1'), 'with the next step');
  await cluster.sh('h1', 'ip link delete flannel.1');
  f.ends();
  await well(f);
  f.check(await cluster.reaches('c3', ip), 'and traffic');
  await f.lossless();
  await removeNetwork(f, 'old');
});

fault('a request refused: a process has the tunnel’s UDP port', async (f) => {
  const { cluster } = f;
  await cluster.json('h1', 'network', 'create', 'held', '--subnet', '10.113.0.0/16', '--port', '18472');
  const peer = await cluster.attach('h2', 'held', 'c4');
  f.begins();
  const code =
    "const s = require('dgram').createSocket('udp4'); s.bind(18472, () => console.log('it holds the port'))";
  const holder = cluster.spawn('holder', 'h1', [process.execPath, '-e', code]);
  await cluster.until('the port is held', () => holder.log().includes('it holds the port'));
  const { stderr } = await cluster.weft('h1', 'attach', 'held', cluster.ns('c3'));
  f.check(/warning: network held has no tunnel.*UDP port 18472/.test(stderr), 'an attach warns');
  const { what, fix } = await onlyProblem(f, /\(pid \d+\) has it/);
  f.check(what === 'UDP port 18472' && fix.startsWith('Stop it'), 'with the next step');
  await holder.kill();
  f.ends();
  await well(f);
  f.check(await cluster.reaches('c3', bare(peer.ip)), 'and traffic');
  await f.lossless();
  await removeNetwork(f, 'held');
});

fault('requests refused: kernel settings that are wrong and cannot be set', async (f) => {
  const { cluster } = f;
  await cluster.process('agent-h1').stop();
  const setting = 'net.ipv4.conf.all.forwarding';
  const restart = async (prepare: string): Promise<void> => {
    const flags = cluster.agentFlags('h1').map((word) => `'${word}'`);
    // `ip netns exec` gives the agent mounts of its own.
    cluster.spawn('agent-h1', 'h1', ['sh', '-c', `${prepare}exec ${WEFT} agent ${flags.join(' ')}`]);
    await cluster.says(cluster.process('agent-h1'), 'the agent serves');
  };
  await restart('mount --bind /proc/sys /proc/sys && mount -o remount,ro,bind /proc/sys && ');
  await well(f);
  f.begins();
  await cluster.sh('h1', `sysctl -qw ${setting}=0`);
  const { fix } = await onlyProblem(f, /cannot set them: EROFS$/);
  const command = /sysctl -w [^;]*?(?=\.(?: |$))/.exec(fix)?.[0] ?? '';
  f.check(/net\.ipv4\.ip_forward=1/.test(command), 'with the command that sets them');
  await cluster.sh('h1', command);
  f.ends();
  await well(f);
  await cluster.process('agent-h1').stop();
  await cluster.startAgents(['h1']);
  await calm(f);
});

fault('a kernel feature missing: 802.1Q and VLAN filtering', async (f) => {
  const { cluster } = f;
  interface Capable {
    node: { capabilities: { name: string; available: boolean; why: string }[] };
  }
  // The kernel is probed directly, not through weft.
  const asked = await cluster.try(
    'c3',
    'ip link add probe type bridge vlan_filtering 1 && ip -d link show probe | grep -q "vlan_filtering 1" && ip link add link probe name probe.2 type vlan id 2; status=$?; ip link del probe; exit $status',
  );
  const { capabilities } = (await cluster.json<Capable>('h1', 'status')).node;
  f.same(
    capabilities.every(({ available }) => available),
    asked.code === 0,
    'status says what the kernel can',
  );
  if (asked.code === 0) return;
  const lacking = capabilities.filter(({ available }) => !available).map(({ why }) => why);
  const create = ['--driver', 'vlan', '--vlan', '100', '--subnet', '10.111.0.0/24'];
  const before = await cluster.sh('h1', 'ip -br link; nft list ruleset | grep -v packets');
  f.begins();
  const refused = await cluster.weft('h1', 'network', 'create', 'lan', ...create);
  f.same(refused.code, 1, 'network create is refused');
  f.check(
    lacking.some((why) => refused.stderr.includes(why)),
    'and says what is missing',
  );
  f.same((await cluster.weft('h1', 'network', 'inspect', 'lan')).code, 1, 'no network is made');
  // Written by hand, so that only the node can refuse it.
  const config = { Network: '10.111.0.0/24', Backend: { Type: 'weft-vlan' }, Weft: { VLAN: 100 } };
  await cluster.etcdctl('put', '/weft/networks/lan/config', JSON.stringify(config));
  const attach = await cluster.until('the network is known', async () => {
    const one = await cluster.weft('h1', 'attach', 'lan', cluster.ns('c3'));
    return !/no such network/.test(one.stderr) && one;
  });
  f.same(attach.code, 1, 'an attach is refused');
  f.check(
    lacking.some((why) => attach.stderr.includes(why)),
    'and says what is missing',
  );
  f.same((await cluster.sh('c3', 'ip -br link | grep -c eth || true')).trim(), '0', 'nothing half made');
  f.same(
    await cluster.sh('h1', 'ip -br link; nft list ruleset | grep -v packets'),
    before,
    'nothing half made',
  );
  f.check((await cluster.attach('h1', 'blue', 'c3')).ip.startsWith('10.100.'), 'other networks go on');
  await cluster.json('h1', 'detach', 'blue', cluster.ns('c3'));
  await cluster.etcdctl('del', '--prefix', '/weft/networks/lan/');
  f.check(cluster.process('agent-h1').isRunning, 'the process stays up');
  await f.lossless();
  await calm(f);
});

/** Starts the agent of h1 with the nftables library hidden; `ip netns exec` gives it mounts of its own. */
async function startWithoutNftables(f: Fault, ...flags: string[]): Promise<void> {
  const { cluster } = f;
  const command = [WEFT, 'agent', ...cluster.agentFlags('h1'), ...flags].map((word) => `'${word}'`).join(' ');
  const hide =
    "for library in $(ldconfig -p | sed -n 's/.*libnftables.so.1 .*=> //p'); do mount --bind /dev/null $(readlink -f $library); done";
  cluster.spawn('agent-h1', 'h1', ['sh', '-c', `${hide} && exec ${command}`]);
  await Promise.resolve();
}

fault('a feature missing: no nftables', async (f) => {
  const { cluster } = f;
  const firewallOf = async (): Promise<string> =>
    (await cluster.json<{ node: { firewall: string } }>('h1', 'status')).node.firewall;
  f.same(await firewallOf(), 'nftables', 'nftables before');
  f.begins();
  await cluster.process('agent-h1').kill();
  // Required by name and missing: an error, and no fallback.
  await startWithoutNftables(f, '--firewall', 'nftables');
  const wanted = cluster.process('agent-h1');
  f.same(await wanted.ended, 1, 'asked for by name: it ends with 1');
  f.check(
    /libnftables\.so\.1 cannot be loaded/.test(wanted.tail()) &&
      /apt-get install libnftables1/.test(wanted.tail()),
    'and says what to install',
  );
  // By default weft falls back to iptables.
  await startWithoutNftables(f);
  await cluster.says(cluster.process('agent-h1'), 'the agent serves');
  f.same(await firewallOf(), 'iptables', 'iptables instead');
  const made = await cluster.attach('h1', 'blue', 'c3');
  f.check(await cluster.reaches('c3', bare(f.site.b.ip)), 'attach works');
  f.check(await cluster.reaches('c3', '198.51.100.1'), 'and traffic to the outside');
  f.check(made.ip.startsWith('10.100.'), 'attach works');
  await cluster.json('h1', 'detach', 'blue', cluster.ns('c3'));
  await cluster.process('agent-h1').stop();
  await cluster.startAgents(['h1']);
  f.ends();
  f.same(await firewallOf(), 'nftables', 'nftables when it is back');
  f.same((await cluster.sh('h1', 'iptables -S | grep -c WEFT || true')).trim(), '0', 'no rule is left over');
  await f.lossless();
  await calm(f);
});

fault('IPv6 forwarded on a host that depends on router advertisements', async (f) => {
  const { cluster } = f;
  const acceptRa = (): Promise<string> => cluster.sh('h1', 'cat /proc/sys/net/ipv6/conf/eth0/accept_ra');
  const about = ({ what }: Problem): boolean => what.includes('IPv6 of eth0');
  await cluster.sh('h1', 'ip -6 route add default via fe80::1 dev eth0 proto ra metric 2048');
  f.begins();
  await createSix(cluster);
  await cluster.attach('h1', 'six', 'c3');
  const { why, fix } = await reported(f, 'reported in status', about);
  f.check(why.includes('router advertisements') && why.includes('accept_ra'), 'with the cause');
  f.check(fix.includes('sysctl net.ipv6.conf.eth0.accept_ra=2'), 'with the next step');
  f.same((await acceptRa()).trim(), '1', 'the host’s link is left alone');
  await cluster.sh('h1', 'sysctl -qw net.ipv6.conf.eth0.accept_ra=2');
  f.ends();
  await well(f);
  await cluster.sh(
    'h1',
    'sysctl -qw net.ipv6.conf.eth0.accept_ra=1; ip -6 route del default via fe80::1 dev eth0',
  );
  await f.lossless();
  await cluster.json('h1', 'detach', 'six', cluster.ns('c3'));
  await cluster.json('h1', 'network', 'rm', 'six');
});
