// Garbage at a controller that requires client certificates.
//
// Before TLS, in its handshake, by clients without a certificate of the CA, and by one with. A client without one gets no data,
// and the server serves as before.
import { readFileSync } from 'node:fs';
import { connect } from 'node:tls';

import test from 'ava';
import fc from 'fast-check';

import type { Tls } from '../../daemon/tls.js';
import { TestCa } from '../daemon/certificates.js';
import { slowness } from '../lab/wait.js';
import { startTarget, type ControllerTarget } from './controller-target.js';
import { patience, times } from './garbage.js';
import { attackBodies, attackBytes, attackMethods, attackRequests, throwBytes } from './grpc-attack.js';
import { holdConnections } from './http-attack.js';

const ca = new TestCa();
const stranger = new TestCa();
let target: ControllerTarget;

function certificateOf(issuer: TestCa): Tls {
  const { cert, key } = issuer.issue('client');
  return { ca: readFileSync(ca.ca), cert: readFileSync(cert), key: readFileSync(key) };
}

test.before(async () => {
  const own = ca.issue('controller');
  target = await startTarget(
    ['--tls-ca', ca.ca, '--tls-cert', own.cert, '--tls-key', own.key],
    certificateOf(ca),
  );
});
test.after.always(async () => {
  await target?.stop();
  ca.remove();
  stranger.remove();
});
test.afterEach((t) => {
  t.notRegex(target.daemon.output, /a fault in weft|Z error |\bat .*\.js:\d+/);
});

/** Records of TLS (RFC 8446 §5.1) with the beginnings of handshakes, whose lengths may be wrong. */
const record = fc
  .tuple(
    fc.oneof({ weight: 3, arbitrary: fc.constant(22) }, fc.nat(255)),
    fc.constantFrom(0x0301, 0x0303, 0x0304, 0x0002, 0xffff),
    fc.oneof(
      fc.uint8Array({ maxLength: 300 }),
      // A ClientHello (RFC 8446 §4.1.2) that is invalid after its first byte.
      fc
        .tuple(fc.nat(2 ** 24 - 1), fc.uint8Array({ maxLength: 300 }))
        .map(([length, rest]) => Buffer.concat([Buffer.from([1, length >> 16, length >> 8, length]), rest])),
    ),
    fc.boolean(),
  )
  .map(([type, version, payload, lies]) => {
    const head = Buffer.alloc(5);
    head.writeUInt8(type, 0);
    head.writeUInt16BE(version, 1);
    head.writeUInt16BE(lies ? (payload.length * 7 + 11) % 65536 : payload.length, 3);
    return Buffer.concat([head, payload]);
  });

test.serial('before TLS: bytes, other protocols, and invalid handshakes', async (t) => {
  t.timeout(patience(60));
  const { host, port } = target.address;
  await attackBytes({ ...target, address: { host, port } }, times(100));
  await fc.assert(
    fc.asyncProperty(fc.array(record, { minLength: 1, maxLength: 4 }), (records) =>
      throwBytes({ host, port }, Buffer.concat(records)),
    ),
    { numRuns: times(150) },
  );
  await holdConnections({ host, port }, 100, '\x16\x03\x01', target.alive);
  await target.alive();
  t.pass();
});

test.serial('untrusted clients: without a certificate, and with one of another CA', async (t) => {
  t.timeout(patience(60));
  const { host, port } = target.address;
  const other = certificateOf(stranger);
  /** The bytes that the server sends before it ends the connection, and whether it ended it late. */
  const answerTo = (given: object): Promise<{ bytes: number; late: boolean }> =>
    new Promise((resolve) => {
      const socket = connect({ host, port, ca: readFileSync(ca.ca), ALPNProtocols: ['h2'], ...given });
      let bytes = 0;
      let late = false;
      const timer = setTimeout(() => {
        late = true;
        socket.destroy();
      }, 5000 * slowness);
      socket.on('data', (chunk: Buffer) => (bytes += chunk.length)).on('error', () => undefined);
      socket.on('close', () => {
        clearTimeout(timer);
        resolve({ bytes, late });
      });
      socket.write('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
    });
  for (let i = 0; i < times(20); i++) {
    for (const given of [{}, { cert: other.cert, key: other.key }])
      t.deepEqual(await answerTo(given), { bytes: 0, late: false });
  }
  await target.alive();
});

test.serial('a trusted client: random messages, bodies, requests and frames', async (t) => {
  t.timeout(patience(120));
  const counters = await attackMethods(target, times(8));
  t.true((counters.answers['OK'] ?? 0) > 0, JSON.stringify(counters));
  await attackBodies(target, times(80));
  await attackRequests(target, times(80));
  await attackBytes(target, times(80));
  await target.alive();
});

test.serial('and it shuts down normally', async (t) => {
  await target.alive();
  target.daemon.kill('SIGTERM');
  t.is(await target.daemon.ended, 0, target.daemon.output.slice(-2000));
});
