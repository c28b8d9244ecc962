// Published ports: tables of valid and invalid texts, and laws.
import test from 'ava';
import fc from 'fast-check';

import { WeftError } from '../../core/errors.js';
import {
  clashes,
  familiesOf,
  formatPublished,
  matchesFilter,
  parsePublish,
  parsePublishedFilter,
  satisfies,
  type PublishRequest,
} from '../../core/publish.js';
import type { PublishedPort } from '../../core/records.js';

const asked = (
  port: number,
  host?: number | [number, number],
  more: Partial<PublishRequest> = {},
): PublishRequest => ({
  hostIp: '0.0.0.0',
  ...(host === undefined
    ? {}
    : {
        hostPorts: typeof host === 'number' ? { first: host, last: host } : { first: host[0], last: host[1] },
      }),
  port,
  protocol: 'tcp',
  ...more,
});

test('valid texts and their meaning', (t) => {
  const table: [string, PublishRequest[]][] = [
    ['8080:80', [asked(80, 8080)]],
    ['8080:80/tcp', [asked(80, 8080)]],
    ['8080:80/udp', [asked(80, 8080, { protocol: 'udp' })]],
    ['8080:80/UDP', [asked(80, 8080, { protocol: 'udp' })]],
    ['80', [asked(80)]],
    ['80/udp', [asked(80, undefined, { protocol: 'udp' })]],
    [':80', [asked(80)]],
    ['127.0.0.1::80', [asked(80, undefined, { hostIp: '127.0.0.1' })]],
    ['127.0.0.1:8080:80', [asked(80, 8080, { hostIp: '127.0.0.1' })]],
    ['0.0.0.0:8080:80', [asked(80, 8080)]],
    ['[2001:db8::1]:8080:80', [asked(80, 8080, { hostIp: '2001:db8::1' })]],
    ['[2001:DB8:0::1]::80', [asked(80, undefined, { hostIp: '2001:db8::1' })]],
    ['[::]:8080:80', [asked(80, 8080, { hostIp: '::' })]],
    ['8000-8002:80-82', [asked(80, 8000), asked(81, 8001), asked(82, 8002)]],
    ['80-81', [asked(80), asked(81)]],
    ['8000-8010:80', [asked(80, [8000, 8010])]],
    ['1-1:65535-65535', [asked(65535, 1)]],
  ];
  for (const [text, requests] of table) t.deepEqual(parsePublish(text), requests, text);
});

test('invalid texts and their errors', (t) => {
  const table: [string, RegExp][] = [
    ['', /not a port to publish/],
    ['a', /not a port/],
    ['80:', /not a port/],
    ['8080:80:', /address of a host|not a port/],
    ['0:80', /the host’s port 0 is out of range/],
    ['65536:80', /the host’s port 65536 is out of range/],
    ['8080:65536', /the container’s port 65536 is out of range/],
    ['8080:0', /the container’s port 0 is out of range/],
    ['-1:80', /not a port/],
    ['8080:80/sctp', /protocol "sctp" is not served/],
    ['8080:80/', /protocol ""/],
    ['8080:80/tcp/udp', /not a port/],
    ['8010-8000:80-90', /ends before it begins/],
    ['8000-8001:80-90', /2 of the host’s ports for 11/],
    ['8000:80-81', /1 of the host’s ports for 2/],
    ['127.0.0.1:80', /an address of the host, but not both ports/],
    ['127.0.0:8080:80', /is not an address of a host/],
    ['2001:db8::1:8080:80', /not a port|not an address/],
    ['[2001:db8::1:8080:80', /not a port/],
    ['[127.0.0.1]:8080:80', /not an address of a host/],
    ['[::1]:8080:80', /::1 cannot lead to a container; 127\.0\.0\.1 can/],
    ['[fe80::1]:8080:80', /link-local/],
    ['224.0.0.1:8080:80', /multicast/],
    ['1:2:3:4', /not a port|not an address/],
    ['8080:80 ', /not a port/],
    ['web:8080:80', /"web" is not an address of a host/],
  ];
  for (const [text, words] of table) {
    const error = t.throws(() => parsePublish(text), { instanceOf: WeftError }, text);
    t.is(error?.code, 'INVALID_ARGUMENT');
    t.regex(error?.message ?? '', words, text);
    t.truthy(error?.next, text);
  }
});

