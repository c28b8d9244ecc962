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

/** @param rules of chains in iptables-save's form; policies by chain */
function problems(policies: Record<string, string>, rules: readonly string[]): string[] {
  const chains = [...new Set(rules.map((rule) => rule.split(' ')[0] ?? ''))];
  const declared = [...new Set([...Object.keys(policies), ...chains])];
  const text = [
    '*filter',
    ...declared.map((chain) => `:${chain} ${policies[chain] ?? '-'} [0:0]`),
    ...rules.map((rule) => `-A ${rule}`),
    'COMMIT',
  ].join('\n');
  const filter = parseSaved(text).get('filter') ?? new Map();
  return closedProblems(xtablesClosed(xtables, filter, DESIRED)).map(
    ({ what, why, fix }) => `${what}: ${why}. ${fix}`,
  );
}

const OPEN = { INPUT: 'ACCEPT', FORWARD: 'ACCEPT' };
const SHUT = { INPUT: 'DROP', FORWARD: 'DROP' };
const WEFT = ['FORWARD -j WEFT-ACCEPT', 'WEFT-ACCEPT -i wf+ -j ACCEPT', 'WEFT-ACCEPT -o wf+ -j ACCEPT'];
const ARRIVES = [
  'INPUT -i wf+ -p udp -m udp --dport 53 -j ACCEPT',
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
      /^iptables \(nft\), chain INPUT: it drops .*port 53\)\. Run: iptables -I INPUT -i wfbr\+ -p udp --dport 53 -j ACCEPT && iptables -I INPUT -i wfbr\+ -p tcp/,
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
  t.deepEqual(
    found(names, rule('in', match(dport, { set: [53, { range: [8000, 9000] }] }), { accept: null })),
    [],
  );
  t.deepEqual(found(names, rule('in', match(dport, '@open'), { accept: null })), [], 'a set may have it');
  const deep = rule('in', match(iif, 'eth0'), { goto: { target: 'deep' } });
  t.deepEqual(found(names, deep, rule('deep', match(dport, 8472), { accept: null })), []);
  t.is(found(names, deep, rule('deep', { reject: null })).length, 1);
  t.deepEqual(found(names, rule('in', match(iif, 'eth1', '!='), match(dport, 8472), { accept: null })), []);
});
