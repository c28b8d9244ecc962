// The node’s underlay: which link and addresses it is, and what is wrong with it.
import test, { type ExecutionContext } from 'ava';

import { Problems } from '../../../agent/health/problems.js';
import type { AddressFlaw, UnderlayLink } from '../../../agent/kernel/kernel.js';
import { State } from '../../../agent/state/state.js';
import { findUnderlay, type UnderlaySettings } from '../../../agent/underlay/find-underlay.js';
import { NodeUnderlay } from '../../../agent/underlay/node-underlay.js';
import { IpAddress } from '../../../core/address.js';
import type { WeftError } from '../../../core/errors.js';
import { silentLogger as log } from '../../../daemon/log.js';
import { FakeKernel } from '../../fakes/kernel.js';
import { temporaryFolder } from '../../lab/temporary-folder.js';

// The choice of the underlay addresses: at first the kernel's, then those that the node has.

/** Of the form `eth0 192.0.2.1/24 2001:db8::1/64=deprecated`. */
function link(text: string, more: Partial<UnderlayLink> = {}): UnderlayLink {
  const [name = '', ...words] = text.split(' ');
  const pairs = words.map((word) => word.split('='));
  const flaws = pairs.flatMap(([address = '', flaw]) => (flaw === undefined ? [] : [[address, flaw]]));
  return {
    ...{ name, mtu: 1500, running: true, addresses: pairs.map(([address = '']) => address) },
    flaws: Object.fromEntries(flaws) as Record<string, AddressFlaw>,
    ...more,
  };
}

interface Case {
  links: (string | UnderlayLink)[];
  /** What the kernel would send from: `IP LINK`. */
  from?: string[];
  last?: string[];
  settings?: { ips?: string[]; iface?: string };
}

function find({ links, from = [], last = [], settings = {} }: Case): ReturnType<typeof findUnderlay> {
  const kernel = new FakeKernel();
  kernel.underlays = links.map((it) => (typeof it === 'string' ? link(it) : it));
  kernel.sources = {};
  for (const text of from) {
    const [ip = '', name = ''] = text.split(' ');
    kernel.sources[IpAddress.parse(ip).family] = { ip, link: name };
  }
  const [ip, ip6] = [4, 6].map((family) =>
    last.map((it) => IpAddress.parse(it)).find((it) => it.family === family),
  );
  const { ips, iface } = settings;
  const given: UnderlaySettings = {
    ...(iface === undefined ? {} : { iface }),
    ...(ips === undefined ? {} : { ips: ips.map((it) => IpAddress.parse(it)) }),
  };
  return findUnderlay(kernel, given, { ...(ip && { ip }), ...(ip6 && { ip6 }) });
}

const FROM = ['192.0.2.1 eth0'];
const ETH0 = 'eth0 192.0.2.1/24 2001:db8::1/64';
const VPN = 'vpn0 198.51.100.5/24 2001:db8:9::5/64';

/** @param expected address, IPv6 address, link */
const chooses = (name: string, of: Case, expected: string): void =>
  test(name, async (t) => {
    const { ip, ip6, link } = await find(of);
    t.is([ip, ip6 ?? '-', link].join(' '), expected);
  });

