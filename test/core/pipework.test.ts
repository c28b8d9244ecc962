// pipework's command line: every form, and refusals with their messages.
import test from 'ava';
import fc from 'fast-check';

import { WeftError, type ErrorCode } from '../../core/errors.js';
import { macOfText, parsePipework, type PipeworkAttach, type PipeworkCall } from '../../core/pipework.js';
import { ipv4, ipv6 } from './arbitraries.js';

const attach = (rest: Partial<PipeworkAttach>): PipeworkAttach => ({
  do: 'attach',
  host: { name: 'br1' },
  guest: 'c1',
  ifname: 'eth1',
  address: '192.168.1.1/24',
  ...rest,
});
const ovs = { host: { name: 'ovs0' }, address: '10.1.1.1/24' };

const understood: Record<string, PipeworkCall> = {
  'br1 c1 192.168.1.1/24': attach({}),
  'br1 -i eth2 c1 192.168.1.1/24': attach({ ifname: 'eth2' }),
  'br1 -l web0 c1 192.168.1.1/24': attach({ hostIfname: 'web0' }),
  'br1 -a 4 c1 192.168.1.1/24': attach({}),
  'br1 -i eth2 -l web0 -a 4 c1 192.168.1.1/24': attach({ ifname: 'eth2', hostIfname: 'web0' }),
  'br1 -a 6 c1 2001:db8::5/64': attach({ address: '2001:db8::5/64' }),
  'br1 c1 2001:db8::5/64@2001:db8::1': attach({ address: '2001:db8::5/64', gateway: '2001:db8::1' }),
  'br1 c1 192.168.1.1/24@192.168.1.254': attach({ gateway: '192.168.1.254' }),
  'br1 c1 192.168.1.1/24@': attach({}),
  'br1 c1 192.168.1.1/24 @': attach({}),
  'br1 c1 192.168.1.1/32@192.0.2.1': attach({ address: '192.168.1.1/32', gateway: '192.0.2.1' }),
  'br1 c1 0/0': { do: 'attach', host: { name: 'br1' }, guest: 'c1', ifname: 'eth1' },
  'br1 c1 192.168.1.1/24 fa:de:b0:99:52:1c': attach({ mac: 'fa:de:b0:99:52:1c' }),
  'br1 c1 192.168.1.1/24 U:myhost.foo.com': attach({ mac: '02:72:6c:cd:9b:8d' }),
  'ovs0 c1 10.1.1.1/24 @100': attach({ ...ovs, vlan: 100 }),
  'ovs0 c1 10.1.1.1/24 fa:de:b0:99:52:1c@4094': attach({ ...ovs, mac: 'fa:de:b0:99:52:1c', vlan: 4094 }),
  'ovs0 c1 10.1.1.1/24 U:myhost.foo.com@1': attach({ ...ovs, mac: '02:72:6c:cd:9b:8d', vlan: 1 }),
  'eth1 netns:/run/netns/c1 192.168.1.1/24': attach({ host: { name: 'eth1' }, guest: 'netns:/run/netns/c1' }),
  'mac:52:54:00:00:00:01 c1 192.168.1.1/24': attach({ host: { mac: '52:54:00:00:00:01' } }),
  '--force eth0 c1 192.168.1.1/24': attach({ host: { name: 'eth0' }, force: true }),
  'eth0 c1 192.168.1.1/24 --force': attach({ host: { name: 'eth0' }, force: true }),
  '--detach br1 c1': { do: 'detach', host: { name: 'br1' }, guest: 'c1', ifname: 'eth1' },
  '--detach br1 -i eth2 c1': { do: 'detach', host: { name: 'br1' }, guest: 'c1', ifname: 'eth2' },
  '--wait': { do: 'wait', ifname: 'eth1' },
  '--wait -i eth2': { do: 'wait', ifname: 'eth2' },
};

for (const [words, call] of Object.entries(understood)) {
  test(`pipework ${words}`, (t) => t.deepEqual(parsePipework(words.split(' ')), call));
}

