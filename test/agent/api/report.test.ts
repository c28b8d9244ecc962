// A report is never larger than a controller takes.
import test from 'ava';

import { reportOf } from '../../../agent/api/report.js';
import { MOST_OF_REPORT } from '../../../daemon/grpc.js';
import { Status } from '../../../proto/gen/weft/v1/types.js';

const many = <T>(count: number, make: (i: number) => T): T[] =>
  Array.from({ length: count }, (_, i) => make(i));
const peers = (count: number) =>
  many(count, (i) => ({ node: `n${i}`, publicIp: '192.0.2.1', state: 'up', rttMs: 0.5 }));
const problems = (count: number, length: number) =>
  many(count, (i) => ({ what: `p${i}`, why: 'x'.repeat(length), fix: '' }));
const sizeOf = (status: Status): number => Status.encode(status).finish().length;

test('what fits is sent as it is', (t) => {
  const status = Status.fromPartial({ peers: peers(100), problems: problems(3, 10) });
  t.is(reportOf(status), status);
});

test('peers are left out first: the controller knows of them', (t) => {
  const status = Status.fromPartial({
    networks: [{ name: 'blue', mtu: 1400 }],
    peers: peers(20_000),
    problems: problems(3, 10),
  });
  t.true(sizeOf(status) > MOST_OF_REPORT);
  const report = reportOf(status);
  t.true(sizeOf(report) <= MOST_OF_REPORT);
  t.deepEqual([report.networks, report.problems], [status.networks, status.problems]);
  t.true(report.peers.length > 1000);
});

test('of too many problems as many as fit, and how many do not', (t) => {
  for (const [count, length] of [
    [20_000, 40],
    [3, 200_000],
    [1, 12_000_000],
  ] as const) {
    const status = Status.fromPartial({
      networks: [{ name: 'blue', mtu: 1400 }],
      problems: problems(count, length),
    });
    const report = reportOf(status);
    t.true(sizeOf(report) <= MOST_OF_REPORT);
    t.deepEqual(report.networks, status.networks);
    const kept = report.problems.length - 1;
    t.like(report.problems.at(-1), { why: `has no room for ${count - kept} more problems` });
  }
});

test('the same of networks', (t) => {
  const networks = many(10_000, (i) => ({ name: `n${i}`, subnet: '10.100.0.0/24', gateway: '10.100.0.1' }));
  const report = reportOf(Status.fromPartial({ networks }));
  t.true(sizeOf(report) <= MOST_OF_REPORT);
  t.regex(report.problems[0]?.why ?? '', /^has no room for \d+ more networks$/);
});
