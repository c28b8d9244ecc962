// What the host's own rules drop of weft's traffic, and what is to be run, by tables of rules.
import test from 'ava';

import { closedProblems, findClosed, nftOwner, trafficOf } from '../../../agent/kernel/firewall/closed.js';
import { xtablesClosed } from '../../../agent/kernel/firewall/closed-tables.js';
import { nftPacketTable } from '../../../agent/kernel/firewall/nft-packet-rules.js';
import { parseSaved, Xtables } from '../../../agent/kernel/firewall/xtables.js';
import type { NftObject } from '../../../agent/kernel/firewall/libnftables.js';
import { IpNetwork } from '../../../core/address.js';
import type { Firewall } from '../../../core/firewall.js';

const DESIRED: Firewall = {
  networks: [
    {
      name: 'blue',
      links: ['wfbr1', 'wfvx1'],
      tunnels: ['wfvx1'],
      prefixes: [IpNetwork.parse('10.1.0.0/16')],
      internal: false,
      masquerade: true,
    },
  ],
  tunnelPorts: [8472],
  names: true,
  underlay: 'eth0',
};

const xtables = new Xtables(4, 'nft', '/usr/sbin/iptables-save', '/usr/sbin/iptables-restore');

const xtables6 = new Xtables(6, 'nft', '/usr/sbin/ip6tables-save', '/usr/sbin/ip6tables-restore');
const SIX: Firewall = {
  ...DESIRED,
  networks: DESIRED.networks.map((network) => ({ ...network, prefixes: [IpNetwork.parse('fd00:1::/48')] })),
};

/** @param rules of chains in iptables-save's form; policies by chain */
function problems(
  policies: Record<string, string>,
  rules: readonly string[],
  command = xtables,
  desired = DESIRED,
): string[] {
  const chains = [...new Set(rules.map((rule) => rule.split(' ')[0] ?? ''))];
  const declared = [...new Set([...Object.keys(policies), ...chains])];
  const text = [
    '*filter',
    ...declared.map((chain) => `:${chain} ${policies[chain] ?? '-'} [0:0]`),
    ...rules.map((rule) => `-A ${rule}`),
    'COMMIT',
  ].join('\n');
  const filter = parseSaved(text).get('filter') ?? new Map();
  return closedProblems(xtablesClosed(command, filter, desired)).map(
    ({ what, why, fix }) => `${what}: ${why}. ${fix}`,
  );
}

const OPEN = { INPUT: 'ACCEPT', FORWARD: 'ACCEPT' };
const SHUT = { INPUT: 'DROP', FORWARD: 'DROP' };
const WEFT = ['FORWARD -j WEFT-ACCEPT', 'WEFT-ACCEPT -i wf+ -j ACCEPT', 'WEFT-ACCEPT -o wf+ -j ACCEPT'];
const ARRIVES = [
  'INPUT -i wf+ -p udp -m udp --dport 53 -j ACCEPT',
  'INPUT -i wf+ -p tcp -m tcp --dport 53 -j ACCEPT',
  'INPUT -i wf+ -p icmp -m icmp --icmp-type 8 -j ACCEPT',
  'INPUT -p udp -m udp --dport 8472 -j ACCEPT',
];

