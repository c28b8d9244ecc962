// The bridge driver on two hosts: isolated per host, and on the hosts' LAN.
import test, { type ExecutionContext } from 'ava';

import { IpNetwork } from '../../core/address.js';
import { bare, Cluster, type EndpointJson } from '../lab/cluster.js';
import { shareAmongTests } from '../lab/fresh.js';
import { addLan, LAN, stateOf } from '../lab/lan.js';
import { WEFT } from '../lab/lab.js';

let lab: Cluster;
const before = new Map<string, unknown>();
/** On the network `lan`, where it is there: l1 of h1 and l2 of h2. */
let onLan: { l1: EndpointJson; l2: EndpointJson } | undefined;

interface NetworkJson {
  name: string;
  driver: string;
  backend: string | null;
  vni: number | null;
  port: number | null;
  subnet: string;
  hostPrefix: number;
  masquerade: boolean;
  parent: string | null;
  gateway: string | null;
  leases: { node: string; subnet: string }[];
  endpoints: number;
}

const UNDERLAY = ['--underlay-iface', 'eth0'];

async function setUp(): Promise<void> {
  onLan = undefined;
  lab = await Cluster.create(2);
  await lab.addContainers('c1', 'c2', 'c3', 'c4', 'o1', 'l1', 'l2', 'l3', 'l4');
  await addLan(lab, 2);
  await lab.startController();
  await lab.startAgents(['h1', 'h2'], UNDERLAY);
  for (const host of ['h1', 'h2']) before.set(host, await stateOf(lab, host, LAN.link));
}

shareAmongTests(test, setUp, async () => lab?.lab.down());

/** Creates the network `lan`. */
async function createLan(...flags: string[]): Promise<void> {
  await lab.json(
    'h1',
    ...['network', 'create', 'lan', '--driver', 'bridge', '--parent', LAN.link, '--subnet', LAN.subnet],
    ...['--gateway', LAN.router, ...flags],
  );
}

/** The network `lan` with l1 and l2, which the tests that leave it so share. */
async function joined(): Promise<{ l1: EndpointJson; l2: EndpointJson }> {
  if (onLan !== undefined) return onLan;
  await createLan('--range', '198.51.100.192/26');
  const l1 = await lab.attach('h1', 'lan', 'l1');
  onLan = { l1, l2: await lab.attach('h2', 'lan', 'l2') };
  return onLan;
}

/** No network `lan`, for a test that makes its own. */
async function parted(t: ExecutionContext): Promise<void> {
  if (onLan === undefined) return;
  onLan = undefined;
  await lab.json('h1', 'network', 'rm', 'lan', '--force');
  for (const host of ['h1', 'h2']) await givenBack(t, host);
}

async function refused(
  t: ExecutionContext,
  args: string[],
  code: string | undefined,
  words: RegExp,
  host = 'h1',
): Promise<void> {
  const { code: exit, stdout, stderr } = await lab.weft(host, ...args, '-o', 'json');
  t.is(exit, code === undefined ? 2 : 1, stderr);
  t.regex(stderr, words);
  if (code !== undefined) t.like(JSON.parse(stdout), { error: { code } });
}