chooses(
  'at first what the kernel sends from',
  { links: [VPN, ETH0], from: FROM },
  '192.0.2.1 2001:db8::1 eth0',
);
chooses(
  'not the first address of the link, which may be another service’s',
  { links: ['eth0 192.0.2.100/32 192.0.2.1/24 2001:db8::100/128 2001:db8::1/64'], from: FROM },
  '192.0.2.1 2001:db8::1 eth0',
);
chooses(
  'each family by its own route',
  { links: [VPN, ETH0], from: [...FROM, '2001:db8:9::5 vpn0'] },
  '192.0.2.1 2001:db8:9::5 eth0',
);
chooses(
  'a VPN’s default route moves nothing',
  {
    links: [VPN, ETH0],
    from: ['198.51.100.5 vpn0', '2001:db8:9::5 vpn0'],
    last: ['192.0.2.1', '2001:db8::1'],
  },
  '192.0.2.1 2001:db8::1 eth0',
);
chooses(
  'a default route that is gone moves nothing',
  { links: [VPN, ETH0], last: ['192.0.2.1'] },
  '192.0.2.1 2001:db8::1 eth0',
);
chooses(
  'an address that is gone is given up',
  { links: ['eth0 192.0.2.7/24'], from: ['192.0.2.7 eth0'], last: ['192.0.2.1', '2001:db8::1'] },
  '192.0.2.7 - eth0',
);
chooses(
  'the IPv4 address of the link with the IPv6 default route',
  { links: [VPN, ETH0], from: ['2001:db8::1 eth0'] },
  '192.0.2.1 2001:db8::1 eth0',
);
for (const flaw of ['deprecated', 'temporary', 'tentative', 'duplicate']) {
  chooses(
    `no address that is ${flaw}`,
    {
      links: [`eth0 192.0.2.1/24 2001:db8::d/64=${flaw} 2001:db8::1/64`],
      from: [...FROM, '2001:db8::d eth0'],
    },
    '192.0.2.1 2001:db8::1 eth0',
  );
  chooses(
    `rather none than one that is ${flaw}`,
    { links: [`eth0 192.0.2.1/24 2001:db8::d/64=${flaw}`], from: [...FROM, '2001:db8::d eth0'] },
    '192.0.2.1 - eth0',
  );
}
for (const flaw of ['deprecated', 'temporary', 'duplicate'])
  chooses(
    `the node’s own is given up when it is ${flaw} and another one is not`,
    { links: [`eth0 192.0.2.1/24 2001:db8::d/64=${flaw} 2001:db8::1/64`], from: FROM, last: ['2001:db8::d'] },
    '192.0.2.1 2001:db8::1 eth0',
  );
chooses(
  'the node’s own stays while it is checked again, as when its link comes back',
  { links: ['eth0 192.0.2.1/24 2001:db8::d/64=tentative 2001:db8::1/64'], from: FROM, last: ['2001:db8::d'] },
  '192.0.2.1 2001:db8::d eth0',
);
chooses(
  'the node’s own stays while it is deprecated and there is no other',
  { links: ['eth0 192.0.2.1/24 2001:db8::d/64=deprecated'], from: FROM, last: ['2001:db8::d'] },
  '192.0.2.1 2001:db8::d eth0',
);
const DOWN = 'eth0 192.0.2.1/24=down 2001:db8::1/64=down';
chooses(
  'the node’s own are given up when their link is set down and another link has the default route',
  { links: [DOWN, VPN], from: ['198.51.100.5 vpn0'], last: ['192.0.2.1', '2001:db8::1'] },
  '198.51.100.5 2001:db8:9::5 vpn0',
);
chooses(
  'the node’s own IPv4 address stays on a link that is set down while there is no other',
  { links: [DOWN, 'docker0 172.17.0.1/16'], last: ['192.0.2.1', '2001:db8::1'] },
  '192.0.2.1 - eth0',
);
chooses(
  'the node’s own stay on a link whose cable is out',
  {
    links: [link(ETH0, { running: false }), VPN],
    from: ['198.51.100.5 vpn0', '2001:db8:9::5 vpn0'],
    last: ['192.0.2.1', '2001:db8::1'],
  },
  '192.0.2.1 2001:db8::1 eth0',
);
chooses(
  '--underlay-iface decides, over the kernel and over the past',
  { links: [VPN, ETH0], from: FROM, last: ['192.0.2.1', '2001:db8::1'], settings: { iface: 'vpn0' } },
  '198.51.100.5 2001:db8:9::5 vpn0',
);
chooses(
  '--underlay-iface: the node stays on an address of it',
  { links: ['eth0 192.0.2.1/24 192.0.2.2/24'], from: FROM, last: ['192.0.2.2'], settings: { iface: 'eth0' } },
  '192.0.2.2 - eth0',
);
chooses(
  '--underlay-ip decides, also for one that is deprecated',
  {
    links: [VPN, 'eth0 192.0.2.1/24 2001:db8::d/64=deprecated'],
    from: ['198.51.100.5 vpn0'],
    last: ['198.51.100.5'],
    settings: { ips: ['192.0.2.1', '2001:db8::d'] },
  },
  '192.0.2.1 2001:db8::d eth0',
);

