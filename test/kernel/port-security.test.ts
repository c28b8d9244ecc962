// Port security: which frames of a container pass its port, with real frames.
//
// A bridge with one container; a table of the test's own, behind weft's, notes what passes.
import { container } from './private.js';

import { join } from 'node:path';

import test, { type ExecutionContext } from 'ava';

import { openFirewall, type NodeFirewallDriver } from '../../agent/kernel/firewall/index.js';
import { IpNetwork } from '../../core/address.js';
import {
  firewallPortKey,
  type ContainerPort,
  type Firewall,
  type FirewallMember,
  type FirewallPort,
} from '../../core/firewall.js';
import { shareAmongTests } from '../lab/fresh.js';
import {
  advertisement,
  arp,
  behindOptions,
  dhcpAnswer,
  ethernet,
  redirect,
  routerAdvertisement,
  tagged,
  tcpFrame,
  udpFrame,
  vxlan,
} from '../lab/frames.js';
import { CHECKOUT } from '../lab/lab.js';
import { sh } from './firewall-world.js';

const LINK = 'wfepa';
const MAC = '02:77:0a:01:00:02';
const OTHER_MAC = '02:77:0a:01:00:03';
const IP = '10.1.0.2';
const IP6 = 'fd00:1::2';
const GATEWAY = '10.1.0.1';
const GATEWAY6 = 'fd00:1::1';
const NEIGHBOUR = '10.1.0.3';
const NEIGHBOUR6 = 'fd00:1::3';
const OWN = ['169.254.53.53', 'fe80::1', GATEWAY, GATEWAY6];

const PORT: ContainerPort & { bounds: object } = {
  link: LINK,
  // 10.9.0.2 is its address on another network.
  bounds: { mac: MAC, ips: [IP, IP6, '10.9.0.2'], allowed: [] },
};

let firewall: NodeFirewallDriver;
let inside: { pid: number; end(): Promise<void> };

const desired = (...ports: ContainerPort[]): Firewall => ({
  networks: [
    {
      name: 'blue',
      links: ['wfbr1'],
      prefixes: [IpNetwork.parse('10.1.0.0/16'), IpNetwork.parse('fd00:1::/48')],
      internal: false,
      masquerade: true,
    },
  ],
  containers: new Map(ports.map((port) => [port.link, port])),
  own: OWN,
});

async function setUp(): Promise<void> {
  inside = await container();
  await sh(`ip link add wfbr1 type bridge && ip link set wfbr1 up
    ip link add ${LINK} type veth peer name eth0 address ${MAC} netns ${inside.pid}
    echo 1 >/proc/sys/net/ipv6/conf/${LINK}/disable_ipv6; echo 1 >/proc/sys/net/ipv6/conf/wfbr1/disable_ipv6
    ip link set ${LINK} master wfbr1 up
    ip link add uplink type veth peer name cable && ip link set uplink master wfbr1 up && ip link set cable up
    for i in uplink cable; do echo 1 >/proc/sys/net/ipv6/conf/$i/disable_ipv6; done
    nsenter --net=/proc/${inside.pid}/ns/net sh -c 'sysctl -qw net.ipv6.conf.all.disable_ipv6=1; ip link set eth0 up'
    nft -f - <<'END'
      table bridge probe {
        set seen { type ether_addr; size 1000; flags dynamic; }
        chain passed { type filter hook prerouting priority 0; iifname "${LINK}" update @seen { ether daddr }; }
      }
END`);
  firewall = await openFirewall('nftables');
}

async function tearDown(): Promise<void> {
  firewall?.close();
  await sh('nft flush ruleset; ip link del wfbr1 2>/dev/null; ip link del uplink 2>/dev/null || true');
  await inside?.end();
}

shareAmongTests(test, setUp, tearDown);

/** By name: a frame to a MAC address, by which the probe knows it again. */
type Frames = Record<string, (to: string) => Buffer>;

/** Sends frames from the container. @param frames as words of a shell */
async function forge(frames: string): Promise<void> {
  const program = join(CHECKOUT, 'build/test/lab/forge.js');
  await sh(`nsenter --net=/proc/${inside.pid}/ns/net ${process.execPath} ${program} eth0 ${frames}`);
}

/** Sends each frame and returns the names of those that passed. */
async function passing(frames: Frames): Promise<string[]> {
  await sh('nft flush set bridge probe seen');
  const all = Object.entries(frames).map(([name, make], i) => {
    const to = `02:aa:00:00:00:${i.toString(16).padStart(2, '0')}`;
    return { name, to, hex: make(to).toString('hex') };
  });
  await forge(all.map(({ hex }) => hex).join(' '));
  const seen = await sh('nft list set bridge probe seen');
  return all.filter(({ to }) => seen.includes(to)).map(({ name }) => name);
}