test.serial(
  'a bridge per host: the same subnet on each, masqueraded, isolated, repaired, kept by a restart',
  async (t) => {
    const made = await lab.json<NetworkJson>(
      'h1',
      ...['network', 'create', 'web', '--driver', 'bridge', '--subnet', '10.5.0.0/24'],
    );
    t.like(made, {
      driver: 'bridge',
      backend: null,
      vni: null,
      port: null,
      gateway: '10.5.0.1',
      hostPrefix: 24,
      masquerade: true,
      parent: null,
      leases: [],
    });
    await lab.json('h1', 'network', 'create', 'blue', '--subnet', '10.100.0.0/16');
    const a = await lab.attach('h1', 'web', 'c1');
    const b = await lab.attach('h1', 'web', 'c2', '--ip', '10.5.0.99');
    const c = await lab.attach('h2', 'web', 'c3');
    const other = await lab.attach('h1', 'blue', 'o1');
    t.like(a, { ip: '10.5.0.2/24', gateway: '10.5.0.1', mtu: 1500, node: 'h1' });
    t.is(b.ip, '10.5.0.99/24');
    t.is(c.ip, '10.5.0.2/24', 'each host gives addresses out for itself');
    t.true(await lab.reaches('c1', '10.5.0.99'));
    t.true(await lab.reaches('c1', '10.5.0.1'));
    t.false(await lab.reaches('c3', '10.5.0.99'), 'another host has a bridge of its own');
    t.true(await lab.reaches('c1', lab.ipOf('h2')), 'out of the bridge, under the host’s address');
    t.false(await lab.reaches('c1', bare(other.ip)), 'networks do not reach each other');
    t.false(await lab.reaches('o1', bare(a.ip)), 'networks do not reach each other');
    t.like(await lab.json('h1', 'network', 'inspect', 'web'), { endpoints: 3 });

    await lab.sh('h1', 'ip link del wfbr-web');
    await lab.until('it is back', () => lab.reaches('c1', '10.5.0.99'));
    lab.process('agent-h1').signal('SIGTERM');
    await lab.process('agent-h1').ended;
    t.true(await lab.reaches('c1', '10.5.0.99'));
    await lab.startAgents(['h1'], UNDERLAY);
    t.is((await lab.attach('h1', 'web', 'c4')).ip, '10.5.0.3/24');
    t.true(await lab.reaches('c4', '10.5.0.99'));

    for (const network of ['web', 'blue']) await lab.json('h1', 'network', 'rm', network, '--force');
    await lab.until('both hosts have left them', async () =>
      (await Promise.all(['h1', 'h2'].map((host) => lab.sh(host, 'ip -d link')))).every(
        (text) => !/weft network (?:web|blue)/.test(text),
      ),
    );
  },
);

test.serial('a LAN: containers have its mask and gateway, and the hosts lose no packet', async (t) => {
  await parted(t);
  const ping = lab.spawn('ping', 'router', ['ping', '-n', '-i', '0.02', '-W', '1', LAN.ip(1)]);
  const { l1: a, l2: b } = await joined();
  t.like(a, { gateway: LAN.router, mtu: 1500 });
  t.regex(a.ip, /^198\.51\.100\.(19[2-9]|2[0-5]\d)\/25$/);
  t.not(a.ip, b.ip);
  for (const [from, to] of [
    ['l1', LAN.router],
    ['l1', bare(b.ip)],
    ['l1', LAN.ip(1)],
    ['l1', LAN.ip(2)],
    ['l1', '203.0.113.1'],
    ['router', bare(a.ip)],
    ['h1', bare(a.ip)],
    ['h1', '203.0.113.1'],
  ] as const)
    t.true(await lab.reaches(from, to), `${from} to ${to}`);
  ping.signal('SIGINT');
  await ping.ended;
  // The end may cut off the last reply.
  const answered = [...ping.log().matchAll(/icmp_seq=(\d+) ttl/g)].map(([, number]) => Number(number));
  const sent = Number(/(\d+) packets transmitted/.exec(ping.log())?.[1]);
  t.true(answered.length > 0);
  t.deepEqual(
    answered,
    answered.map((_number, i) => i + 1),
    ping.tail(),
  );
  t.true(sent - answered.length <= 1, ping.tail());
  const seen = await lab.json<NetworkJson>('h1', 'network', 'inspect', 'lan');
  t.deepEqual(seen.leases.map(({ node }) => node).toSorted(), ['h1', 'h2']);
});