for (const [what, policies, rules, expected] of [
  ['an open host', OPEN, [], []],
  ['policies that drop, and what lets all through', SHUT, [...ARRIVES, ...WEFT], []],
  [
    'a rule for everything, before weft’s',
    OPEN,
    ['FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT', 'FORWARD -j REJECT', ...WEFT],
    [
      /^iptables \(nft\), chain FORWARD: its rule `-A FORWARD -j REJECT` .*iptables -I FORWARD 2 -i wfbr\+ -j ACCEPT && iptables -I FORWARD 2 -o wfbr\+ .*-i wfvx\+ .*-o wfvx\+/,
    ],
  ],
  ['a rule for everything, behind weft’s', OPEN, [...WEFT, 'FORWARD -j REJECT'], []],
  ['a rule about one host of the operator’s', OPEN, ['FORWARD -s 203.0.113.7/32 -j DROP', ...WEFT], []],
  ['a rule about a port', OPEN, ['FORWARD -i eth0 -p tcp -m tcp --dport 80 -j DROP', ...WEFT], []],
  ['a rule about other links', OPEN, ['FORWARD -i docker0 -j DROP', 'FORWARD -o lo -j DROP', ...WEFT], []],
  ['a rule about weft’s links', OPEN, ['FORWARD -i wfbr+ -o eth0 -j DROP', ...WEFT], []],
  [
    'all UDP to the containers',
    OPEN,
    ['FORWARD -o wfbr+ -p udp -j DROP', ...WEFT],
    [
      /its rule `-A FORWARD -o wfbr\+ -p udp -j DROP` .*networks forward\. Run: iptables -I FORWARD 1 -i wfbr\+/,
    ],
  ],
  ['UDP to one port', OPEN, ['FORWARD -o wfbr+ -p udp -m udp --dport 53 -j DROP', ...WEFT], []],
  ['UDP from an address', OPEN, ['FORWARD -s 10.1.2.3/32 -p udp -j DROP', ...WEFT], []],
  [
    'questions for names by UDP only',
    { ...OPEN, INPUT: 'DROP' },
    ARRIVES.filter((rule) => !rule.includes('-p tcp')),
    [
      /accepts the containers' questions for names \(port 53\)\. Run: .*-i wfbr\+ -p tcp --dport 53 -j ACCEPT/,
    ],
  ],
  [
    'a host that answers no ping',
    { ...OPEN, INPUT: 'DROP' },
    [
      'INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT',
      'INPUT -p icmp -m icmp --icmp-type 3/4 -j ACCEPT',
      'INPUT -p icmp -m icmp ! --icmp-type 8 -j ACCEPT',
      ...ARRIVES.filter((rule) => !rule.includes('icmp')),
    ],
    [
      /^iptables \(nft\), chain INPUT: it drops .* accepts the other nodes' probes \(ICMP echo\)\. Run: iptables -I INPUT -i wfvx\+ -p icmp --icmp-type echo-request -j ACCEPT, and/,
    ],
  ],
  [
    'ping by a rule',
    OPEN,
    ['INPUT -p icmp -m icmp --icmp-type 8 -j DROP'],
    [/its rule `-A INPUT -p icmp -m icmp --icmp-type 8 -j DROP` .* probes/],
  ],
  [
    'whatever this host sends',
    { ...OPEN, OUTPUT: 'DROP' },
    ['OUTPUT -o lo -j ACCEPT', 'OUTPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT'],
    [
      /^iptables \(nft\), chain OUTPUT: it drops .* this node \(ICMP echo\), nor UDP port 8472, to which tunnels send\. Run: iptables -I OUTPUT -o wfvx\+ -p icmp --icmp-type echo-request -j ACCEPT && iptables -I OUTPUT -p udp --dport 8472 -j ACCEPT, and/,
    ],
  ],
  [
    'whatever this host sends, but what weft needs',
    { ...OPEN, OUTPUT: 'DROP' },
    ['OUTPUT -o wfvx+ -p icmp -j ACCEPT', 'OUTPUT -o eth0 -p udp -m udp --dport 8472 -j ACCEPT'],
    [],
  ],
  [
    'tunnels that send, by a rule',
    OPEN,
    ['OUTPUT -o eth0 -p udp -j REJECT', 'OUTPUT -o eth1 -j DROP'],
    [
      /its rule `-A OUTPUT -o eth0 -p udp -j REJECT` .* UDP port 8472, to which tunnels send\. Run: iptables -I/,
    ],
  ],
  ['all of weft’s links', OPEN, ['FORWARD ! -i eth0 -o wf+ -j DROP', ...WEFT], [/! -i eth0 -o wf\+ -j DROP/]],
  [
    'whatever is new',
    OPEN,
    ['FORWARD -m conntrack --ctstate NEW -j DROP', ...WEFT],
    [/--ctstate NEW -j DROP/],
  ],
  [
    'in a chain that returns for some',
    OPEN,
    ['FORWARD -j theirs', 'theirs -m addrtype --dst-type LOCAL -j RETURN', 'theirs -j DROP', ...WEFT],
    [],
  ],
  ['in a chain, for all', OPEN, ['FORWARD -g theirs', 'theirs -j DROP', ...WEFT], [/-I theirs 1 -i wfbr\+/]],
  [
    'arriving packets, with an accept of another subnet’s for names',
    { ...OPEN, INPUT: 'DROP' },
    ['INPUT -s 192.168.0.0/16 -j ACCEPT', 'INPUT -i lo -j ACCEPT'],
    [
      /^iptables \(nft\), chain INPUT: it drops .*port 53\), nor the other nodes' probes \(ICMP echo\)\. Run: iptables -I INPUT -i wfbr\+ -p udp --dport 53 -j ACCEPT && iptables -I INPUT -i wfbr\+ -p tcp/,
    ],
  ],
  [
    'ufw as it comes',
    SHUT,
    [
      ...['INPUT -j ufw-before-input', 'INPUT -j ufw-reject-input', 'FORWARD -j ufw-before-forward'],
      'ufw-before-input -i lo -j ACCEPT',
      'ufw-before-input -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT',
      'ufw-before-input -p icmp -m icmp --icmp-type 8 -j ACCEPT',
      'ufw-before-input -j ufw-not-local',
      'ufw-before-input -j ufw-user-input',
      'ufw-not-local -m addrtype --dst-type LOCAL -j RETURN',
      'ufw-not-local -j DROP',
      'ufw-user-input -p tcp -m tcp --dport 22 -j ACCEPT',
      'ufw-before-forward -p icmp -m icmp --icmp-type 8 -j ACCEPT',
      ...WEFT,
    ],
    [/^ufw: .* Run: ufw allow in on wfbr\+ to any port 53 && ufw allow 8472\/udp$/],
  ],
  [
    'ufw that denies what this host sends',
    { ...OPEN, OUTPUT: 'DROP' },
    [
      'OUTPUT -j ufw-before-output',
      'ufw-before-output -o lo -j ACCEPT',
      'ufw-before-output -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT',
    ],
    [/^ufw: .* Run: ufw allow out on wfvx\+ && ufw allow out 8472\/udp$/],
  ],
  [
    'ufw that answers no ping',
    { ...OPEN, INPUT: 'DROP' },
    ['INPUT -j ufw-before-input', ...ARRIVES.filter((rule) => !rule.includes('icmp'))],
    [/^iptables \(nft\), chain INPUT: .* Run: iptables -I INPUT -i wfvx\+ -p icmp --icmp-type echo-request/],
  ],
  [
    'firewalld with a policy for what this host sends',
    OPEN,
    [
      'INPUT -j INPUT_ZONES',
      'INPUT_ZONES -j RETURN',
      'OUTPUT -j OUT_policy_strict',
      'OUT_policy_strict -j DROP',
    ],
    [
      /^firewalld: .* Run: firewall-cmd --permanent --policy=strict --add-protocol=icmp && firewall-cmd --permanent --policy=strict --add-port=8472\/udp && firewall-cmd --reload$/,
    ],
  ],
  [
    'ufw that rejects what is routed',
    OPEN,
    ['FORWARD -j ufw-reject-forward', 'ufw-reject-forward -j REJECT', ...WEFT],
    [
      /^ufw: .* Run: ufw route allow in on wfbr\+ && ufw route allow out on wfbr\+ && ufw route allow in on wfvx\+ && ufw route allow out on wfvx\+$/,
    ],
  ],
] as [string, Record<string, string>, string[], RegExp[]][])
  test(what, (t) => {
    const found = problems(policies, rules);
    t.is(found.length, expected.length, found.join('\n'));
    for (const [i, words] of expected.entries()) t.regex(found[i] ?? '', words);
  });