const from = (to: string, mac = MAC): { from: string; to: string } => ({ from: mac, to });
const datagram = (source: string, target: string, ports: [number, number] = [1000, 1001]) => ({
  ...{ from: source, to: target, fromPort: ports[0], toPort: ports[1] },
  payload: Buffer.from('x'),
});

const OWN_FRAMES: Frames = {
  'its address': (to) => udpFrame(from(to), datagram(IP, NEIGHBOUR)),
  'its address of another network': (to) => udpFrame(from(to), datagram('10.9.0.2', '198.51.100.1')),
  'its IPv6 address': (to) => udpFrame(from(to), datagram(IP6, NEIGHBOUR6)),
  'its address in ARP': (to) => arp(from(to), { mac: MAC, ip: IP }, NEIGHBOUR),
  'an ARP probe': (to) => arp(from(to), { mac: MAC, ip: '0.0.0.0' }, IP),
  'its address in ND': (to) => advertisement(from(to), { from: IP6, to: NEIGHBOUR6 }, IP6),
  'link-local on the link': (to) => udpFrame(from(to), datagram('169.254.7.7', '169.254.7.8')),
  'link-local in ARP': (to) => arp(from(to), { mac: MAC, ip: '169.254.7.7' }, '169.254.7.8'),
  'link-local IPv6': (to) => udpFrame(from(to), datagram('fe80::7', 'fe80::8')),
  'link-local in ND': (to) => advertisement(from(to), { from: 'fe80::7', to: 'fe80::8' }, 'fe80::7'),
  'asking for an address by DHCP': (to) =>
    udpFrame(from(to), datagram('0.0.0.0', '255.255.255.255', [68, 67])),
  'a nested overlay': (to) =>
    udpFrame(from(to), {
      ...{ from: IP, to: NEIGHBOUR, fromPort: 1000, toPort: 8472 },
      payload: vxlan(4097, ethernet(from(to), 0x88b5, Buffer.alloc(46))),
    }),
};

/** By reason of the drop. */
const FORGED: Record<string, Frames> = {
  mac: { 'a neighbour’s MAC address': (to) => udpFrame(from(to, OTHER_MAC), datagram(IP, NEIGHBOUR)) },
  address: {
    'a neighbour’s address': (to) => udpFrame(from(to), datagram(NEIGHBOUR, IP)),
    'the gateway’s address': (to) => udpFrame(from(to), datagram(GATEWAY, NEIGHBOUR)),
    'any address': (to) => udpFrame(from(to), datagram('192.0.2.77', '198.51.100.1')),
    'a neighbour’s IPv6 address': (to) => udpFrame(from(to), datagram(NEIGHBOUR6, IP6)),
    'the gateway’s IPv6 address': (to) => udpFrame(from(to), datagram(GATEWAY6, NEIGHBOUR6)),
    'the gateway’s link-local address': (to) => udpFrame(from(to), datagram('fe80::1', NEIGHBOUR6)),
    'the name server’s address': (to) => udpFrame(from(to), datagram('169.254.53.53', '169.254.7.7')),
    'link-local beyond the link': (to) => udpFrame(from(to), datagram('169.254.7.7', '198.51.100.1')),
  },
  arp: {
    'the gateway in ARP': (to) => arp(from(to), { mac: MAC, ip: GATEWAY }, NEIGHBOUR),
    'a neighbour in ARP': (to) => arp(from(to), { mac: MAC, ip: NEIGHBOUR }, GATEWAY),
    'a neighbour’s MAC address in ARP': (to) => arp(from(to), { mac: OTHER_MAC, ip: IP }, GATEWAY),
    'the name server in ARP': (to) => arp(from(to), { mac: MAC, ip: '169.254.53.53' }, NEIGHBOUR),
  },
  neighbour: {
    'a neighbour in ND': (to) => advertisement(from(to), { from: IP6, to: GATEWAY6 }, NEIGHBOUR6),
    'the gateway in ND': (to) => advertisement(from(to), { from: IP6, to: NEIGHBOUR6 }, GATEWAY6),
    'the gateway in ND behind options': (to) =>
      behindOptions(advertisement(from(to), { from: IP6, to: NEIGHBOUR6 }, GATEWAY6)),
    'the gateway’s link-local address in ND': (to) =>
      advertisement(from(to), { from: 'fe80::7', to: NEIGHBOUR6 }, 'fe80::1'),
  },
  router: {
    'a router': (to) => routerAdvertisement(from(to), { from: 'fe80::7', to: 'ff02::1' }),
    'a router behind options': (to) =>
      behindOptions(routerAdvertisement(from(to), { from: 'fe80::7', to: 'ff02::1' })),
    'a redirect': (to) => redirect(from(to), { from: 'fe80::7', to: NEIGHBOUR6 }, IP6),
  },
  dhcp: {
    'a DHCP server': (to) => udpFrame(from(to), datagram(IP, '255.255.255.255', [67, 68])),
    'a DHCPv6 server': (to) => udpFrame(from(to), datagram('fe80::7', 'fe80::8', [547, 546])),
  },
  frame: {
    'the gateway behind a priority tag': (to) =>
      tagged(arp(from(to), { mac: MAC, ip: GATEWAY }, NEIGHBOUR), 0),
    'a VLAN': (to) => tagged(udpFrame(from(to), datagram(IP, NEIGHBOUR)), 7),
    'another protocol': (to) => ethernet(from(to), 0x88b5, Buffer.alloc(46)),
  },
};