const IPV6 = 'eth0 2001:db8::1/64';
chooses('IPv6 alone', { links: [IPV6], from: ['2001:db8::1 eth0'] }, '2001:db8::1 - eth0');
chooses(
  'IPv6 alone beside IPv4 on a link that other nodes do not reach',
  { links: [IPV6, 'docker0 172.17.0.1/16'], from: ['2001:db8::1 eth0'] },
  '2001:db8::1 - eth0',
);
chooses(
  'IPv6 alone of --underlay-iface',
  { links: [IPV6, VPN], from: ['198.51.100.5 vpn0'], settings: { iface: 'eth0' } },
  '2001:db8::1 - eth0',
);
chooses(
  'IPv6 alone of --underlay-ip, also where the node had IPv4',
  { links: [ETH0], from: FROM, last: ['192.0.2.1'], settings: { ips: ['2001:db8::1'] } },
  '2001:db8::1 - eth0',
);
chooses(
  'IPv4 as soon as a node of IPv6 alone has it',
  { links: [ETH0], from: FROM, last: ['2001:db8::1'] },
  '192.0.2.1 2001:db8::1 eth0',
);

test('addresses on the loopback travel by the link of the route', async (t) => {
  const links = [
    link('lo 203.0.113.1/32', { loopback: true, mtu: 65_536 }),
    link('eth0 192.0.2.1/31', { mtu: 9000 }),
  ];
  const found = await find({ links, from: ['203.0.113.1 eth0'] });
  t.is(found.ip.toString(), '203.0.113.1');
  t.deepEqual([found.link, found.mtu], ['eth0', 9000]);
  t.deepEqual(
    found.onLink.map(({ link: name, prefix }) => `${name} ${prefix.toString()}`),
    ['eth0 192.0.2.0/31'],
  );
});

async function refused(t: ExecutionContext, of: Case, why: RegExp, next: RegExp): Promise<void> {
  const error = await t.throwsAsync<WeftError>(find(of), { message: why });
  t.regex(error?.next ?? '', next);
}

test('what cannot be used is refused with what helps', async (t) => {
  await refused(
    t,
    { links: ['eth0 2001:db8::1/64'], from: ['2001:db8::1 eth0'], last: ['192.0.2.1'] },
    /^this host has no IPv4 address on the underlay any more; the node had 192\.0\.2\.1$/,
    /--underlay-ip 2001:db8::1\.$/,
  );
  await refused(
    t,
    { links: ['eth0 2001:db8::1/64=duplicate'], settings: { iface: 'eth0' } },
    /^interface eth0 has no address that can be used$/,
    /--underlay-ip/,
  );
  await refused(t, { links: [ETH0] }, /no default route/, /--underlay-ip or --underlay-iface.*192\.0\.2\.1/);
  await refused(
    t,
    { links: [] },
    /^this host has no address that other nodes reach$/,
    /^Give .*no interface with an address/,
  );
  await refused(t, { links: [ETH0], settings: { iface: 'eth9' } }, /no interface eth9/, /eth0/);
  await refused(t, { links: [DOWN], settings: { iface: 'eth0' } }, /^interface eth0 is down$/, /set eth0 up/);
  await refused(t, { links: [DOWN] }, /no default route/, /--underlay-iface/);
  const duplicate = 'eth0 192.0.2.1/24 2001:db8::d/64=duplicate 2001:db8::e/64=tentative';
  const given = (ip6: string): Case => ({ links: [duplicate], settings: { ips: ['192.0.2.1', ip6] } });
  await refused(t, given('2001:db8::d'), /^another host of the link has the address 2001:db8::d/, /another/);
  await refused(t, given('2001:db8::e'), /2001:db8::e \(tentative\)/, /second/);
});

// The underlay while the agent runs: what is told of a change, and what is remembered.

const ip = (text: string): IpAddress => IpAddress.parse(text);
const NIC = { name: 'eth0', mtu: 1500, running: true };

