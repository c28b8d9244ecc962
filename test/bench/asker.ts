// The DNS client of the bench, run inside a container.
//
// Either queries several servers in turn and prints the times, or sends queries at a given rate and counts the answers.
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';

import { encode } from 'dns-packet';

import { enlargeReceiveBuffer } from '../../agent/kernel/socket-buffer.js';

const [, , name = '', how = '', ...rest] = process.argv;

const question = (id: number): Buffer =>
  encode({ type: 'query', id, flags: 0x0100, questions: [{ type: 'A', name, class: 'IN' }] });

async function socketTo(server: string): Promise<Socket> {
  const socket = createSocket('udp4');
  socket.connect(53, server);
  await once(socket, 'connect');
  return socket;
}

/** Milliseconds of each query, by server. */
async function time(rounds: number, servers: readonly string[]): Promise<number[][]> {
  const warmUp = Math.min(rounds, 200);
  const times: number[][] = servers.map(() => []);
  const sockets = await Promise.all(servers.map(socketTo));
  for (let round = -warmUp; round < rounds; round++) {
    for (const [i, socket] of sockets.entries()) {
      const id = (round + warmUp) & 0xffff;
      const message = question(id);
      const began = performance.now();
      socket.send(message);
      const [answer] = (await once(socket, 'message', { signal: AbortSignal.timeout(5000) })) as [Buffer];
      const took = performance.now() - began;
      if (answer.readUInt16BE(0) !== id || answer.readUInt16BE(6) !== 1) throw new Error('not an answer');
      if (round >= 0) times[i]?.push(took);
    }
  }
  for (const socket of sockets) socket.close();
  return times;
}

/** Sends evenly, a few every millisecond, and catches up where this process was late. */
async function flood(
  rate: number,
  seconds: number,
  server: string,
): Promise<{ sent: number; received: number }> {
  const socket = await socketTo(server);
  const { address, port } = socket.address();
  // Only the server may lose packets, not this socket.
  if (!enlargeReceiveBuffer(address, port, 64 * 1024 * 1024)) throw new Error('the buffer stays small');
  let received = 0;
  socket.on('message', (answer) => {
    if (answer.length > 12 && answer.readUInt16BE(6) === 1) received++;
  });
  const total = rate * seconds;
  const began = performance.now();
  let sent = 0;
  while (sent < total) {
    const due = Math.min(total, Math.floor(((performance.now() - began) * rate) / 1000));
    for (; sent < due; sent++) socket.send(question(sent & 0xffff));
    await delay(1);
  }
  for (let quiet = 0, last = -1; quiet < 10 && received < total; quiet = received === last ? quiet + 1 : 0) {
    last = received;
    await delay(200);
  }
  socket.close();
  return { sent, received };
}

const answer =
  how === 'time'
    ? await time(Number(rest[0]), rest.slice(1))
    : await flood(Number(rest[0]), Number(rest[1]), rest[2] ?? '');
process.stdout.write(JSON.stringify(answer));