const ALL_FORGED: Frames = Object.assign({}, ...Object.values(FORGED)) as Frames;

test.serial('without port security every frame passes', async (t) => {
  await firewall.ensure(desired({ link: LINK }));
  const all = { ...OWN_FRAMES, ...ALL_FORGED };
  t.deepEqual(await passing(all), Object.keys(all));
});

test.serial('a container speaks as itself, and as nobody else; what it tries is counted', async (t) => {
  await firewall.ensure(desired(PORT));
  const before = new Map(firewall.losses(LINK).map(({ reason, packets }) => [reason, packets]));
  t.deepEqual(await passing(OWN_FRAMES), Object.keys(OWN_FRAMES));
  for (const [reason, frames] of Object.entries(FORGED)) {
    t.deepEqual(await passing(frames), [], reason);
    const counted = firewall.losses(LINK).find((one) => one.reason === reason)?.packets;
    t.is(counted, (before.get(reason) ?? 0) + Object.keys(frames).length, reason);
    t.is(firewall.drops().find((one) => one.reason === reason)?.packets, counted, reason);
  }
  t.deepEqual(firewall.losses('wfepb'), []);
});

test.serial('allowed addresses open the port for these, and not for the gateway’s', async (t) => {
  const allowed = ['10.1.0.0/24', 'fd00:1::/64'].map((text) => IpNetwork.parse(text));
  await firewall.ensure(desired({ ...PORT, bounds: { ...PORT.bounds, allowed } }));
  const names = [
    'a neighbour’s address',
    'a neighbour’s IPv6 address',
    'a neighbour in ARP',
    'a neighbour in ND',
  ];
  t.deepEqual((await passing(ALL_FORGED)).toSorted(), names.toSorted());
});

test.serial('on a LAN, IPv6 is bound by the MAC address alone, and VLANs pass', async (t) => {
  await firewall.ensure(desired({ ...PORT, bounds: { ...PORT.bounds, anyIp6: true, lan: true } }));
  const names = ['a neighbour’s IPv6 address', 'a neighbour in ND', 'a VLAN', 'another protocol'];
  t.deepEqual((await passing(ALL_FORGED)).toSorted(), names.toSorted());
});

test.serial('a LAN gives a container an address by DHCP; no container gives one', async (t) => {
  const leased = '10.1.0.99';
  const frames: Frames = {
    'in IP': (to) => udpFrame(from(to), datagram(leased, NEIGHBOUR)),
    'in ARP': (to) => arp(from(to), { mac: MAC, ip: leased }, NEIGHBOUR),
    'to the server': (to) => udpFrame(from(to), datagram(leased, NEIGHBOUR, [68, 67])),
  };
  const lan: ContainerPort = { ...PORT, bounds: { ...PORT.bounds, lan: true } };
  const answer = (ip: string): string =>
    dhcpAnswer({ from: '02:bb:00:00:00:01', to: MAC }, '10.1.0.4', { mac: MAC, ip }).toString('hex');
  const answered = (hex: string): Promise<string> =>
    sh(`${process.execPath} ${join(CHECKOUT, 'build/test/lab/forge.js')} cable ${hex}`);

  await firewall.ensure(desired(lan));
  t.deepEqual(await passing(frames), ['to the server'], 'an address that was given before can be renewed');
  // Another container, with port security off, answers as a server would.
  await firewall.ensure(desired(lan, { link: 'uplink' }));
  await answered(answer(leased));
  t.deepEqual(await passing(frames), ['to the server']);
  await firewall.ensure(desired(lan));
  await answered(answer(leased));
  t.deepEqual(await passing(frames), Object.keys(frames));
  t.deepEqual(await passing({ another: (to) => udpFrame(from(to), datagram('10.1.0.98', NEIGHBOUR)) }), []);
  await answered(answer(GATEWAY));
  t.deepEqual(await passing(ALL_FORGED).then((all) => all.filter((name) => name.includes('gateway'))), []);
  t.deepEqual((await firewall.ensure(desired(lan))).repaired, [], 'what a LAN gives is no drift');
  await firewall.ensure(desired(PORT));
  t.deepEqual(await passing(frames), [], 'a network of weft’s own gives no addresses so');
  await sh('nft flush set bridge weft leased');
});

