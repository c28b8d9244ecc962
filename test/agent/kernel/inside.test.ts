// Listening sockets and UDP questions, in the namespace of the test itself.
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';

import test, { type ExecutionContext } from 'ava';

import { askByUdp, listenersIn, readListeners } from '../../../agent/kernel/inside.js';

async function tcpAt(t: ExecutionContext, host: string): Promise<number> {
  const server = createServer().listen(0, host);
  t.teardown(() => server.close());
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
}

/** @param answers whether it does */
async function udpAt(t: ExecutionContext, answers: boolean): Promise<{ port: number; socket: Socket }> {
  const socket = createSocket('udp4');
  socket.on('message', (message, { port, address }) => {
    if (answers) socket.send(message, port, address);
  });
  socket.bind(0, '127.0.0.1');
  t.teardown(() => socket.close());
  await once(socket, 'listening');
  return { port: socket.address().port, socket };
}

test('sockets that listen, with where they do', async (t) => {
  const [any, loopback] = [await tcpAt(t, '0.0.0.0'), await tcpAt(t, '127.0.0.1')];
  const { port: udp } = await udpAt(t, false);
  const reachOf = (protocol: string, port: number): string[] =>
    readListeners()
      .filter((one) => one.protocol === protocol && one.port === port)
      .map(({ family, reach }) => `${family} ${reach}`);
  t.deepEqual(reachOf('tcp', any), ['4 any']);
  t.deepEqual(reachOf('tcp', loopback), ['4 loopback']);
  t.deepEqual(reachOf('udp', udp), ['4 loopback']);
});

test('a question is answered, by silence, or by nobody', async (t) => {
  const question = Buffer.from('who?');
  const there = await udpAt(t, true);
  const silent = await udpAt(t, false);
  t.true(await askByUdp('127.0.0.1', there.port, question));
  t.false(await askByUdp('127.0.0.1', silent.port, question));
  const began = performance.now();
  t.false(await askByUdp('127.0.0.1', 1, question));
  t.true(performance.now() - began < 900, 'the kernel says at once that nobody is there');
});

test('listening sockets as the kernel lists them', (t) => {
  const head = '  sl  local_address rem_address   st tx_queue\n';
  const tcp = [
    '   0: 00000000:0050 00000000:0000 0A 00000000:00000000',
    '   1: 0100007F:0051 00000000:0000 0A 00000000:00000000',
    '   2: 0205640A:0052 00000000:0000 0A 00000000:00000000',
    '   3: 0205640A:8000 0305640A:0050 01 00000000:00000000',
  ].join('\n');
  t.deepEqual(
    listenersIn(head + tcp, 'tcp').map(({ port, reach, family }) => [port, reach, family]),
    [
      [80, 'any', 4],
      [81, 'loopback', 4],
      [82, 'address', 4],
    ],
  );
  const udp6 = [
    '   0: 00000000000000000000000000000000:0035 00000000000000000000000000000000:0000 07',
    '   1: 00000000000000000000000001000000:0036 00000000000000000000000000000000:0000 07',
  ].join('\n');
  t.deepEqual(
    listenersIn(head + udp6, 'udp').map(({ port, reach, family }) => [port, reach, family]),
    [
      [53, 'any', 6],
      [54, 'loopback', 6],
    ],
  );
});
