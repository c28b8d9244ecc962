// Forwarding to upstream servers on real sockets, with servers of every fault.
//
// Whatever the servers do, the client gets an answer to its query in time.
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { createServer, type Server } from 'node:net';

import { decode, encode } from 'dns-packet';
import test, { type ExecutionContext } from 'ava';

import { framed } from '../../../agent/dns/exchange.js';
import { receive, type Question } from '../../../agent/dns/message.js';
import { parseDnsServer } from '../../../agent/dns/server-setting.js';
import { Upstream, type UpstreamServer } from '../../../agent/dns/upstream.js';
import { Problems } from '../../../agent/health/problems.js';
import { WeftError } from '../../../core/errors.js';
import { freePort } from '../../lab/free-port.js';
import { until } from '../../lab/wait.js';

type Behaviour = (query: Buffer, send: (answer: Buffer) => void) => void;

class FakeServer {
  asked = 0;
  private constructor(
    readonly socket: Socket,
    readonly tcp: Server,
    readonly port: number,
  ) {}

  static async start(t: ExecutionContext, udp: Behaviour, overTcp: Behaviour = udp): Promise<FakeServer> {
    // One port number for both: another process may hold the TCP port of a UDP port that the kernel chose.
    const port = await freePort();
    const socket = createSocket('udp4');
    const tcp = createServer((connection) => {
      connection.on('error', () => undefined);
      connection.on('data', (data: Buffer) => {
        made.asked++;
        overTcp(data.subarray(2), (answer) => connection.write(framed(answer)));
      });
    });
    const made = new FakeServer(socket, tcp, port);
    socket.on('message', (query, from) => {
      made.asked++;
      udp(query, (answer) => socket.send(answer, from.port, from.address));
    });
    t.teardown(() => {
      socket.close();
      tcp.close();
    });
    const listening = Promise.all([once(socket, 'listening'), once(tcp, 'listening')]);
    socket.bind(port, '127.0.0.1');
    tcp.listen(port, '127.0.0.1');
    await listening;
    return made;
  }

  get address(): UpstreamServer {
    return { ip: '127.0.0.1', port: this.port };
  }
}

const reply = (query: Buffer, data: string, ttl = 300, flags = 0x8180): Buffer =>
  encode({
    ...{ type: 'response', id: query.readUInt16BE(0), flags, questions: decode(query).questions ?? [] },
    answers: [{ type: 'A', name: decode(query).questions?.[0]?.name ?? '', ttl, data }],
  });
const answering =
  (data: string, ttl?: number): Behaviour =>
  (query, send) =>
    send(reply(query, data, ttl));
const silent: Behaviour = () => undefined;
const failing: Behaviour = (query, send) => {
  const answer = Buffer.from(query);
  answer.writeUInt16BE(0x8182, 2);
  send(answer);
};

function ask(name: string): Question {
  const received = receive(
    encode({ type: 'query', id: 99, flags: 0x0100, questions: [{ type: 'A', name }] }),
  );
  if (received.kind !== 'question') throw new Error(received.kind);
  return received.question;
}

function upstreamOf(
  t: ExecutionContext,
  ...servers: UpstreamServer[]
): { upstream: Upstream; clock: { ahead: number } } {
  const clock = { ahead: 0 };
  const upstream = new Upstream({
    servers: () => servers,
    isOwn: (ip) => ip === '127.0.0.53',
    problems: new Problems(),
    now: () => performance.now() + clock.ahead,
  });
  t.teardown(() => upstream.stop());
  return { upstream, clock };
}

const dataOf = (response: Buffer): (string | undefined)[] =>
  (decode(response).answers ?? []).map((one) =>
    'data' in one && typeof one.data === 'string' ? one.data : undefined,
  );
const rcode = (response: Buffer): number => (response[3] ?? 0) & 0xf;

test('an answer has the client’s id and spelling, and is cached for its TTL', async (t) => {
  const server = await FakeServer.start(t, answering('198.51.100.1', 60));
  const { upstream, clock } = upstreamOf(t, server.address);
  const first = await upstream.forward(ask('WwW.Example.com'), 'udp', false);
  t.is(first.result, 'forwarded');
  t.like(decode(first.response), { id: 99, questions: [{ name: 'WwW.Example.com' }] });
  t.deepEqual(dataOf(first.response), ['198.51.100.1']);
  clock.ahead = 20_000;
  const again = await upstream.forward(ask('www.example.COM'), 'udp', false);
  t.is(again.result, 'cached');
  t.like(decode(again.response).answers?.[0], { ttl: 40 });
  t.is(server.asked, 1);
  clock.ahead = 61_000;
  t.is((await upstream.forward(ask('www.example.com'), 'udp', false)).result, 'forwarded');
  t.is(server.asked, 2);
});

