// The listener in front of gRPC, and the age of its certificate.
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { connect as connectTls } from 'node:tls';

import { Server } from '@grpc/grpc-js';
import test from 'ava';

import { endsSoon } from '../../daemon/certificate.js';
import { call, channel, frontOf, stopGrpc, unary } from '../../daemon/grpc.js';
import { hostPort } from '../../daemon/kinds.js';
import type { Tls } from '../../daemon/tls.js';
import { StatusServiceClient, StatusServiceService } from '../../proto/gen/weft/v1/agent.js';
import { Status } from '../../proto/gen/weft/v1/types.js';
import { TestCa } from './certificates.js';

// The listener in front of gRPC: TLS and plain text on one port, a new certificate, and clients that send nothing.

const files = (ca: TestCa, name: string): Tls => {
  const { cert, key } = ca.issue(name);
  return { ca: readFileSync(ca.ca), cert: readFileSync(cert), key: readFileSync(key) };
};

test('both on one port, until plain text ends; a new certificate counts from the next connection on', async (t) => {
  const ca = new TestCa();
  t.teardown(() => ca.remove());
  const server = new Server();
  server.addService(StatusServiceService, {
    getStatus: unary(() => Status.fromPartial({ health: 'ok' })),
  });
  const front = frontOf(server, { tls: files(ca, 'one'), requireCertificate: false, plain: true });
  t.teardown(() => stopGrpc(server, 100));
  const address = await front.listen(hostPort({ listen: true }).parse('127.0.0.1:0', 'test'));
  const [host = '', port = ''] = address.split(':');
  const ask = async (tls: Tls | undefined): Promise<string> => {
    const client = new StatusServiceClient(address, ...channel(address, tls));
    const asked = call(client.getStatus.bind(client), {}, { peer: 'it', deadlineMs: 5000 });
    return await asked
      .then(
        ({ health }) => health,
        (error: { code: string }) => error.code,
      )
      .finally(() => client.close());
  };
  const own = files(ca, 'client');
  t.deepEqual(await Promise.all([ask(undefined), ask(own)]), ['ok', 'ok']);

  const shown = (): Promise<string> =>
    new Promise((resolve) => {
      const socket = connectTls({
        host,
        port: Number(port),
        rejectUnauthorized: false,
        ALPNProtocols: ['h2'],
      });
      socket.on('secureConnect', () => {
        resolve(String(socket.getPeerCertificate().subject.CN));
        socket.destroy();
      });
    });
  t.is(await shown(), 'one');
  front.replace(files(ca, 'two'));
  t.is(await shown(), 'two');

  front.servePlain(false);
  t.deepEqual(await Promise.all([ask(undefined), ask(own)]), ['UNAVAILABLE', 'ok']);

  // Silent, and in the middle of a handshake.
  const cut = (first: string): Promise<number> =>
    new Promise((resolve) => {
      const began = performance.now();
      const socket = connect(
        Number(port),
        host,
        () => first !== '' && socket.write(Buffer.from(first, 'hex')),
      );
      socket.on('error', () => undefined).on('close', () => resolve(performance.now() - began));
      socket.resume();
    });
  const [silent, begun] = await Promise.all([cut(''), cut('160301')]);
  t.true(silent > 4000 && silent < 9000, `${silent} ms`);
  t.true(begun < 15_000, `${begun} ms`);
});

// When a certificate that should have been renewed becomes a problem.

const HOUR = 3_600_000;
const DAY = 24 * HOUR;

test('a certificate is a problem a week before its end, or, of a short life, after 85 % of it', (t) => {
  const from = new Date(0);
  const soon = (life: number, age: number): boolean =>
    endsSoon({ from, to: new Date(life), serial: '', identity: { role: 'admin' } }, age);
  t.false(soon(90 * DAY, 83 * DAY - 1));
  t.true(soon(90 * DAY, 83 * DAY + 1));
  t.false(soon(10 * HOUR, 8.5 * HOUR - 1));
  t.true(soon(10 * HOUR, 8.5 * HOUR + 1));
});