test('an empty word at the end counts as absent, as from a script’s empty variable', (t) => {
  t.deepEqual(parsePipework(['br1', 'c1', '192.168.1.1/24', '']), attach({}));
});

const refused: Record<string, [code: ErrorCode, words: RegExp]> = {
  '': ['INVALID_ARGUMENT', /the host’s interface is missing/],
  br1: ['INVALID_ARGUMENT', /the guest is missing/],
  'br1 c1': ['INVALID_ARGUMENT', /the address is missing/],
  'br1 -i': ['INVALID_ARGUMENT', /what belongs to -i is missing/],
  'br1 -i internal-interface0 c1 192.168.1.1/24': ['INVALID_ARGUMENT', /too long \(19 characters\)/],
  'br1 -l a/b c1 192.168.1.1/24': ['INVALID_ARGUMENT', /-l: "a\/b" is not the name/],
  'br1 -l web0 -i eth2 c1 192.168.1.1/24': ['INVALID_ARGUMENT', /-i is not in its place/],
  'br1 -a 5 c1 192.168.1.1/24': ['INVALID_ARGUMENT', /neither 4 nor 6/],
  'br1 -a 6 c1 192.168.1.1/24': ['INVALID_ARGUMENT', /is an IPv4 address/],
  'br1 c1 192.168.1.1': ['INVALID_ARGUMENT', /no prefix length.*192\.168\.1\.1\/24/s],
  'br1 c1 192.168.1.1/33': ['INVALID_ARGUMENT', /192\.168\.1\.1\/33/],
  'br1 c1 192.168.1.1/24@x': ['INVALID_ARGUMENT', /gateway/],
  'br1 c1 192.168.1.1/24@2001:db8::1': ['INVALID_ARGUMENT', /different families/],
  'br1 c1 192.168.1.1/24@192.168.1.1': ['INVALID_ARGUMENT', /its own gateway/],
  'br1 c1 192.168.1.1/24@192.168.1.2@192.168.1.3': ['INVALID_ARGUMENT', /more than one gateway/],
  'br1 c1 192.168.1.1/24 nonsense': ['INVALID_ARGUMENT', /nonsense/],
  'br1 c1 192.168.1.1/24 01:00:5e:00:00:01': ['INVALID_ARGUMENT', /multicast/],
  'br1 c1 192.168.1.1/24 @0': ['INVALID_ARGUMENT', /vlan.*1 to 4094/s],
  'br1 c1 192.168.1.1/24 @4095': ['INVALID_ARGUMENT', /vlan.*1 to 4094/s],
  'br1 c1 192.168.1.1/24 @x': ['INVALID_ARGUMENT', /does not end in a VLAN/],
  'br1 c1 192.168.1.1/24 U:a@b@c': ['INVALID_ARGUMENT', /does not end in a VLAN/],
  'br1 c1 192.168.1.1/24 @100 more': ['INVALID_ARGUMENT', /"more" is one word too many/],
  '--wait -i': ['INVALID_ARGUMENT', /what belongs to -i/],
  '--detach br1': ['INVALID_ARGUMENT', /the guest is missing/],
  '--detach br1 c1 192.168.1.1/24': ['INVALID_ARGUMENT', /one word too many/],
  '--wait eth1': ['INVALID_ARGUMENT', /one word too many/],
  'lo c1 192.168.1.1/24': ['INVALID_ARGUMENT', /"lo" is not the name/],
  'mac:nonsense c1 192.168.1.1/24': ['INVALID_ARGUMENT', /nonsense/],
  'br1 c1 dhcp': ['UNIMPLEMENTED', /no DHCP client.*0\/0/s],
  'br1 c1 udhcpc-f:-x hostname:c1': ['UNIMPLEMENTED', /no DHCP client/],
  'br1 c1 dhclient': ['UNIMPLEMENTED', /no DHCP client/],
  'br1 c1 dhcpcd:x': ['UNIMPLEMENTED', /no DHCP client/],
  'route c1 add 10.0.5.0/24 via 192.168.2.1': ['UNIMPLEMENTED', /ip route/],
  'rule c1 add from 172.19.0.2/32 table 1': ['UNIMPLEMENTED', /ip rule/],
  'tc c1 qdisc add dev eth1 root netem loss 30%': ['UNIMPLEMENTED', /tc/],
  'dummy0 c1 192.168.1.1/24': ['UNIMPLEMENTED', /dummy/],
  '--direct-phys eth1 c1 192.168.1.1/24': ['UNIMPLEMENTED', /--direct-phys/],
};