test.serial('an impossible request is refused with the reason before anything is changed', async (t) => {
  await joined();
  const bridges = (): Promise<string> => lab.sh('h1', 'ip -br link show type bridge');
  const there = await bridges();
  const create = (name: string, ...flags: string[]): string[] => [
    ...['network', 'create', name, '--subnet', '198.51.100.0/26', '--driver', 'bridge'],
    ...flags,
  ];
  await refused(t, create('x', '--parent', 'lo'), undefined, /lo.*loopback/);
  await refused(t, create('x', '--vlan', '100'), undefined, /vlan: the driver bridge has none/);
  await refused(t, create('x', '--gateway', '10.0.0.1'), undefined, /10\.0\.0\.1 is not inside/);
  await refused(t, create('x', '--parent', 'eth1'), 'FAILED_PRECONDITION', /parent of network lan/);
  for (const [name, parent, words] of [
    ['missing', 'eth9', /no interface eth9/],
    ['under', 'eth0', /carries the underlay/],
  ] as const) {
    await lab.json('h1', ...create(name, '--parent', parent));
    const ask = ['attach', name, lab.ns('l3'), '--ip', '198.51.100.7'];
    await refused(t, ask, parent === 'eth9' ? 'NOT_FOUND' : 'FAILED_PRECONDITION', words);
    await lab.json('h1', 'network', 'rm', name);
  }
  await refused(t, ['attach', 'lan', lab.ns('l3'), '--vlan', '100'], 'INVALID_ARGUMENT', /has no VLANs/);
  t.is(await bridges(), there);
});

test.serial('an address of another host’s block is claimed, and released with the endpoint', async (t) => {
  await joined();
  const { leases } = await lab.json<NetworkJson>('h1', 'network', 'inspect', 'lan');
  const block = IpNetwork.parse(leases.find(({ node }) => node === 'h2')?.subnet ?? '');
  // The first of the block is in use.
  const wanted = block.last.plus(-1).toString();
  const got = await lab.attach('h1', 'lan', 'l3', '--ip', wanted);
  t.is(got.ip, `${wanted}/25`);
  t.regex(
    await lab.etcdctl('get', '--prefix', '--keys-only', '/weft/networks/lan/claims/'),
    new RegExp(wanted),
  );
  t.true(await lab.reaches('l2', wanted));
  await refused(t, ['attach', 'lan', lab.ns('l4'), '--ip', wanted], 'ALREADY_EXISTS', /claimed|in use/, 'h2');
  await refused(
    t,
    ['attach', 'lan', lab.ns('l4'), '--ip', LAN.router],
    'FAILED_PRECONDITION',
    /gateway/,
    'h2',
  );
  await lab.weft('h1', 'detach', 'lan', lab.ns('l3'));
  await lab.until(
    'the claim is released',
    async () =>
      (await lab.etcdctl('get', '--prefix', '--keys-only', '/weft/networks/lan/claims/')).trim() === '',
  );
});

test.serial('the host regains its addresses after any damage to the bridge of the LAN', async (t) => {
  await joined();
  const home = await stateOf(lab, 'h1', 'wfp-eth1');
  for (const damage of ['ip link del wfp-eth1', 'ip link set eth1 nomaster']) {
    await lab.sh('h1', damage);
    await lab.until(
      `it is back after ${damage}`,
      async () => (await lab.reaches('router', LAN.ip(1))) && lab.reaches('l1', LAN.router),
    );
    t.deepEqual(await stateOf(lab, 'h1', 'wfp-eth1'), home, damage);
  }
});

test.serial('a killed agent leaves nothing half done', async (t) => {
  await joined();
  await parted(t);
  for (const delay of [0, 5, 20]) {
    await createLan();
    const attaching = lab.weft('h1', 'attach', 'lan', lab.ns('l1'), '--ip', '198.51.100.200');
    await lab.until(
      'it has begun',
      async () => (await lab.try('h1', 'ls /sys/class/net/wfp-eth1')).code === 0 || (await isDone(attaching)),
    );
    await new Promise((resolve) => setTimeout(resolve, delay));
    await lab.process('agent-h1').kill();
    await attaching;
    await lab.startAgents(['h1'], UNDERLAY);
    await lab.until('the host is on its LAN', () => lab.reaches('router', LAN.ip(1)));
    t.is((await lab.attach('h1', 'lan', 'l1', '--ip', '198.51.100.200')).ip, '198.51.100.200/25');
    t.true(await lab.reaches('l1', LAN.router));
    const removing = lab.weft('h1', 'network', 'rm', 'lan', '--force');
    await new Promise((resolve) => setTimeout(resolve, delay * 3));
    await lab.process('agent-h1').kill();
    await removing;
    await lab.startAgents(['h1'], UNDERLAY);
    await givenBack(t, 'h1');
  }
});