const ARRIVES6 = [
  'INPUT -i wf+ -p udp -j ACCEPT',
  'INPUT -i wf+ -p tcp -j ACCEPT',
  'INPUT -p udp -m udp --dport 8472 -j ACCEPT',
];
const SOLICITS =
  'ip6tables -I INPUT -i wfbr\\+ -p icmpv6 --icmpv6-type neighbour-solicitation -j ACCEPT && ip6tables -I INPUT -i wfbr\\+ -p icmpv6 --icmpv6-type neighbour-advertisement -j ACCEPT';

for (const [what, rules, expected] of [
  [
    'without ICMPv6, containers do not find their gateway',
    ['INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT', ...ARRIVES6],
    [
      new RegExp(
        `neighbour discovery of containers \\(ICMPv6\\), nor the other nodes' probes .*Run: ${SOLICITS} && ip6tables -I INPUT -i wfvx\\+ -p icmpv6 --icmpv6-type echo-request -j ACCEPT, and`,
      ),
    ],
  ],
  [
    'with solicitations and echo only, the gateway does not find containers',
    [
      'INPUT -p ipv6-icmp -m icmp6 --icmpv6-type 135 -j ACCEPT',
      'INPUT -p ipv6-icmp -m icmp6 --icmpv6-type 128 -j ACCEPT',
      ...ARRIVES6,
    ],
    [new RegExp(`accepts the neighbour discovery of containers \\(ICMPv6\\)\\. Run: ${SOLICITS}, and`)],
  ],
  [
    'neighbour discovery is no new connection',
    [
      'INPUT -m conntrack --ctstate NEW -j ACCEPT',
      'INPUT -p ipv6-icmp -m icmp6 --icmpv6-type 135 -m hl --hl-eq 255 -j ACCEPT',
      'INPUT -p ipv6-icmp -m icmp6 --icmpv6-type 136 -m hl --hl-eq 255 -j ACCEPT',
    ],
    [],
  ],
  ['all of ICMPv6', ['INPUT -p ipv6-icmp -j ACCEPT', ...ARRIVES6], []],
] as [string, string[], RegExp[]][])
  test(`IPv6: ${what}`, (t) => {
    const found = problems({ ...OPEN, INPUT: 'DROP' }, rules, xtables6, SIX);
    t.is(found.length, expected.length, found.join('\n'));
    for (const [i, words] of expected.entries()) t.regex(found[i] ?? '', words);
  });