test('when a server does not answer, the next one does, and is asked first from then on', async (t) => {
  const [dead, good] = [
    await FakeServer.start(t, silent),
    await FakeServer.start(t, answering('198.51.100.1', 0)),
  ];
  const { upstream } = upstreamOf(t, dead.address, good.address);
  const began = performance.now();
  t.deepEqual(dataOf((await upstream.forward(ask('a.example'), 'udp', false)).response), ['198.51.100.1']);
  const slow = performance.now() - began;
  t.true(slow >= 900 && slow < 4000, `${slow} ms`);
  t.deepEqual(dataOf((await upstream.forward(ask('b.example'), 'udp', false)).response), ['198.51.100.1']);
  t.is(dead.asked, 1);
});

test('without any answer, equal queries share one SERVFAIL, before the client gives up', async (t) => {
  const dead = await FakeServer.start(t, silent);
  const { upstream } = upstreamOf(t, dead.address);
  const began = performance.now();
  const both = await Promise.all(
    ['x.example', 'X.example'].map((name) => upstream.forward(ask(name), 'udp', false)),
  );
  const took = performance.now() - began;
  t.true(took >= 4000 && took < 8000, `${took} ms`);
  t.deepEqual(
    both.map(({ response, result }) => [rcode(response), result]),
    [
      [2, 'failed'],
      [2, 'failed'],
    ],
  );
  t.is(dead.asked, 1);
  t.is(upstream.open, 0);
  const none = upstreamOf(t).upstream;
  t.is(rcode((await none.forward(ask('x.example'), 'udp', false)).response), 2);
});

test('a server that refuses or cannot be reached is skipped at once', async (t) => {
  const [bad, good] = [
    await FakeServer.start(t, failing),
    await FakeServer.start(t, answering('198.51.100.1')),
  ];
  const { upstream } = upstreamOf(t, { ip: '127.0.0.1', port: await freePort() }, bad.address, good.address);
  const began = performance.now();
  t.deepEqual(dataOf((await upstream.forward(ask('a.example'), 'udp', false)).response), ['198.51.100.1']);
  t.true(performance.now() - began < 900);
  const alone = upstreamOf(t, bad.address).upstream;
  t.is((await alone.forward(ask('a.example'), 'udp', false)).result, 'failed');
});

test('a server without a route is skipped at once, and the process survives', async (t) => {
  const good = await FakeServer.start(t, answering('198.51.100.1'));
  // The kernel refuses to connect to the broadcast address at once, as it does where there is no route.
  const { upstream } = upstreamOf(t, { ip: '255.255.255.255', port: 53 }, good.address);
  const began = performance.now();
  t.deepEqual(dataOf((await upstream.forward(ask('a.example'), 'udp', false)).response), ['198.51.100.1']);
  t.true(performance.now() - began < 900);
});

test('a response that does not match the query is ignored, and the right one is used', async (t) => {
  const liar: Behaviour = (query, send) => {
    const right = reply(query, '198.51.100.1');
    const changed = (offset: number, ...bytes: number[]): Buffer => {
      const copy = Buffer.from(right);
      copy.set(bytes, offset);
      return copy;
    };
    const end = right.length;
    send(changed(0, (right[0] ?? 0) ^ 0xff)); // wrong id
    send(changed(2, 0x01)); // a query
    send(changed(13, 0x7a)); // wrong name
    send(right.subarray(0, 20)); // truncated
    send(right.subarray(0, end - 3));
    send(changed(6, 0xff, 0xff)); // more answers than present
    send(changed(4, 0, 2)); // more questions
    send(changed(12, 0xc0, 0x0c)); // a pointer to itself
    send(Buffer.alloc(0));
    send(right);
  };
  const server = await FakeServer.start(t, liar);
  const { upstream } = upstreamOf(t, server.address);
  t.deepEqual(dataOf((await upstream.forward(ask('a.example'), 'udp', false)).response), ['198.51.100.1']);
});

test('records with pointer loops are handed on unparsed, without delay', async (t) => {
  const looping: Behaviour = (query, send) => {
    const head = Buffer.from(query);
    head.writeUInt16BE(0x8180, 2);
    head.writeUInt16BE(200, 6);
    const loop = Array.from({ length: 200 }, (_, i) => {
      const at = query.length + i * 14;
      return Buffer.from([
        0xc0 | (at >> 8),
        at & 0xff,
        0,
        5,
        0,
        1,
        0,
        0,
        1,
        0,
        0,
        2,
        0xc0 | (at >> 8),
        at & 0xff,
      ]);
    });
    send(Buffer.concat([head, ...loop.map((one) => one.subarray(0, 14))]));
  };
  const server = await FakeServer.start(t, looping);
  const { upstream } = upstreamOf(t, server.address);
  const began = performance.now();
  await upstream.forward(ask('a.example'), 'udp', false);
  t.true(performance.now() - began < 900);
});

