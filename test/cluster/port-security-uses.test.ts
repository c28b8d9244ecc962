// What goes on with port security: addresses that move and that a LAN gives, names while others flood, rules that were flushed;
// and what a host with iptables has of it.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

import test, { type ExecutionContext } from 'ava';
import { encode } from 'dns-packet';

import { bare, Cluster, CONTROLLER, INFRA_IP, type EndpointJson } from '../lab/cluster.js';
import { must } from '../lab/exec.js';
import { arp, dhcpAnswer, routerAdvertisement } from '../lab/frames.js';
import { shareAmongTests } from '../lab/fresh.js';
import { CHECKOUT } from '../lab/lab.js';
import { addLan, LAN } from '../lab/lan.js';
import { program } from '../lab/names.js';

interface Shown extends EndpointJson {
  drops: { reason: string; packets: number }[];
}

let lab: Cluster;
const at: Record<string, EndpointJson> = {};
let count = 0;

/** On h1, which has nftables: `one`, `two` and `near` on blue, `l1` and `l2` on a LAN. On h2, which has iptables: `far` on blue. */
async function setUp(): Promise<void> {
  lab = await Cluster.create(2);
  await lab.addContainers('one', 'two', 'near', 'far', 'l1', 'l2');
  await addLan(lab, 2);
  await lab.startController();
  const underlay = ['--underlay-iface', 'eth0'];
  await Promise.all([
    lab.startAgents(['h1'], underlay),
    lab.startAgents(['h2'], [...underlay, '--firewall', 'iptables']),
  ]);
  await lab.json('h1', 'network', 'create', 'blue', '--subnet', '10.100.0.0/16');
  await lab.json(
    'h1',
    ...['network', 'create', 'lan', '--driver', 'bridge', '--parent', LAN.link, '--subnet', LAN.subnet],
    ...['--gateway', LAN.router, '--range', '198.51.100.192/28'],
  );
  for (const [host, network, name] of [
    ['h1', 'blue', 'near'],
    ['h1', 'blue', 'one'],
    ['h1', 'blue', 'two'],
    ['h2', 'blue', 'far'],
    ['h1', 'lan', 'l1'],
    ['h1', 'lan', 'l2'],
  ] as const)
    at[name] = await lab.attach(host, network, name, '--name', name);
  await lab.until('near reaches far', () => lab.reaches('near', ip('far')));
}

shareAmongTests(test, setUp, async () => lab?.lab.down());

const endpoint = (name: string): EndpointJson => {
  const found = at[name];
  if (found === undefined) throw new Error(`${name} is not attached`);
  return found;
};
const ip = (name: string): string => bare(endpoint(name).ip);

const forge = (from: string, ...frames: Buffer[]): Promise<string> =>
  lab.sh(
    from,
    `${process.execPath} ${join(CHECKOUT, 'build/test/lab/forge.js')} eth0 ${frames.map((one) => one.toString('hex')).join(' ')}`,
  );

/** What has been dropped of a container. */
async function drops(name: string, reason: string): Promise<number> {
  const shown = await lab.json<Shown>('h1', 'endpoint', 'inspect', name);
  return shown.drops.find((one) => one.reason === reason)?.packets ?? 0;
}

/** The MAC address at which `near` has an address. */
const macOf = async (address: string): Promise<string> =>
  /lladdr (\S+)/.exec(await lab.sh('near', `ip neigh show ${address}`))?.[1] ?? '';

test.serial('keepalived moves an address between containers that may have it', async (t) => {
  const vip = endpoint('near').gateway.replace(/\.1$/, '.200');
  /** Starts keepalived in a container; with a higher priority it has the address. */
  const keepalived = (name: string, priority: number): ReturnType<Cluster['spawn']> => {
    const folder = join(lab.folder, `keepalived-${name}-${++count}`);
    const instance = `version 3\n virtual_router_id 51\n priority ${priority}\n advert_int 0.2\n garp_master_delay 1`;
    writeFileSync(
      `${folder}.conf`,
      `vrrp_instance v {\n state BACKUP\n interface eth0\n ${instance}\n virtual_ipaddress {\n ${vip}/32\n }\n}\n`,
    );
    const started = lab.spawn(`keepalived-${name}-${count}`, name, [
      ...['keepalived', '--dont-fork', '--log-console', '--vrrp', '--use-file', `${folder}.conf`],
      ...['--pid', `${folder}.pid`, '--vrrp_pid', `${folder}-vrrp.pid`],
    ]);
    t.teardown(() => started.stop());
    return started;
  };
  const isAt = (name: string): Promise<boolean> =>
    lab.reaches('near', vip).then(async (is) => is && (await macOf(vip)) === endpoint(name).mac);
  const first = keepalived('one', 200);
  await lab.until('one says that it has the address', async () =>
    (await lab.sh('one', 'ip addr show dev eth0')).includes(vip),
  );
  t.false(await lab.reaches('near', vip), 'it may not have it yet');
  for (const name of ['one', 'two'])
    await lab.json('h1', 'endpoint', 'update', name, '--allowed-address', vip);
  await lab.until('one has it', () => isAt('one'));
  keepalived('two', 100);
  await first.stop();
  await lab.until('two has it', () => isAt('two'));
  keepalived('one', 200);
  await lab.until('one has it again', () => isAt('one'));
  t.pass();
});

