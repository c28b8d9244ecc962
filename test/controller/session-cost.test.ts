// What the reports of idle nodes cost a controller, counted on the connection.
import { connect, createServer, type AddressInfo } from 'node:net';

import test from 'ava';

import { REPORT_EVERY_MS, startSession } from '../../agent/api/session.js';
import { silentLogger } from '../../daemon/log.js';
import { channel } from '../../daemon/grpc.js';
import { Status } from '../../proto/gen/weft/v1/types.js';
import { until } from '../lab/wait.js';
import { startTestController } from './harness.js';
import { node } from './records.js';

const NODES = 1000;
const REPORTS = 20;
/** A frame PING of HTTP/2 (RFC 9113 §6.7), and its acknowledgement. */
const PING = 2 * 17;

/** As an idle node of a cluster of that size has it, in two networks of both families. */
function idle(n: number): Status {
  const path = { state: 'ok', mtu: 1430, rttMs: n / 7 };
  return Status.fromPartial({
    ...{ health: 'ok', node: { name: 'n1', publicIp: '192.0.2.1', stepsApplied: n } },
    networks: ['blue', 'red'].map((name) => ({ name, mtu: 1430, peers: NODES - 1, endpoints: 10 })),
    peers: Array.from({ length: NODES - 1 }, (_, peer) => ({
      ...{ node: `n${peer + 2}`, publicIp: '192.0.2.2', state: 'up', rttMs: n / 7 },
      paths: ['blue', 'red'].flatMap((network) => [4, 6].map((family) => ({ ...path, network, family }))),
    })),
  });
}

test('the reports of 1,000 idle nodes are less than 40 KB a second in all', async (t) => {
  const controller = await startTestController();
  t.teardown(() => controller.stop());
  controller.store.putNode(node('n1', '192.0.2.1'));
  let bytes = 0;
  const port = Number(controller.address.split(':').at(-1));
  const between = createServer((socket) => {
    const onward = connect(port, '127.0.0.1');
    for (const [from, to] of [
      [socket, onward],
      [onward, socket],
    ] as const) {
      from.on('data', (data) => (bytes += data.length));
      from.on('error', () => to.destroy());
      from.pipe(to);
    }
  });
  await new Promise<void>((resolve) => between.listen(0, '127.0.0.1', resolve));
  t.teardown(() => void between.close());
  let asked = 0;
  const session = startSession({
    controllers: [`127.0.0.1:${(between.address() as AddressInfo).port}`],
    hello: { node: 'n1', instance: 'i-n1', version: '0.1.0' },
    status: () => idle(++asked),
    handle: () => Promise.reject(new Error('nothing was expected')),
    log: silentLogger,
  });
  t.teardown(() => session.stop());
  await until('the first report', () => controller.sessions.reportOf('n1') !== undefined);
  const reported = (): number => controller.sessions.reportOf('n1')?.at ?? 0;
  const report = async (): Promise<void> => {
    const [before, at] = [asked, reported()];
    session.changed();
    await until('the next report', () => asked > before && reported() > at);
  };
  await report();
  const before = bytes;
  for (let i = 0; i < REPORTS; i++) await report();
  const each = (bytes - before) / REPORTS;
  t.true(each > 0);
  const pingEveryMs = Number(channel('127.0.0.1:1', undefined)[1]['grpc.keepalive_time_ms']);
  const perSecond = NODES * (each / (REPORT_EVERY_MS / 1000) + PING / (pingEveryMs / 1000));
  t.log(
    `${each.toFixed(0)} bytes a report with its acknowledgement, ${(perSecond / 1000).toFixed(1)} KB/s of ${NODES} nodes`,
  );
  t.true(perSecond <= 40_000, `${perSecond} bytes/s`);
});
