// The backend udp: the pump's life, what it takes from whom, and flannel's formats.
import { existsSync, readFileSync } from 'node:fs';
import { getPriority } from 'node:os';
import { join } from 'node:path';

import test, { type ExecutionContext } from 'ava';

import { bare, Cluster, type EndpointJson } from '../lab/cluster.js';
import { FLANNELD, NO_FLANNELD, startFlanneld } from '../lab/flanneld.js';
import { shareAmongTests } from '../lab/fresh.js';
import { CHECKOUT } from '../lab/lab.js';
import { ping } from '../lab/traffic.js';

const PORT = 8285;
const PREFIX = '/weft/networks';

let lab: Cluster;
let a: EndpointJson;
let b: EndpointJson;

interface NetworkJson {
  backend: string;
  port: number;
  move: unknown;
  leases: { node: string | null; subnet: string; publicIp: string }[];
}
interface StatusJson {
  problems: { what: string; why: string; fix: string }[];
}

/** The network `ud`, with c1 on h1 and c2 on h2. */
async function setUp(): Promise<void> {
  lab = await Cluster.create(2);
  await lab.addContainers('c1', 'c2');
  await lab.startController();
  await lab.startAgents(['h1', 'h2']);
  await lab.json('h1', ...'network create ud --subnet 10.114.0.0/16 --backend udp'.split(' '));
  [a, b] = await Promise.all([lab.attach('h1', 'ud', 'c1'), lab.attach('h2', 'ud', 'c2')]);
  await reached();
}

shareAmongTests(test, setUp, async () => lab?.lab.down());

const reached = (): Promise<unknown> =>
  lab.until(
    'the containers reach each other',
    async () => (await lab.reaches('c1', bare(b.ip))) && (await lab.reaches('c2', bare(a.ip))),
  );

const problems = async (host: string): Promise<StatusJson['problems']> =>
  (await lab.json<StatusJson>(host, 'status')).problems;

/** The process that has the device of the network. */
function pumpOf(host: string, link = 'wfud-ud'): number {
  const file = join(lab.lab.host(Number(host.slice(1))).runDir, 'pumps', `${link}.json`);
  return (JSON.parse(readFileSync(file, 'utf8')) as { pid: number }).pid;
}

const runs = (pid: number): boolean => {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
};

/** Pings from c1 to c2 while the work goes on. @returns how many were lost in a row, of twenty a second */
async function lostDuring(name: string, work: () => Promise<unknown>): Promise<number> {
  const pings = lab.spawn(name, 'c1', ['ping', '-n', '-i', '0.05', '-w', '100', bare(b.ip)]);
  await lab.says(pings, 'icmp_seq=3 ');
  await work();
  await pings.stop();
  const seen = [...pings.log().matchAll(/icmp_seq=(\d+) ttl/g)].map((match) => Number(match[1]));
  return Math.max(...seen.slice(1).map((seq, i) => seq - (seen[i] ?? 0) - 1));
}

