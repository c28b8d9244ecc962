// Port security of Docker's containers: what an attacker does from inside, with the capabilities that Docker gives a container,
// and with all of them.
import { join } from 'node:path';

import test, { type ExecutionContext } from 'ava';

import { bare, CONTROLLER, INFRA_IP, type EndpointJson } from '../lab/cluster.js';
import { exec } from '../lab/exec.js';
import {
  advertisement,
  arp,
  BROADCAST,
  redirect,
  routerAdvertisement,
  tagged,
  udpFrame,
} from '../lab/frames.js';
import { shareAmongTests } from '../lab/fresh.js';
import { CHECKOUT } from '../lab/lab.js';
import { connection, DockerCluster, pings, start } from './cluster.js';

/** Attackers on h1, by the capabilities that they have. */
const ATTACKERS = [
  { name: 'usual', options: [] },
  // Where this process has no CAP_SYS_RESOURCE no container can; it is about limits, and no matter of the network.
  { name: 'mighty', options: ['--cap-add', 'ALL', '--cap-drop', 'SYS_RESOURCE'] },
] as const;
const MACS = 40;

let lab: DockerCluster;
const at: Record<string, EndpointJson> = {};

/** The machine's own programs, so that an attacker has more than busybox. */
const PROGRAMS = ['/usr', '/lib', '/lib64', CHECKOUT].flatMap((folder) => ['-v', `${folder}:${folder}:ro`]);

async function setUp(): Promise<void> {
  lab = await DockerCluster.up();
  await lab.createOnBoth('--subnet', '10.9.0.0/16', '--ipv6', '--subnet', 'fd00:9::/48', 'blue');
  for (const { name, options } of ATTACKERS)
    await start(lab.h1, name, '--network', 'blue', ...PROGRAMS, ...options);
  await start(lab.h1, 'near', '--network', 'blue');
  await start(lab.h2, 'far', '--network', 'blue', '-p', '8080:80');
  await lab.h2.ask('exec', '-d', 'far', 'sh', '-c', 'while :; do echo hello | nc -l -p 80; done');
  const all = await lab.until('the names are learnt', async () => {
    const found = await lab.endpoints('blue', 4);
    return found.every(({ target }) => /^docker:(usual|mighty|near|far)$/.test(target)) && found;
  });
  for (const endpoint of all) at[endpoint.target.slice('docker:'.length)] = endpoint;
}

shareAmongTests(test, setUp, async () => lab?.down());

function endpoint(name: string): EndpointJson {
  const found = at[name];
  if (found === undefined) throw new Error(`${name} is not attached`);
  return found;
}

const ip = (name: string): string => bare(endpoint(name).ip);
const ip6 = (name: string): string => bare(endpoint(name).ip6 ?? '');

/** A command in an attacker, with the machine's programs. */
const inside = async (name: string, command: string): Promise<string> => {
  const { code, stdout, stderr } = await lab.h1.in(name, `PATH=/usr/bin:/usr/sbin; ${command}`);
  if (code !== 0) throw new Error(`${name}: ${command}: exit ${code}\n${stdout}${stderr}`);
  return stdout;
};

const forge = (name: string, frames: readonly Buffer[]): Promise<string> =>
  inside(
    name,
    `${process.execPath} ${join(CHECKOUT, 'build/test/lab/forge.js')} eth0 ${frames.map((one) => one.toString('hex')).join(' ')}`,
  );

/** What has been dropped of a container, by reason. */
async function drops(name: string): Promise<Record<string, number>> {
  const shown = await lab.cluster.json<{ drops: { reason: string; packets: number }[] }>(
    ...(['h1', 'endpoint', 'inspect', endpoint(name).id] as const),
  );
  return Object.fromEntries(shown.drops.map(({ reason, packets }) => [reason, packets]));
}

async function dropped(reason: string): Promise<number> {
  const metrics = await lab.cluster.sh('h1', 'curl -s http://127.0.0.1:7402/metrics');
  const count = new RegExp(`^weft_dropped_packets_total\\{reason="${reason}"\\} (\\d+)$`, 'm').exec(metrics);
  return Number(count?.[1]);
}

/** A container's neighbours as it knows them. */
async function neighbours(name: string): Promise<string> {
  const pid = await lab.h1.ask('inspect', '-f', '{{.State.Pid}}', name);
  return (await exec(['nsenter', '-t', pid, '-n', 'ip', 'neigh'])).stdout;
}

const bridge = async (): Promise<string> => `wfbr${(await lab.network('blue')).vni}`;

/** The MAC address of the bridge, by netlink: /sys in the engine's mount namespace is of other links. */
async function bridgeMac(): Promise<string> {
  const [link] = JSON.parse(await lab.h1.must(['ip', '-j', 'link', 'show', await bridge()])) as [
    { address: string },
  ];
  return link.address;
}

