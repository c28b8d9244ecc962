// Logs of a daemon: lines, events and the audit log.
import { appendFileSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';

import test from 'ava';

import { invalidArgument } from '../../core/errors.js';
import { AuditLog } from '../../daemon/audit.js';
import { EventLog, type Happening } from '../../daemon/event-log.js';
import { createLogger, type Logger, silentLogger as log } from '../../daemon/log.js';
import { temporaryFolder } from '../lab/temporary-folder.js';

// The format of log lines.

function capture(options: { level?: 'debug' | 'info'; format?: 'text' | 'json'; journal?: boolean }): {
  log: Logger;
  lines: () => string[];
} {
  const stream = new PassThrough();
  const { level = 'info', format = 'text', journal = false } = options;
  return {
    log: createLogger({ level, format, stream, journal }),
    lines: () =>
      String(stream.read() ?? '')
        .split('\n')
        .filter((line) => line !== ''),
  };
}

test('text: time, level, message, fields', (t) => {
  const { log, lines } = capture({});
  log.info('ready', {
    address: '127.0.0.1:7400',
    why: 'two words',
    count: 3,
    none: undefined,
    list: ['a', 'b'],
    big: 5n,
  });
  log.debug('not shown');
  const [line = '', ...others] = lines();
  t.deepEqual(others, []);
  t.regex(
    line,
    /^\d{4}-\d\d-\d\dT[\d:.]+Z info {2}ready {2}address=127\.0\.0\.1:7400 {2}why="two words" {2}count=3 {2}list=\["a","b"\] {2}big=5$/,
  );
});

test('in the journal: the priority in front, and no time', (t) => {
  const { log, lines } = capture({ journal: true });
  log.warn('slow');
  t.deepEqual(lines(), ['<4>slow']);
});

test('errors: the next step of a WeftError, the causes of others, stacks only with debug', (t) => {
  const { log, lines } = capture({});
  log.error('failed', {
    error: invalidArgument('port: 0 is out of range', 'Give 1.', { cause: new Error('hidden') }),
  });
  log.error('failed', { error: new Error('outer', { cause: new Error('inner') }) });
  const [first = '', second = ''] = lines();
  t.true(first.endsWith('error="port: 0 is out of range. Give 1."'));
  t.true(second.endsWith('error="outer (inner)"'));
  const verbose = capture({ level: 'debug' });
  verbose.log.error('failed', { error: new Error('outer') });
  t.regex(verbose.lines()[0] ?? '', /logs\.test/);
});

test('json: one object per line', (t) => {
  const { log, lines } = capture({ format: 'json' });
  log.warn('slow\nindeed', { error: new Error('x'), count: 3 });
  const [line = '', ...others] = lines();
  t.deepEqual(others, []);
  const parsed: unknown = JSON.parse(line);
  t.like(parsed, { level: 'warn', message: 'slow\nindeed', error: 'x', count: 3 });
});

// The events of one daemon: kept in memory and in two files, counted where they are equal, and read back after a restart.

const START = Date.parse('2026-11-30T12:00:00Z');

const joined = (network: string): Happening => ({
  reason: 'joined',
  object: `network/${network}`,
  message: 'this node has 10.100.5.0/24',
});

test('equal events within a minute become two: the first, and one that counts the others', (t) => {
  let now = START;
  const events = new EventLog({ path: undefined, node: 'h1', log, now: () => now });
  t.teardown(() => events.close());
  for (let i = 0; i < 100; i++) {
    now += 500;
    events.record(joined('blue'));
  }
  events.record(joined('red'));
  t.deepEqual(
    events.list().map(({ object, count }) => [object, count]),
    [
      ['network/blue', 1],
      ['network/red', 1],
    ],
  );
  now += 60_000;
  events.record(joined('blue'));
  t.deepEqual(
    events.list().map(({ object, count }) => [object, count]),
    [
      ['network/blue', 1],
      ['network/red', 1],
      ['network/blue', 99],
      ['network/blue', 1],
    ],
  );
  t.like(events.list()[0], { type: 'normal', node: 'h1', time: '2026-11-30T12:00:00.500Z', actor: '' });
});

test('the files survive a restart with a torn line, and sequence numbers grow on', (t) => {
  const path = join(temporaryFolder(t, 'weft-events-'), 'events', 'agent.jsonl');
  const first = new EventLog({ path, node: 'h1', log });
  first.record(joined('blue'));
  first.record({ ...joined('red'), message: 'a\nb\u001b[31m\u2028' });
  const [, last] = first.list();
  first.close();
  t.is(statSync(path).mode & 0o777, 0o600);
  appendFileSync(path, '{"time":"2026-11-30T12:00:00.000Z","type":"nor');
  // The clock went back by years: numbers grow all the same.
  const second = new EventLog({ path, node: 'h1', log, now: () => 1000 });
  t.deepEqual(
    second.list().map(({ object, message }) => [object, message]),
    [
      ['network/blue', 'this node has 10.100.5.0/24'],
      ['network/red', 'a\nb\u001b[31m\u2028'],
    ],
  );
  second.record(joined('green'));
  t.true((second.list().at(-1)?.sequence ?? 0) > (last?.sequence ?? Infinity));
  t.deepEqual(
    second.after(last?.sequence ?? 0).map(({ object }) => object),
    ['network/green'],
  );
  second.close();
  // The line after the torn one is whole, and nothing in the file moves a terminal's cursor.
  const text = readFileSync(path, 'utf8');
  t.is(text.trim().split('\n').length, 4);
  // eslint-disable-next-line no-control-regex
  t.notRegex(text, /[\u0000-\u0009\u000b-\u001f\u2028]/);
  const third = new EventLog({ path, node: 'h1', log });
  t.deepEqual(
    third.list().map(({ object }) => object),
    ['network/blue', 'network/red', 'network/green'],
  );
  third.close();
});

test('two files of a bounded size, whatever happens', (t) => {
  const folder = join(temporaryFolder(t, 'weft-events-'), 'events');
  const path = join(folder, 'agent.jsonl');
  for (let run = 0; run < 5; run++) {
    const events = new EventLog({ path, node: 'h1', log, mostBytes: 50_000 });
    for (let i = 0; i < 100; i++) events.record({ ...joined(`n${run}-${i}`), message: 'x'.repeat(5000) });
    events.close();
  }
  t.deepEqual(readdirSync(folder).toSorted(), ['agent.jsonl', 'agent.jsonl.1']);
  // One batch of lines may be larger than a file: what a run gathers within 100 ms is written together.
  for (const name of readdirSync(folder)) t.true(statSync(join(folder, name)).size <= 150_000);
  const again = new EventLog({ path, node: 'h1', log });
  t.is(again.list().at(-1)?.object, 'network/n4-99');
  t.is(again.list().at(-1)?.message.length, 1000);
  again.close();
});

// The audit log is for its owner alone, one line for an entry, and rotated.

test('lines, rights and rotation', (t) => {
  const folder = join(temporaryFolder(t, 'weft-audit-'), 'audit');
  const path = join(folder, 'agent.log');
  const audit = new AuditLog(path, log, 1000);
  for (let i = 0; i < 400; i++) audit.write({ i, why: 'a\nb\u001b[31m\u009b' });
  audit.close();
  t.deepEqual(
    readdirSync(folder).toSorted(),
    ['', '.1', '.2', '.3', '.4', '.5'].map((end) => `agent.log${end}`),
  );
  for (const file of readdirSync(folder)) {
    t.is(statSync(join(folder, file)).mode & 0o777, 0o600);
    t.true(statSync(join(folder, file)).size <= 1000);
  }
  const lines = readFileSync(path, 'utf8').trim().split('\n');
  t.like(JSON.parse(lines.at(-1) ?? ''), { i: 399, why: 'a\nb\u001b[31m\u009b' });
  // An earlier process' file is continued.
  const again = new AuditLog(path, log, 10_000);
  again.write({ i: 100 });
  again.close();
  t.is(readFileSync(path, 'utf8').trim().split('\n').length, lines.length + 1);
});

test('a disk that cannot be written is told, and no more', (t) => {
  const told: string[] = [];
  const audit = new AuditLog('/dev/null/audit.log', {
    ...log,
    error: (message: string) => told.push(message),
  });
  audit.write({ i: 1 });
  t.deepEqual(told, ['the audit log cannot be written']);
});