test.serial('etcd has what flannel writes, and each network a port of its own', async (t) => {
  const text = await lab.etcdctl('get', '--prefix', '--print-value-only', `${PREFIX}/ud/subnets/`);
  const leases = text.split('\n').filter((line) => line !== '');
  t.is(leases.length, 2);
  for (const line of leases) {
    const { PublicIP, PublicIPv6, ...rest } = JSON.parse(line);
    t.regex(PublicIP, /^192\.0\.2\./);
    t.not(PublicIPv6, undefined);
    t.deepEqual(Object.keys(rest), ['Weft'], 'no BackendType, no BackendData');
  }
  const config = JSON.parse(await lab.etcdctl('get', '--print-value-only', `${PREFIX}/ud/config`));
  t.deepEqual(config.Backend, { Type: 'udp', Port: PORT });
  t.is(a.mtu, 1472);
  const second = await lab.json<NetworkJson>(
    'h1',
    ...'network create ud-two --subnet 10.115.0.0/16 --backend udp'.split(' '),
  );
  t.like(second, { backend: 'udp', port: PORT + 1 });
  const refused = async (words: RegExp, ...flags: string[]): Promise<void> => {
    const { code, stderr } = await lab.weft('h1', 'network', 'create', 'no', '--backend', 'udp', ...flags);
    t.not(code, 0);
    t.regex(stderr, words);
  };
  const subnet = ['--subnet', '10.116.0.0/16'];
  await refused(/UDP port 8285 is network ud's/, ...subnet, '--port', `${PORT}`);
  await refused(/carries IPv4 alone/, ...subnet, '--subnet6', 'fd42:116::/48');
  await refused(/carries IPv4 alone/, '--subnet6', 'fd42:116::/48');
  const routed = await lab.weft('h1', 'network', 'route', 'ud', 'ud-two');
  t.regex(routed.stderr, /network ud has the backend udp/);
  await lab.json('h1', 'network', 'rm', 'ud-two');
});

test.serial('the pump goes on without its agent, and the next one adopts it', async (t) => {
  const pid = pumpOf('h2');
  const lost = await lostDuring('pings-adopted', async () => {
    const agent = lab.process('agent-h2');
    agent.signal('SIGKILL');
    await agent.ended;
    t.true(runs(pid));
    t.true(await lab.reaches('c1', bare(b.ip)));
    await lab.startAgents(['h2']);
    await reached();
  });
  t.is(lost, 0);
  t.is(pumpOf('h2'), pid);
  t.deepEqual(await problems('h2'), []);
});

test.serial('the pump comes before other processes, and its session before others', (t) => {
  const pid = pumpOf('h1');
  t.is(getPriority(pid), -10);
  // Not every kernel groups sessions.
  const file = `/proc/${pid}/autogroup`;
  if (existsSync(file)) t.regex(readFileSync(file, 'utf8'), / nice -10$/m);
});

test.serial('a pump that is killed is started again, and so is one whose device is deleted', async (t) => {
  for (const damage of ['kill', 'ip link del wfud-ud #']) {
    const pid = pumpOf('h2');
    await lab.sh('h2', `${damage} ${pid}`);
    await lab.until('there is another one', () => pumpOf('h2') !== pid && runs(pumpOf('h2')));
    await reached();
    await lab.until('the one before has ended', () => !runs(pid));
  }
  await lab.until('no problem is left', async () => (await problems('h2')).length === 0);
  t.pass();
});

test.serial('a pump of another version is replaced, at the cost of no connection', async (t) => {
  const pid = pumpOf('h2');
  const file = join(lab.lab.host(2).runDir, 'pumps/wfud-ud.json');
  const lost = await lostDuring('pings-replaced', async () => {
    await lab.process('agent-h2').stop();
    await lab.sh('h2', `sed -i 's/"version":"[^"]*"/"version":"0.0.9"/' ${file}`);
    await lab.startAgents(['h2']);
    await lab.until('there is another one', () => pumpOf('h2') !== pid && runs(pumpOf('h2')));
    await reached();
  });
  await lab.until('the one before has ended', () => !runs(pid));
  t.true(lost <= 4, `${lost} × 50 ms`);
});

test.serial(
  'a pump whose record is torn or missing is found, and no second one has its device',
  async (t) => {
    const file = join(lab.lab.host(2).runDir, 'pumps/wfud-ud.json');
    for (const damage of [`truncate -s 20 ${file}`, `rm ${file}`]) {
      const pid = pumpOf('h2');
      await lab.process('agent-h2').kill();
      await lab.sh('h2', damage);
      t.true(runs(pid));
      await lab.startAgents(['h2']);
      await lab.until('another one is recorded', () => existsSync(file) && pumpOf('h2') !== pid);
      await lab.until('the one before has ended', () => !runs(pid));
      await reached();
      t.deepEqual(await problems('h2'), []);
    }
  },
);

/** Sends an echo request to c2 within a datagram, and says what came of it on h2. */
async function forge(
  where: string,
  from: string,
  source: string,
): Promise<{ foreign: number; received: number }> {
  const counts = async (): Promise<{ foreign: number; received: number }> => {
    const metrics = await lab.sh('h2', 'curl -s http://127.0.0.1:7402/metrics');
    const value = (name: string, label: string): number =>
      Number(new RegExp(`^${name}\\{link="wfud-ud",${label}\\} (\\d+)$`, 'm').exec(metrics)?.[1] ?? 0);
    return {
      foreign: value('weft_pump_dropped_packets', 'reason="foreign"'),
      received: value('weft_pump_packets', 'direction="received"'),
    };
  };
  const before = await counts();
  const program = join(CHECKOUT, 'build/test/lab/datagram.js');
  await lab.sh(
    where,
    `${process.execPath} ${program} ${from} ${lab.ipOf('h2')} ${PORT} ${source} ${bare(b.ip)}`,
  );
  return lab.until('it is counted', async () => {
    const now = await counts();
    const [foreign, received] = [now.foreign - before.foreign, now.received - before.received];
    return foreign > 0 ? { foreign, received } : undefined;
  });
}

test.serial(
  'datagrams of strangers, and of peers in the name of others, are dropped and counted',
  async (t) => {
    const subnets = [a, b].map(({ gateway }) => bare(gateway).replace(/\.1$/, ''));
    // c1's own address, from a host that is no node.
    t.is((await forge('outside', '0.0.0.0', `${subnets[0]}.2`)).foreign, 1);
    // From the peer, in the name of a container of this host, and of nobody's.
    t.is((await forge('h1', lab.ipOf('h1'), `${subnets[1]}.2`)).foreign, 1);
    t.is((await forge('h1', lab.ipOf('h1'), '198.51.100.1')).foreign, 1);
    t.true(await lab.reaches('c1', bare(b.ip)));
  },
);

test.serial('another process has the port: it is named, and the pump comes when it ends', async (t) => {
  const script = `require('node:dgram').createSocket('udp4').bind(8299, () => console.log('bound'))`;
  const squatter = lab.spawn('squatter', 'h2', [process.execPath, '-e', script]);
  await lab.says(squatter, 'bound');
  await lab.json('h1', ...'network create taken --subnet 10.117.0.0/16 --backend udp --port 8299'.split(' '));
  await lab.addContainers('c3');
  await lab.weft('h2', 'attach', 'taken', lab.ns('c3'));
  const named = /node.* \(pid \d+\) has it, and wfud-taken cannot be up without it/;
  await lab.until('it is a problem', async () =>
    (await problems('h2')).some(({ what, why }) => what === 'UDP port 8299' && named.test(why)),
  );
  await squatter.stop();
  await lab.until('the problem is over', async () => (await problems('h2')).length === 0);
  t.true(runs(pumpOf('h2', 'wfud-taken')));
  const pid = pumpOf('h2', 'wfud-taken');
  await lab.json('h1', 'network', 'rm', 'taken', '--force');
  await lab.until('its pump ends with the network', () => !runs(pid));
  await lab.removeContainer('c3');
});

test.serial('the largest packet, and none larger', async (t) => {
  for (const [size, received] of [
    [1444, 1],
    [1445, 0],
  ] as const)
    t.is((await ping(lab.place('c1'), bare(b.ip), { count: 1, size })).received, received, `${size}`);
});

test.serial('a network in use moves to vxlan, and back', async (t) => {
  const move = async (backend: string): Promise<void> => {
    t.like(await lab.json<NetworkJson>('h1', 'network', 'update', 'ud', '--backend', backend), {
      backend,
      move: null,
    });
    await reached();
  };
  const pid = pumpOf('h1');
  const lost = await lostDuring('pings-moved', async () => {
    await move('vxlan');
    await lab.until('its pump has ended', () => !runs(pid));
    await move('udp');
  });
  t.true(lost <= 20, `${lost} × 50 ms`);
  t.is(a.mtu, 1472);
});

test.serial('--cleanup ends the pump', async (t) => {
  const pid = pumpOf('h2');
  await lab.process('agent-h2').stop();
  t.true(runs(pid));
  const { code, stderr } = await lab.weft('h2', 'agent', '--cleanup', ...lab.agentFlags('h2'));
  t.is(code, 0, stderr);
  await lab.until('it has ended', () => !runs(pid));
  t.notRegex(await lab.sh('h2', 'ip link; ip route show table 119'), /wfud|10\.114\./);
  await lab.startAgents(['h2']);
  b = await lab.attach('h2', 'ud', 'c2');
  await reached();
});

const title = 'a flanneld and an agent carry one udp network';

async function withFlanneld(t: ExecutionContext): Promise<void> {
  await lab.json('h1', ...'network create fl --subnet 10.118.0.0/16 --backend udp --port 8290'.split(' '));
  await lab.addContainers('c4');
  const end = await lab.attach('h1', 'fl', 'c4');
  const { flanneld, env } = await startFlanneld(lab, 'h2', 'fl', ['-ip-masq=false', '-iface=eth0']);
  const gateway = bare(env.get('FLANNEL_SUBNET') ?? '');
  t.is(env.get('FLANNEL_MTU'), '1472');
  await lab.sh('h2', `ip addr add ${gateway}/24 dev lo`);
  await lab.until('the container reaches the flanneld’s subnet', () => lab.reaches('c4', gateway));
  await lab.until('and is reached from it', () => lab.reaches('h2', bare(end.ip)));
  const { leases } = await lab.json<NetworkJson>('h1', 'network', 'inspect', 'fl');
  t.is(leases.find(({ node }) => node === null)?.publicIp, lab.ipOf('h2'));
  await flanneld.stop();
  await lab.sh('h2', `ip addr del ${gateway}/24 dev lo`);
  await lab.json('h1', 'network', 'rm', 'fl', '--force');
  await lab.removeContainer('c4');
}

if (FLANNELD === undefined) test.skip(`${title} (${NO_FLANNELD})`, () => undefined);
else test.serial(title, withFlanneld);