test('IPv6: a rule that drops what this host sends', (t) => {
  const [found, ...others] = problems(OPEN, ['OUTPUT -o wf+ -j DROP'], xtables6, SIX);
  t.deepEqual(others, []);
  t.regex(
    found ?? '',
    /accepts the neighbour discovery of this node \(ICMPv6\), nor the probes of this node/,
  );
  t.regex(
    found ?? '',
    /ip6tables -I OUTPUT -o wfbr\+ -p icmpv6 --icmpv6-type neighbour-solicitation -j ACCEPT/,
  );
});

test('a table of nftables’ own: states, verdict maps, sets and other families', (t) => {
  const rule = (chain: string, ...expr: object[]): NftObject => ({
    rule: { family: 'inet', table: 'own', chain, expr: expr as Record<string, unknown>[] },
  });
  const match = (left: object, right: unknown, op = '=='): object => ({ match: { op, left, right } });
  const iif = { meta: { key: 'iifname' } };
  const dport = { payload: { protocol: 'udp', field: 'dport' } };
  const chain = (name: string, policy?: string): NftObject => ({
    chain: { family: 'inet', table: 'own', name, ...(policy !== undefined && { policy }) },
  });
  const common = [
    chain('in', 'drop'),
    chain('deep'),
    rule('in', {
      vmap: {
        key: { ct: { key: 'state' } },
        data: {
          set: [
            ['established', { accept: null }],
            ['invalid', { drop: null }],
          ],
        },
      },
    }),
    rule('in', match(iif, 'lo'), { accept: null }),
    rule('in', match({ payload: { protocol: 'ip6', field: 'daddr' } }, 'fe80::/10'), { accept: null }),
    rule('in', match({ meta: { key: 'l4proto' } }, { set: ['icmp', 'ipv6-icmp'] }), { accept: null }),
  ];
  const found = (...rules: NftObject[]): string[] =>
    closedProblems(
      findClosed(
        nftPacketTable([...common, ...rules]),
        { input: 'in' },
        trafficOf(DESIRED, 4),
        nftOwner('inet own'),
      ),
    ).map(({ why, fix }) => `${why} ${fix}`);
  t.regex(
    found().join(),
    /port 53\), nor UDP port 8472.*nft 'insert rule inet own in iifname "wfbr\*".*8472 accept'/,
  );
  const names = rule('in', match(iif, 'wfbr*'), { accept: null });
  t.regex(found(names).join(), /UDP port 8472/);
  const ports = { set: [53, { range: [8000, 9000] }] };
  t.deepEqual(found(names, rule('in', match(dport, ports), { accept: null })), []);
  const dport53 = found(rule('in', match(dport, ports), { accept: null }));
  t.regex(dport53.join(), /insert rule inet own in iifname "wfbr\*" tcp dport 53 accept/);
  t.deepEqual(found(names, rule('in', match(dport, '@open'), { accept: null })), [], 'a set may have it');
  const deep = rule('in', match(iif, 'eth0'), { goto: { target: 'deep' } });
  t.deepEqual(found(names, deep, rule('deep', match(dport, 8472), { accept: null })), []);
  t.is(found(names, deep, rule('deep', { reject: null })).length, 1);
  t.deepEqual(found(names, rule('in', match(iif, 'eth1', '!='), match(dport, 8472), { accept: null })), []);
});