const port = fc.integer({ min: 1, max: 65_535 });
const protocol = fc.constantFrom('tcp' as const, 'udp' as const);
const hostIp = fc.constantFrom('0.0.0.0', '::', '127.0.0.1', '192.0.2.7', '2001:db8::7');
const published: fc.Arbitrary<PublishedPort> = fc.record({
  hostIp,
  hostPort: port,
  port,
  protocol,
  everywhere: fc.boolean(),
});

test('a formatted port parses to the same, and to a filter that matches it', (t) => {
  fc.assert(
    fc.property(published, (one) => {
      const text = formatPublished(one);
      const [request, ...more] = parsePublish(text);
      t.deepEqual(more, []);
      t.true(request !== undefined && satisfies(one, request, one.everywhere), text);
      t.true(matchesFilter(one, parsePublishedFilter(text)), text);
    }),
  );
});

test('a range gives consecutive ports', (t) => {
  fc.assert(
    fc.property(port, port, fc.nat(300), (host, first, length) => {
      const count = Math.min(length, 65_535 - Math.max(host, first));
      const requests = parsePublish(`${host}-${host + count}:${first}-${first + count}`);
      t.is(requests.length, count + 1);
      for (const [i, request] of requests.entries()) {
        t.is(request.port, first + i);
        t.deepEqual(request.hostPorts, { first: host + i, last: host + i });
      }
    }),
  );
});

test('any text is parsed, or refused with a WeftError', (t) => {
  const text = fc.oneof(
    fc.string(),
    fc.stringMatching(/^[0-9:.[\]/a-f-]{0,30}$/),
    fc.tuple(hostIp, fc.string({ maxLength: 6 }), fc.nat(70_000)).map(([ip, a, b]) => `${ip}:${a}:${b}`),
  );
  fc.assert(
    fc.property(text, (spec) => {
      for (const parse of [parsePublish, parsePublishedFilter]) {
        try {
          parse(spec);
        } catch (error) {
          t.true(error instanceof WeftError && error.code === 'INVALID_ARGUMENT', spec);
        }
      }
      t.pass();
    }),
    { numRuns: 2000 },
  );
});

test('a filter without a protocol means tcp, as in publishing', (t) => {
  const one: PublishedPort = {
    hostIp: '0.0.0.0',
    hostPort: 53,
    port: 53,
    protocol: 'udp',
    everywhere: false,
  };
  t.false(matchesFilter(one, parsePublishedFilter('53')));
  t.true(matchesFilter(one, parsePublishedFilter('53/udp')));
  t.true(matchesFilter(one, parsePublishedFilter('50-60/udp')));
  t.false(matchesFilter(one, parsePublishedFilter('127.0.0.1:53/udp')));
  t.false(matchesFilter(one, parsePublishedFilter('53:54/udp')));
});

test('ports clash where they share an address, symmetrically', (t) => {
  const at = (ip: string, hostPort = 80, proto: 'tcp' | 'udp' = 'tcp'): PublishedPort => ({
    hostIp: ip,
    hostPort,
    port: 1,
    protocol: proto,
    everywhere: false,
  });
  const table: [PublishedPort, PublishedPort, boolean][] = [
    [at('0.0.0.0'), at('0.0.0.0'), true],
    [at('0.0.0.0'), at('0.0.0.0', 81), false],
    [at('0.0.0.0'), at('0.0.0.0', 80, 'udp'), false],
    [at('0.0.0.0'), at('127.0.0.1'), true],
    [at('0.0.0.0'), at('2001:db8::1'), true],
    [at('::'), at('2001:db8::1'), true],
    [at('::'), at('192.0.2.1'), false],
    [at('192.0.2.1'), at('192.0.2.2'), false],
  ];
  for (const [a, b, expected] of table) {
    t.is(clashes(a, b), expected);
    t.is(clashes(b, a), expected);
  }
});

test('the families that an address opens', (t) => {
  t.deepEqual(familiesOf('0.0.0.0', [4, 6]), [4, 6]);
  t.deepEqual(familiesOf('0.0.0.0', [4]), [4]);
  t.deepEqual(familiesOf('::', [4, 6]), [6]);
  t.deepEqual(familiesOf('127.0.0.1', [4, 6]), [4]);
  t.deepEqual(familiesOf('2001:db8::1', [4]), []);
});