test.serial('a container sends the node a thousand queries a second, port security or not', async (t) => {
  const query: Frames = { 'a query': (to) => udpFrame(from(to), datagram(IP, GATEWAY, [1000, 53])) };
  const elsewhere: Frames = {
    'a query': (to) => udpFrame(from(to), datagram(IP, '198.51.100.1', [1000, 53])),
  };
  const segment = (to: string, flags: number): Buffer =>
    tcpFrame(from(to), { from: IP, to: GATEWAY, fromPort: 1000, toPort: 53, flags });
  const connection: Frames = { 'a query': (to) => segment(to, 2) };
  const established: Frames = { 'a query': (to) => segment(to, 16) };
  for (const port of [PORT, { link: LINK }]) {
    await firewall.ensure(desired(port));
    t.deepEqual(await passing(query), ['a query']);
    const flood = async (make: Frames): Promise<void> => {
      const frame = make['a query']?.('02:aa:00:00:00:00').toString('hex') ?? '';
      await forge(`'${frame}*3000'`);
    };
    const lost = (): number => firewall.losses(LINK).find(({ reason }) => reason === 'dns')?.packets ?? 0;
    for (const make of [elsewhere, established]) await flood(make);
    t.is(lost(), 0);
    for (const make of [query, connection]) {
      await flood(make);
      t.true(lost() > 500, `${lost()}`);
      await sh('nft flush set bridge weft loss_dns; nft flush set bridge weft queries');
    }
  }
});

/** weft's table without what it has counted. */
const ours = async (): Promise<string> =>
  (await sh('nft -s list table bridge weft')).replaceAll(/^\s*elements = \{ "wfepa" counter \}\n/gm, '');

const DAMAGES: [string, string, RegExp][] = [
  ['the table is deleted', 'nft delete table bridge weft', /table bridge weft was missing/],
  [
    'a rule is deleted',
    `nft delete rule bridge weft ports handle $(nft -a list chain bridge weft ports | grep 'a MAC address that is not' | sed -n 's/.*# handle //p' | sed -n 1p)`,
    /chain ports: rule "a MAC address/,
  ],
  ['a rule is added', 'nft insert rule bridge weft ports accept', /rules that weft did not add/],
  [
    'an element is deleted',
    `nft delete element bridge weft bound '{ "${LINK}" }'`,
    /set bound: wfepa missing/,
  ],
  [
    'an address is added',
    `nft add element bridge weft source4 '{ "${LINK}" . ${MAC} . ${NEIGHBOUR} }'`,
    /set source4: wfepa \. 02:77:0a:01:00:02 \. 10\.1\.0\.3 not wanted/,
  ],
];

test.serial('what a container can make the kernel remember has a bound', async (t) => {
  await firewall.ensure({ ...desired(PORT), maxConnections: 10 });
  const tables = await sh('nft list table inet weft; nft list table bridge weft');
  const filled = tables.split(/^\tset /m).filter((set) => /^\t\tflags dynamic/m.test(set));
  t.true(filled.some((set) => set.startsWith('connections4')));
  t.true(filled.some((set) => set.startsWith('leased')));
  for (const set of filled) t.regex(set, /^\t\tsize 65535$/m);
});

