// The format of log lines.
import { PassThrough } from 'node:stream';

import test from 'ava';

import { invalidArgument } from '../../core/errors.js';
import { createLogger, type Logger } from '../../daemon/log.js';

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
  t.regex(verbose.lines()[0] ?? '', /log\.test/);
});

test('json: one object per line', (t) => {
  const { log, lines } = capture({ format: 'json' });
  log.warn('slow\nindeed', { error: new Error('x'), count: 3 });
  const [line = '', ...others] = lines();
  t.deepEqual(others, []);
  const parsed: unknown = JSON.parse(line);
  t.like(parsed, { level: 'warn', message: 'slow\nindeed', error: 'x', count: 3 });
});