test('an IPv6 address that goes with its link and comes back is the node’s again', async (t) => {
  const path = temporaryFolder(t, 'weft-underlay-');
  const [kernel, problems, state] = [new FakeKernel(), new Problems(), new State(path)];
  const options = { kernel, state, problems, log, settings: {} };
  const signal = new AbortController().signal;
  const underlay = await NodeUnderlay.find(options, signal, () => t.fail());
  const told: boolean[] = [];
  await underlay.follow({ changed: (moved) => told.push(moved), back: () => undefined });
  const has = async (...addresses: string[]): Promise<string> => {
    kernel.underlays = [{ ...NIC, addresses }];
    await underlay.look();
    const { ip, ip6 } = underlay.current;
    return `${ip.toString()} ${ip6?.toString() ?? '-'}`;
  };
  t.is(await has('192.0.2.1/24'), '192.0.2.1 -');
  t.is(await has('192.0.2.1/24', '2001:db8::9/64', '2001:db8::1/64'), '192.0.2.1 2001:db8::1');
  t.deepEqual(told, [false, false]);

  kernel.sources[4] = { ip: '192.0.2.7', link: 'eth0' };
  t.is(await has('192.0.2.7/24', '192.0.2.1/24', '2001:db8::1/64'), '192.0.2.1 2001:db8::1');
  const again = await NodeUnderlay.find({ ...options, state: new State(path) }, signal, () => t.fail());
  t.is(again.current.ip.toString(), '192.0.2.1', 'remembered over a restart');
  t.is(await has('192.0.2.7/24', '2001:db8::1/64'), '192.0.2.7 2001:db8::1');
  t.true(told.at(-1));
  t.is(await has(), '192.0.2.7 2001:db8::1', 'it stays in use until another one is found');
  t.is(problems.list().length, 1);
  await has('192.0.2.7/24');
  t.deepEqual(problems.list(), []);
});

test('--public-ip of other families than the underlay is a warning, until they agree', async (t) => {
  const start = async (nat: { ip: IpAddress; ip6?: IpAddress }, ...addresses: string[]) => {
    const [kernel, problems] = [new FakeKernel(), new Problems()];
    const state = new State(temporaryFolder(t, 'weft-underlay-'));
    const options = { kernel, state, problems, log, settings: { nat } };
    kernel.underlays = [{ ...NIC, addresses }];
    const underlay = await NodeUnderlay.find(options, new AbortController().signal, () => t.fail());
    await underlay.follow({ changed: () => undefined, back: () => undefined });
    const has = async (...now: string[]): Promise<void> => {
      kernel.underlays = [{ ...NIC, addresses: now }];
      await underlay.look();
    };
    return { problems, has };
  };
  const [one, both] = [{ ip: ip('203.0.113.1') }, { ip: ip('203.0.113.1'), ip6: ip('2001:db8:f::1') }];
  const [v4, v6] = ['192.0.2.1/24', '2001:db8::1/64'];

  const lacking = await start(one, v4, v6);
  t.deepEqual(lacking.problems.list(), [], 'the health stays');
  const [warning, ...others] = lacking.problems.warnings();
  t.deepEqual(others, []);
  t.is(warning?.what, '--public-ip 203.0.113.1');
  t.regex(warning?.why ?? '', /other nodes are told this host's own, 2001:db8::1;/);
  t.regex(warning?.fix ?? '', /--public-ip 203\.0\.113\.1,IP6\. .*203\.0\.113\.1,2001:db8::1 says so/);
  await lacking.has(v4);
  t.deepEqual(lacking.problems.warnings(), []);

  const unused = await start(both, v4);
  const [dropped] = unused.problems.warnings();
  t.is(dropped?.what, '--public-ip 203.0.113.1,2001:db8:f::1');
  t.regex(
    dropped?.why ?? '',
    /no IPv6 address on the underlay for 2001:db8:f::1, so other nodes are not told/,
  );
  t.regex(dropped?.fix ?? '', /^Give this host an IPv6 address .*, or leave out 2001:db8:f::1\.$/);
  await unused.has(v4, v6);
  t.deepEqual(unused.problems.warnings(), []);
});