test.serial('damage by hand is repaired, and counted as drift', async (t: ExecutionContext) => {
  const allowed = [IpNetwork.parse('10.5.0.0/24'), IpNetwork.parse('fd00:5::/64')];
  const wanted = desired({ ...PORT, bounds: { ...PORT.bounds, allowed } });
  await firewall.ensure(wanted);
  for (const [what, command, words] of DAMAGES) {
    const before = await ours();
    await sh(command);
    const { repaired, applied } = await firewall.ensure(wanted);
    t.regex(repaired.join('\n'), words, what);
    t.deepEqual(applied, [], what);
    t.is(await ours(), before, what);
  }
  t.deepEqual(await firewall.ensure(wanted), { repaired: [], applied: [], problems: [] });
});

test.serial('elements of every kind are written as messages, and read back as they were meant', async (t) => {
  const said: string[] = [];
  const log = { debug: (message: string) => said.push(message) };
  const driver = await openFirewall('nftables', { log });
  const container: ContainerPort = {
    link: 'wfepb',
    bounds: {
      ...{ mac: OTHER_MAC, ips: [NEIGHBOUR, NEIGHBOUR6], anyIp6: true, lan: true },
      allowed: ['10.1.9.0/24', '10.1.8.1/32', 'fd00:1:9::/64'].map((text) => IpNetwork.parse(text)),
    },
  };
  const ports: FirewallPort[] = [
    { hostPort: 8080, protocol: 'tcp', ip: NEIGHBOUR, port: 80, clients: 'itself' },
    { hostPort: 8081, protocol: 'udp', ip: NEIGHBOUR, port: 81, clients: 'gateway', hostIp: '192.0.2.1' },
    { hostPort: 8080, protocol: 'tcp', ip: NEIGHBOUR6, port: 80, clients: 'themselves' },
  ];
  const plain = [
    ['10.1.7.0/24', '10.1.0.0/16'],
    ['fd00:1:7::/64', 'fd00:1::/48'],
  ].map(([from = '', to = '']) => ({ from: IpNetwork.parse(from), to: IpNetwork.parse(to) }));
  const member: FirewallMember = {
    ...{ addresses: ['192.0.2.7', '2001:db8::7'], vnis: [{ port: 8472, vni: 4097 }], plain },
  };
  const before: Firewall = {
    ...{ ...desired(PORT), vnis: [{ port: 8472, vni: 4097 }], members: new Map(), ports: new Map() },
  };
  const after: Firewall = {
    ...before,
    containers: new Map([PORT, container].map((one) => [one.link, one])),
    members: new Map([['h2', member]]),
    ports: new Map(ports.map((port) => [firewallPortKey(port), port])),
  };
  const items = [container, ...ports, member];
  const isAsWanted = async (wanted: Firewall): Promise<void> => {
    t.deepEqual(said.splice(0), [], 'neither refused nor written by other means');
    const again = await openFirewall('nftables');
    t.deepEqual(await again.ensure(wanted), { repaired: [], applied: [], problems: [] });
    again.close();
  };
  await driver.ensure(before);
  said.length = 0;
  await driver.changeItems(after, items, []);
  await isAsWanted(after);
  await driver.changeItems(before, [], items);
  await isAsWanted(before);
  // Another program writes: what it did is found and put right.
  await sh(`nft delete element bridge weft macs '{ "${LINK}" . ${MAC} }'`);
  const { repaired } = await driver.changeItems(after, items, []);
  t.regex(repaired.join(), /macs/);
  said.length = 0;
  await isAsWanted(after);
  await driver.remove();
  driver.close();
});

test.serial(
  'one container more is elements; a restart finds no drift; the last one leaves none',
  async (t) => {
    const second: ContainerPort = {
      link: 'wfepb',
      bounds: { mac: OTHER_MAC, ips: [NEIGHBOUR, IP], allowed: [] },
    };
    await firewall.ensure(desired(PORT));
    const before = await ours();
    const more = await firewall.changeItems(desired(PORT, second), [second], []);
    t.deepEqual([more.repaired, more.applied], [[], []]);
    const between = await ours();
    t.regex(between, /wfepb/);
    t.deepEqual(await firewall.ensure(desired(PORT, second)), { repaired: [], applied: [], problems: [] });
    const again = await openFirewall('nftables');
    t.deepEqual(await again.ensure(desired(PORT, second)), { repaired: [], applied: [], problems: [] });
    // Before its records are read nothing is unbound.
    t.deepEqual(await again.ensure({ ...desired(), keepItems: true }), {
      repaired: [],
      applied: [],
      problems: [],
    });
    again.close();
    await firewall.changeItems(desired(PORT), [], [second]);
    t.is(await ours(), before);
    await firewall.remove();
    t.false((await sh('nft list tables')).includes('weft'));
  },
);