test('a truncated UDP answer has the TC bit, and a query over TCP is forwarded over TCP', async (t) => {
  const server = await FakeServer.start(
    t,
    (query, send) => {
      const answer = Buffer.from(query);
      answer.writeUInt16BE(0x8380, 2);
      send(answer);
    },
    answering('198.51.100.1'),
  );
  const { upstream } = upstreamOf(t, server.address);
  const udp = await upstream.forward(ask('a.example'), 'udp', false);
  t.is((udp.response[2] ?? 0) & 2, 2);
  t.deepEqual(dataOf((await upstream.forward(ask('a.example'), 'tcp', false)).response), ['198.51.100.1']);
  // The cached response is complete now.
  t.is((await upstream.forward(ask('a.example'), 'udp', false)).result, 'cached');
});

test('an answer that is too large for the client is truncated with the TC bit', async (t) => {
  const large: Behaviour = (query, send) =>
    send(
      encode({
        ...{
          type: 'response',
          id: query.readUInt16BE(0),
          flags: 0x8180,
          questions: decode(query).questions ?? [],
        },
        answers: Array.from({ length: 40 }, (_, n) => ({
          ...{ type: 'A' as const, name: 'large.example', ttl: 60, data: `198.51.100.${n}` },
        })),
      }),
    );
  const { upstream } = upstreamOf(t, (await FakeServer.start(t, large)).address);
  const cut = (await upstream.forward(ask('large.example'), 'udp', false)).response;
  t.true(cut.length <= 512);
  t.is((cut[2] ?? 0) & 2, 2);
  t.is(decode((await upstream.forward(ask('large.example'), 'tcp', false)).response).answers?.length, 40);
});

test('a negative answer is cached as long as its SOA record allows, and not without one', async (t) => {
  const no =
    (soa: boolean): Behaviour =>
    (query, send) =>
      send(
        encode({
          ...{
            type: 'response',
            id: query.readUInt16BE(0),
            flags: 0x8183,
            questions: decode(query).questions ?? [],
          },
          authorities: soa
            ? [
                {
                  ...{ type: 'SOA', name: 'example', ttl: 600 },
                  data: { mname: 'a', rname: 'b', serial: 1, refresh: 1, retry: 1, expire: 1, minimum: 30 },
                },
              ]
            : [],
        }),
      );
  const [kept, asked] = [await FakeServer.start(t, no(true)), await FakeServer.start(t, no(false))];
  for (const [server, results] of [
    [kept, ['forwarded', 'cached', 'forwarded']],
    [asked, ['forwarded', 'forwarded', 'forwarded']],
  ] as const) {
    const { upstream, clock } = upstreamOf(t, server.address);
    const seen: string[] = [];
    for (const ahead of [0, 29_000, 31_000]) {
      clock.ahead = ahead;
      const { response, result } = await upstream.forward(ask('no.example'), 'udp', false);
      t.is(rcode(response), 3);
      seen.push(result);
    }
    t.deepEqual(seen, [...results]);
  }
});

test('servers of a domain get only its names; weft’s own addresses get no queries', async (t) => {
  const { upstream } = upstreamOf(
    t,
    { ip: '192.0.2.1', port: 53 },
    { ip: '127.0.0.53', port: 53 },
    { ip: '192.0.2.2', port: 53, domain: 'example' },
    { ip: '192.0.2.3', port: 53, domain: 'corp.example' },
    { ip: '192.0.2.4', port: 53, domain: 'corp.example' },
  );
  const at = (name: string): string[] => upstream.serversFor(name).map(({ ip }) => ip);
  t.deepEqual(at('www.test'), ['192.0.2.1']);
  t.deepEqual(at('www.example'), ['192.0.2.2']);
  t.deepEqual(at('notexample'), ['192.0.2.1']);
  t.deepEqual(at('a.corp.example'), ['192.0.2.3', '192.0.2.4']);
  t.deepEqual(at('corp.example'), ['192.0.2.3', '192.0.2.4']);
});