test.serial('a LAN gives its containers addresses by DHCP and by router advertisements', async (t) => {
  const leases = join(lab.folder, 'dhcp-leases');
  const server = lab.spawn('dnsmasq', 'router', [
    ...['dnsmasq', '--keep-in-foreground', '--conf-file=/dev/null', '--pid-file', '--user=root', '--port=0'],
    ...['--interface=eth1', '--bind-interfaces', `--dhcp-leasefile=${leases}`, '--log-facility=-'],
    ...['--dhcp-range=198.51.100.210,198.51.100.220,255.255.255.128,1h', `--dhcp-option=3,${LAN.router}`],
    ...['--enable-ra', '--dhcp-range=2001:db8:1::,ra-only', '--ra-param=eth1,5'],
  ]);
  t.teardown(() => server.stop());
  const script = join(lab.folder, 'udhcpc.sh');
  writeFileSync(script, '#!/bin/sh\n[ "$1" != bound ] || ip addr add "$ip/$mask" dev eth0\n', {
    mode: 0o755,
  });
  const ask = async (name: string): Promise<string> => {
    const said = await lab.sh(name, `busybox udhcpc -i eth0 -n -q -t 20 -T 1 -s ${script} 2>&1`);
    return /lease of (\S+) obtained/.exec(said)?.[1] ?? '';
  };
  const leased = await ask('l1');
  t.regex(leased, /^198\.51\.100\.2(1\d|20)$/);
  const pings = async (from: string, source: string, to: string): Promise<boolean> =>
    (await lab.try(from, `ping -c 1 -W 5 -I ${source} ${to}`)).code === 0;
  t.true(await pings('l1', leased, LAN.router));
  t.true(await lab.reaches('router', leased));
  t.true(await pings('l1', ip('l1'), LAN.router), 'its own address');
  const six = await lab.until(
    'an address by SLAAC',
    async () =>
      /inet6 (2001:db8:1:\S+)\/64/.exec(await lab.sh('l1', 'ip -6 addr show dev eth0 -tentative'))?.[1],
  );
  await lab.until('the router is reached from it', () => pings('l1', six, LAN.router6));
  t.true(await lab.reaches('router', six));

  // What l1 was given is not l2's, and what a server of the LAN may say a container may not.
  const own = endpoint('l2').mac;
  const ends = { from: own, to: endpoint('l1').mac };
  const before = await Promise.all(['arp', 'dhcp', 'router'].map((reason) => drops('l2', reason)));
  await forge(
    'l2',
    arp(ends, { mac: own, ip: leased }, ip('l1')),
    arp(ends, { mac: own, ip: LAN.router }, ip('l1')),
    dhcpAnswer(ends, ip('l2'), { mac: endpoint('l1').mac, ip: '198.51.100.211' }),
    routerAdvertisement({ from: own, to: '33:33:00:00:00:01' }, { from: 'fe80::7', to: 'ff02::1' }),
  );
  const after = await Promise.all(['arp', 'dhcp', 'router'].map((reason) => drops('l2', reason)));
  t.deepEqual(
    after.map((packets, i) => packets - (before[i] ?? 0)),
    [2, 1, 1],
  );

  // Rules that are written anew have forgotten what was given: the client's next question tells them again.
  await lab.sh('h1', 'nft flush ruleset');
  await isBound();
  await lab.until('the lease is asked for again', async () => (await ask('l1')) === leased);
  t.true(await pings('l1', leased, LAN.router));
});

/** Until the rules of h1 are there. */
const isBound = (): Promise<unknown> =>
  lab.until('near is bound', async () => {
    const { stdout } = await lab.try('h1', 'nft list set bridge weft bound');
    return stdout.includes(endpoint('near').hostIfname);
  });