/** Frames that no container may send, by the reason of their drop. */
async function forged(name: string): Promise<Record<string, Buffer[]>> {
  const own = endpoint(name).mac;
  const near = endpoint('near').mac;
  const { Gateway, IPv6Gateway } = await connection(lab.h1, name, 'blue');
  const host = await bridgeMac();
  const datagram = (from: string, to: string, ports: [number, number] = [1111, 9999]) => ({
    ...{ from, to, fromPort: ports[0], toPort: ports[1], payload: Buffer.from('forged') },
  });
  const toNear = { from: own, to: near };
  const toHost = { from: own, to: host };
  return {
    arp: [
      arp(toNear, { mac: own, ip: Gateway }, ip('near')),
      arp(toHost, { mac: own, ip: ip('near') }, Gateway),
      arp({ from: own, to: BROADCAST }, { mac: own, ip: ip('far') }, ip('far')),
    ],
    neighbour: [
      advertisement(toNear, { from: ip6(name), to: ip6('near') }, IPv6Gateway),
      advertisement(toHost, { from: ip6(name), to: IPv6Gateway }, ip6('near')),
    ],
    mac: Array.from({ length: MACS }, (_, i) =>
      udpFrame(
        { from: `02:66:00:00:00:${i.toString(16).padStart(2, '0')}`, to: host },
        datagram(ip(name), Gateway),
      ),
    ),
    address: [
      udpFrame(toNear, datagram(Gateway, ip('near'))),
      udpFrame(toHost, datagram(ip('near'), ip('far'))),
      udpFrame(toHost, datagram('192.0.2.77', '198.51.100.1')),
      udpFrame(toHost, datagram(ip6('near'), ip6('far'))),
    ],
    router: [
      routerAdvertisement({ from: own, to: '33:33:00:00:00:01' }, { from: 'fe80::7', to: 'ff02::1' }),
      redirect(toNear, { from: 'fe80::7', to: ip6('near') }, ip6('far')),
    ],
    dhcp: [udpFrame(toNear, datagram(ip(name), ip('near'), [67, 68]))],
    frame: [tagged(arp(toNear, { mac: own, ip: Gateway }, ip('near')), 0)],
  };
}

for (const { name } of ATTACKERS) {
  test.serial(`a container with ${name} capabilities poses as nobody`, async (t) => {
    const frames = await forged(name);
    const before = await drops(name);
    await pings(t, lab.h1, 'near', (await connection(lab.h1, 'near', 'blue')).Gateway);
    const known = await neighbours('near');
    await forge(name, Object.values(frames).flat());
    const after = await drops(name);
    for (const [reason, list] of Object.entries(frames))
      t.is((after[reason] ?? 0) - (before[reason] ?? 0), list.length, reason);
    t.false((await neighbours('near')).includes(endpoint(name).mac), known);
    const learnt = await lab.h1.must(['bridge', 'fdb', 'show', 'br', await bridge()]);
    t.false(learnt.includes('02:66:00:'), learnt);
    t.false(learnt.includes(`${endpoint('near').mac} dev ${endpoint(name).hostIfname} `), learnt);
    for (const to of [ip('near'), ip('far')]) await pings(t, lab.h1, name, to);
  });

  test.serial(`a container with ${name} capabilities reaches no tunnel and no controller`, async (t) => {
    const { Gateway } = await connection(lab.h1, name, 'blue');
    const before = await dropped('tunnel');
    const targets = [lab.cluster.ipOf('h1'), lab.cluster.ipOf('h2'), Gateway];
    for (const to of targets) await inside(name, `echo x | nc.openbsd -u -q 0 -w 1 ${to} 8472`);
    t.is(await dropped('tunnel'), before + targets.length);
    const [, port = ''] = CONTROLLER.split(':');
    for (const to of [port, '2379']) t.false(await connects(name, INFRA_IP, to), `port ${to}`);
    t.true(await connects(name, lab.cluster.ipOf('h2'), '8080'), 'a published port');
  });
}

const connects = async (from: string, to: string, port: string): Promise<boolean> =>
  (await lab.h1.in(from, `/usr/bin/nc.openbsd -z -w 1 ${to} ${port}`)).code === 0;

test.serial('links and addresses that a container with all capabilities makes carry nothing', async (t) => {
  const { Gateway } = await connection(lab.h1, 'mighty', 'blue');
  const free = Gateway.replace(/\.1$/, '.240');
  const reaches = (source: string, to: string): Promise<boolean> =>
    lab.h1.in('mighty', `/bin/ping -c 1 -w 1 -I ${source} ${to}`).then(({ code }) => code === 0);
  await inside(
    'mighty',
    `ip link add mv0 link eth0 address 02:66:01:00:00:01 type macvlan mode bridge && ip link set mv0 up
    ip addr add ${free}/24 dev mv0; ip addr add ${free}/32 dev eth0; ip addr add ${Gateway}/32 dev lo`,
  );
  for (const source of [free, Gateway, 'mv0']) t.false(await reaches(source, ip('near')), source);
  await keepsItsGateway(t);
  await inside(
    'mighty',
    `ip link del mv0; ip addr del ${free}/32 dev eth0; ip addr del ${Gateway}/32 dev lo`,
  );
  t.true(await reaches(ip('mighty'), ip('near')));
});

async function keepsItsGateway(t: ExecutionContext): Promise<void> {
  const { Gateway } = await connection(lab.h1, 'near', 'blue');
  await pings(t, lab.h1, 'near', Gateway);
  const host = await bridgeMac();
  t.regex(await neighbours('near'), new RegExp(`^${Gateway.replaceAll('.', '\\.')} .*${host}`, 'm'));
}

test.serial('an allowed address and a link-local one, by options of Docker’s', async (t) => {
  const vip = (await connection(lab.h1, 'near', 'blue')).Gateway.replace(/\.1$/, '.200');
  await start(lab.h1, 'idle', '--network', 'none', '--cap-add', 'NET_ADMIN');
  await lab.h1.ask('network', 'disconnect', 'none', 'idle');
  const allowed = ['--driver-opt', `weft.allowed-address=${vip}`];
  await lab.h1.ask('network', 'connect', ...allowed, '--link-local-ip', '169.254.77.1', 'blue', 'idle');
  await lab.h1.ask('exec', 'idle', 'ip', 'addr', 'add', `${vip}/32`, 'dev', 'eth0');
  await pings(t, lab.h1, 'near', vip);
  await inside('mighty', 'ip addr add 169.254.77.2/16 dev eth0');
  await pings(t, lab.h1, 'mighty', '169.254.77.1');
  await lab.h1.ask('rm', '-f', 'idle');
});