for (const [words, [code, sentence]] of Object.entries(refused)) {
  test(`pipework ${words === '' ? '(nothing)' : words}: refused`, (t) => {
    const error = t.throws(() => parsePipework(words === '' ? [] : words.split(' ')), {
      instanceOf: WeftError,
    });
    t.is(error?.code, code);
    t.regex(`${error?.message}\n${error?.next}`, sentence);
    t.truthy(error?.next, 'it has a next step');
  });
}

test('parsing a composed call gives its parts', (t) => {
  const name = fc
    .stringMatching(/^[a-z][a-z0-9.]{0,14}$/)
    .filter((text) => !/^(lo|dummy\d*|route|rule|tc|mac)$/.test(text));
  const optional = <T>(of: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> => fc.option(of, { nil: undefined });
  const given = fc.oneof(
    fc.tuple(ipv4(), fc.integer({ min: 1, max: 32 })),
    fc.tuple(ipv6(), fc.integer({ min: 1, max: 128 })),
  );
  const mac = fc
    .array(fc.integer({ min: 0, max: 255 }), { minLength: 5, maxLength: 5 })
    .map((bytes) => ['02', ...bytes.map((byte) => byte.toString(16).padStart(2, '0'))].join(':'));
  fc.assert(
    fc.property(
      fc.record({ host: name, ifname: optional(name), hostIfname: optional(name), guest: name, given }),
      optional(mac),
      optional(fc.integer({ min: 1, max: 4094 })),
      fc.boolean(),
      ({ host, ifname, hostIfname, guest, given: [ip, length] }, mac, vlan, sayFamily) => {
        const tail = `${mac ?? ''}${vlan === undefined ? '' : `@${vlan}`}`;
        const words = [
          host,
          ...(ifname === undefined ? [] : ['-i', ifname]),
          ...(hostIfname === undefined ? [] : ['-l', hostIfname]),
          ...(sayFamily ? ['-a', `${ip.family}`] : []),
          guest,
          `${ip.toString()}/${length}`,
          ...(tail === '' ? [] : [tail]),
        ];
        t.deepEqual(parsePipework(words), {
          do: 'attach',
          host: { name: host },
          guest,
          ifname: ifname ?? 'eth1',
          ...(hostIfname === undefined ? {} : { hostIfname }),
          address: `${ip.toString()}/${length}`,
          ...(mac === undefined ? {} : { mac }),
          ...(vlan === undefined ? {} : { vlan }),
        });
      },
    ),
  );
});

test('any words give a call or a WeftError', (t) => {
  const word = fc.oneof(
    fc.constantFrom(
      'br1',
      '-i',
      '-l',
      '-a',
      '4',
      '--wait',
      'c1',
      '0/0',
      '10.0.0.1/24',
      '@5',
      'U:x',
      'dhcp',
      '',
    ),
    fc.string(),
  );
  fc.assert(
    fc.property(fc.array(word, { maxLength: 8 }), (words) => {
      try {
        t.truthy(parsePipework(words).do);
      } catch (error) {
        t.true(error instanceof WeftError && ['INVALID_ARGUMENT', 'UNIMPLEMENTED'].includes(error.code));
      }
    }),
  );
});

test('U: gives a unicast, locally administered address', (t) => {
  fc.assert(
    fc.property(fc.string(), (text) => {
      t.regex(macOfText(text), /^02(:[0-9a-f]{2}){5}$/);
    }),
  );
});