test.serial('a move interrupted by a killed agent is completed', async (t) => {
  await parted(t);
  await createLan();
  await lab.attach('h1', 'lan', 'l1', '--ip', '198.51.100.200');
  const home = await stateOf(lab, 'h1', 'wfp-eth1');
  const file = `${lab.lab.host(1).stateDir}/ports/eth1.json`;
  const half = `sed -i s/'"done":true'/'"done":false'/ ${file}`;
  // Each moment of the move, in the state that a killed process leaves.
  for (const moment of [
    `${half}; ip addr flush dev wfp-eth1 scope global; ip link set eth1 nomaster`,
    `${half}; ip addr flush dev wfp-eth1 scope global`,
    `${half}; ip route flush dev wfp-eth1 proto static; ip addr add ${LAN.ip(1)}/25 brd + dev eth1`,
    `${half}; ip link del wfp-eth1`,
  ]) {
    await lab.process('agent-h1').kill();
    await lab.sh('h1', moment);
    await lab.startAgents(['h1'], UNDERLAY);
    await lab.until(`it is whole after ${moment}`, () => lab.reaches('router', LAN.ip(1)));
    t.deepEqual(await stateOf(lab, 'h1', 'wfp-eth1'), home, moment);
    t.like(await stateOf(lab, 'h1', 'eth1'), { master: 'wfp-eth1', addresses: [], routes: [] });
  }
  await lab.process('agent-h1').kill();
  await lab.sh('h1', `${half}; ip addr flush dev wfp-eth1 scope global`);
  const clean = await lab.try('h1', `${WEFT} agent --cleanup ${lab.agentFlags('h1').join(' ')}`);
  t.is(clean.code, 0, clean.stderr + clean.stdout);
  await givenBack(t, 'h1');
  t.is((await lab.try('h1', `ls ${file}`)).code, 2);
  await lab.json('h1', 'network', 'rm', 'lan', '--force');
  await lab.startAgents(['h1'], UNDERLAY);
});

/** The interface is as it was before a network used it. */
async function givenBack(t: ExecutionContext, host: string): Promise<void> {
  await lab.until(
    `${host} has its interface back`,
    async () =>
      (await lab.try(host, 'ls -d /sys/class/net/wfp-eth1')).code !== 0 &&
      lab.reaches('router', LAN.ip(Number(host.slice(1)))),
  );
  t.deepEqual(await stateOf(lab, host, LAN.link), before.get(host));
}

async function isDone(work: Promise<unknown>): Promise<boolean> {
  return Promise.race([
    work.then(() => true),
    new Promise<boolean>((resolve) => setImmediate(resolve, false)),
  ]);
}

test.serial('a missing kernel feature is shown in status, and refused by name', async (t) => {
  const status = await lab.json<{
    node: { capabilities: { name: string; available: boolean; why: string }[] };
  }>('h2', 'status');
  const { capabilities } = status.node;
  t.deepEqual(
    capabilities.map(({ name }) => name),
    ['bridge-vlan-filtering', '802.1q', 'wireguard', 'tun', 'ipip'],
  );
  for (const { available, why } of capabilities) t.is(why === '', available);
  if (capabilities.some(({ name, available }) => name === 'bridge-vlan-filtering' && available)) return;
  const create = [
    'network',
    'create',
    'v100',
    '--driver',
    'vlan',
    '--vlan',
    '100',
    '--subnet',
    '10.1.1.0/24',
  ];
  await refused(t, create, 'FAILED_PRECONDITION', /CONFIG_BRIDGE_VLAN_FILTERING/, 'h2');
  // An operator may still write it by hand.
  await lab.etcdctl(
    'put',
    '/weft/networks/v100/config',
    '{"Network":"10.1.1.0/24","Backend":{"Type":"weft-vlan"},"Weft":{"VLAN":100}}',
  );
  await lab.until('it is known', async () => (await lab.weft('h2', 'network', 'inspect', 'v100')).code === 0);
  const attach = ['attach', 'v100', lab.ns('l4')];
  await refused(t, attach, 'FAILED_PRECONDITION', /without CONFIG_BRIDGE_VLAN_FILTERING/, 'h2');
  t.is((await lab.try('h2', 'ls -d /sys/class/net/wfvlan')).code, 2);
  await lab.etcdctl('del', '/weft/networks/v100/config');
});