test('an equal query of another client waits for the same answer', async (t) => {
  const probes: string[] = [];
  const slow = await FakeServer.start(t, (query, send) => {
    const name = decode(query).questions?.[0]?.name ?? '';
    if (name.endsWith('.weft')) probes.push(name);
    else setTimeout(() => send(reply(query, '198.51.100.1')), 200);
  });
  const { upstream } = upstreamOf(t, slow.address);
  const all = await Promise.all([
    upstream.forward(ask('a.example'), 'udp', false),
    upstream.forward(ask('a.example'), 'udp', true),
    upstream.forward(ask('a.example'), 'udp', true),
    upstream.forward(ask('a.example'), 'tcp', true),
  ]);
  for (const { response, result } of all) {
    t.is(result, 'forwarded');
    t.deepEqual(dataOf(response), ['198.51.100.1']);
  }
  t.is(probes.length, 1, 'it could have been a loop');
  t.deepEqual(upstream.serversFor('a.example'), [slow.address], 'it was none');
});

test('a query that loops ends, and its server is identified', async (t) => {
  const made: { upstream?: Upstream } = {};
  const loop = await FakeServer.start(t, (query, send) => {
    const received = receive(query);
    const { upstream } = made;
    if (received.kind !== 'question' || upstream === undefined) return;
    if (upstream.isProbe(received.question.name)) return;
    void upstream.forward(received.question, 'udp', true).then(({ response }) => send(response));
  });
  const { upstream } = upstreamOf(t, loop.address);
  made.upstream = upstream;
  const began = performance.now();
  t.is((await upstream.forward(ask('a.example'), 'udp', false)).result, 'failed');
  t.true(performance.now() - began < 3000);
  while (upstream.serversFor('a.example').length > 0 && performance.now() - began < 3000)
    await new Promise((resolve) => setTimeout(resolve, 5));
  t.deepEqual(upstream.serversFor('a.example'), [], 'it is not asked any more');
  t.is(loop.asked, 2);
});

test('--dns-server accepts valid servers and names the fault in invalid ones', (t) => {
  for (const [text, server] of [
    ['192.0.2.53', { ip: '192.0.2.53', port: 53 }],
    ['192.0.2.53:5353', { ip: '192.0.2.53', port: 5353 }],
    ['2001:db8::53', { ip: '2001:db8::53', port: 53 }],
    ['[2001:db8::53]:5353', { ip: '2001:db8::53', port: 5353 }],
    ['Corp.Example=192.0.2.53', { ip: '192.0.2.53', port: 53, domain: 'corp.example' }],
    ['_x.corp=[2001:db8::53]', { ip: '2001:db8::53', port: 53, domain: '_x.corp' }],
  ] as const) {
    t.deepEqual(parseDnsServer(text, 'flag --dns-server'), server);
  }
  for (const text of [
    '',
    'dns.example',
    '192.0.2.53:0',
    '192.0.2.53:65536',
    '=192.0.2.53',
    'a b=192.0.2.53',
    'weft=192.0.2.1',
    '[192.0.2.1]:53',
  ]) {
    const error = t.throws(() => parseDnsServer(text, 'flag --dns-server'), { instanceOf: WeftError }, text);
    t.true(error?.message.startsWith(`flag --dns-server: "${text}"`));
  }
});

test.serial('a query that is given up in its first moment leaves no socket', async (t) => {
  const sockets = (): number =>
    process.getActiveResourcesInfo().filter((resource) => resource === 'UDPWrap').length;
  const server = await FakeServer.start(t, silent);
  const { upstream } = upstreamOf(t, server.address);
  const before = sockets();
  const asked = upstream.forward(ask('www.example'), 'udp', false);
  upstream.stop();
  t.is((await asked).result, 'failed');
  await until('its socket is closed', () => sockets() <= before);
});

test('a client has a share of the open queries, and leaves the others to its neighbours', async (t) => {
  const server = await FakeServer.start(t, silent);
  const { upstream } = upstreamOf(t, server.address);
  const many = Array.from({ length: 80 }, (_, i) =>
    upstream.forward(ask(`n${i}.example`), 'udp', false, '10.100.1.2'),
  );
  t.is(upstream.open, 64);
  const refused = await Promise.all(many.slice(64));
  t.true(refused.every(({ result }) => result === 'failed'));
  const other = upstream.forward(ask('other.example'), 'udp', false, '10.100.1.3');
  t.is(upstream.open, 65);
  upstream.stop();
  await Promise.all([...many, other]);
});

test('a client whose queries are answered has its share again', async (t) => {
  const server = await FakeServer.start(t, answering('198.51.100.1'));
  const { upstream } = upstreamOf(t, server.address);
  for (let i = 0; i < 70; i++) {
    const { result } = await upstream.forward(ask(`n${i}.example`), 'udp', false, '10.100.1.2');
    t.is(result, 'forwarded');
  }
});