test('a table of nftables’ own: what this host sends, and ICMP', (t) => {
  const sent = (family: 4 | 6, hook: 'input' | 'output', ...exprs: object[][]): string[] => {
    const desired = family === 4 ? DESIRED : SIX;
    const objects: NftObject[] = [
      { chain: { family: 'inet', table: 'own', name: 'one', policy: 'drop' } },
      ...exprs.map((expr) => ({
        rule: { family: 'inet', table: 'own', chain: 'one', expr: expr as Record<string, unknown>[] },
      })),
    ];
    const table = nftPacketTable(objects);
    const found = findClosed(table, { [hook]: 'one' }, trafficOf(desired, family), nftOwner('inet own'));
    return closedProblems(found).map(({ why, fix }) => `${why} ${fix}`);
  };
  const icmp = (protocol: string, right: unknown): object => ({
    match: { op: '==', left: { payload: { protocol, field: 'type' } }, right },
  });
  const udp = { match: { op: '==', left: { payload: { protocol: 'udp', field: 'dport' } }, right: 8472 } };
  const accept = { accept: null };
  t.regex(
    sent(4, 'output').join(),
    /nft 'insert rule inet own one oifname "wfvx\*" icmp type echo-request accept; insert rule inet own one udp dport 8472 accept'/,
  );
  t.deepEqual(sent(4, 'output', [udp, accept], [icmp('icmp', 'echo-request'), accept]), []);
  t.regex(sent(4, 'output', [udp, accept], [icmp('icmp', 'echo-reply'), accept]).join(), /probes/);
  const types = { set: ['nd-neighbor-solicit', 'nd-neighbor-advert', 'echo-request'] };
  t.deepEqual(sent(6, 'output', [udp, accept], [icmp('icmpv6', types), accept]), []);
  t.regex(
    sent(6, 'input', [icmp('icmpv6', 'nd-neighbor-solicit'), accept]).join(),
    /iifname "wfbr\*" icmpv6 type nd-neighbor-solicit accept; insert rule inet own one iifname "wfbr\*" icmpv6 type nd-neighbor-advert accept/,
  );
  t.deepEqual(
    sent(6, 'input', [
      { match: { op: '==', left: { ct: { key: 'state' } }, right: ['new', 'untracked'] } },
      accept,
    ]),
    [],
  );
});

test('what another program’s bridge forwards is that program’s business', (t) => {
  const [blue] = DESIRED.networks;
  const networks = blue === undefined ? [] : [{ ...blue, links: ['wfvx1'] }];
  t.deepEqual(
    problems(SHUT, ['FORWARD -i docker0 -j ACCEPT', ...ARRIVES], xtables, { ...DESIRED, networks }),
    [],
  );
});

test('IP in IP: what does not let it in is named with the command that does', (t) => {
  const [network] = DESIRED.networks;
  if (network === undefined) return t.fail();
  const desired = { ...DESIRED, networks: [{ ...network, shared: { link: 'wfipip', source: '10.1.1.0' } }] };
  const found = (rules: readonly string[]): string[] =>
    problems({ INPUT: 'DROP', FORWARD: 'ACCEPT' }, [...ARRIVES, ...WEFT, ...rules], xtables, desired);
  t.regex(
    found([]).join(),
    /IP in IP \(protocol 4\), at which tunnels arrive.*iptables -I INPUT .*-p ipencap/,
  );
  t.deepEqual(found(['INPUT -p ipencap -j ACCEPT']), []);
});