test.serial('rules that are flushed are put right, and counted as drift', async (t) => {
  const drift = async (): Promise<number> =>
    Number(/^weft_drift_repaired_total (\d+)/m.exec(await metrics())?.[1]);
  const before = await drift();
  await lab.sh('h1', 'nft flush ruleset');
  await isBound();
  const own = endpoint('one').mac;
  await forge(
    'one',
    arp({ from: own, to: endpoint('near').mac }, { mac: own, ip: endpoint('near').gateway }, ip('near')),
  );
  t.is(await drops('one', 'arp'), 1);
  await lab.until('it is counted', async () => (await drift()) > before);
  t.true(await lab.reaches('near', ip('far')));
});

const metrics = (host = 'h1'): Promise<string> => lab.sh(host, 'curl -s http://127.0.0.1:7402/metrics');

/** Queries that weft has answered on h1. */
const answered = async (): Promise<number> =>
  [...(await metrics()).matchAll(/^weft_dns_questions_total\{.*\} (\d+)$/gm)].reduce(
    (sum, [, number]) => sum + Number(number),
    0,
  );

test.serial('a flood of queries costs neighbours none of theirs, nor the node its life', async (t) => {
  const [name, seconds] = ['near.blue.weft', 4];
  const asker = (from: string, rate: number): string[] =>
    program(lab, from, '../bench/asker.js', name, 'flood', `${rate}`, `${seconds}`, endpoint(from).gateway);
  const query = encode({ type: 'query', id: 1, flags: 0x0100, questions: [{ type: 'A', name }] });
  const framed = Buffer.concat([Buffer.from([0, query.length]), query]);
  const queries = join(lab.folder, 'queries');
  writeFileSync(queries, Buffer.concat(Array.from({ length: 20_000 }, () => framed)));
  const life = async (): Promise<string> => {
    const found = JSON.parse(await lab.etcdctl('get', '-w', 'json', '/weft/nodes/h1/alive')) as {
      kvs: { create_revision: number; version: number }[];
    };
    return JSON.stringify(found.kvs.map((kv) => [kv.create_revision, kv.version]));
  };
  const before = await life();
  const floods = {
    UDP: asker('one', 18_000),
    TCP: [
      ...lab.place('one').inside(['sh', '-c']),
      `for i in 1 2 3 4 5 6 7 8; do timeout ${seconds} nc ${endpoint('one').gateway} 53 <${queries} >/dev/null & done; wait`,
    ],
  };
  for (const [transport, flood] of Object.entries(floods)) {
    const until = await answered();
    const flooding = lab.lab.spawn(`flood-${transport}`, flood);
    t.teardown(() => flooding.stop());
    const said = await must(asker('near', 100), { timeoutMs: 60_000 });
    const { sent, received } = JSON.parse(said) as { sent: number; received: number };
    await flooding.ended;
    const all = (await answered()) - until;
    t.log(
      `${transport}: a neighbour had ${received} of ${sent} answers; ${all} queries were answered in all`,
    );
    t.is(sent, 100 * seconds);
    t.true(received >= sent * 0.99, `${transport}: ${received} of ${sent}`);
    t.true(all > 2000 && all < sent + 2000 + 1000 * (seconds + 3), `${transport}: ${all}`);
  }
  t.is(await life(), before);
});

test.serial('a host with iptables has what iptables can, and its status says what is missing', async (t) => {
  const { health, warnings } = await lab.json<{
    health: string;
    warnings: { what: string; why: string; fix: string }[];
  }>('h2', 'status');
  const warning = warnings.find(({ what }) => what === 'port security');
  t.regex(warning?.why ?? '', /addresses that are not theirs.*DNS.*iptables/);
  t.regex(warning?.fix ?? '', /nftables/);
  t.not(health, 'degraded', 'a warning is no problem');
  await closes(t);
});

/** What is closed to the containers of h2, and to others from outside it. */
async function closes(t: ExecutionContext): Promise<void> {
  const [, port = ''] = CONTROLLER.split(':');
  for (const to of [port, '2379']) {
    t.is((await lab.try('h2', `nc -z -w 5 ${INFRA_IP} ${to}`)).code, 0, `the host to ${to}`);
    t.not((await lab.try('far', `nc -z -w 1 ${INFRA_IP} ${to}`)).code, 0, `a container to ${to}`);
  }
  await lab.sh('outside', `ip route replace ${ip('far')}/32 via ${lab.ipOf('h2')}`);
  t.false(await lab.reaches('outside', ip('far')), 'what is not published');
  t.true(await lab.reaches('near', ip('far')));
}
