// What others wrote into records reaches neither the terminal nor a log as a control sequence or a line of its own.
import { PassThrough } from 'node:stream';

import test from 'ava';

import { problemLines } from '../../cli/problem-lines.js';
import { block, table } from '../../cli/output.js';
import { visible, visibleLines } from '../../core/text.js';
import { createLogger } from '../../daemon/log.js';
import { problem } from './samples.js';

const EVIL = '\u001b[31mEVIL\u001b[0m\nh8    up\r\u009b2J\u202egpj\u2028';
const SAFE = '\\u001b[31mEVIL\\u001b[0m\\u000ah8    up\\u000d\\u009b2J\\u202egpj\\u2028';

test('such characters are shown, not sent', (t) => {
  t.is(visible(EVIL), SAFE);
  t.is(visibleLines('a\nb\u001b'), 'a\nb\\u001b');
  t.is(visible('Grüße, 世界 🐳'), 'Grüße, 世界 🐳');
});

test('in tables, blocks and problems', async (t) => {
  const [head, row, ...more] = (await table(['NAME', 'VERSION'], [['h9', EVIL]])).split('\n');
  t.regex(head ?? '', /^NAME +VERSION$/);
  t.true(row?.endsWith(SAFE));
  t.deepEqual(more, []);
  t.is(block([['Version', EVIL]]), `Version: ${SAFE}`);
  const lines = problemLines([problem(EVIL, EVIL, EVIL, [EVIL])]);
  t.is(lines.filter((line) => line.includes(SAFE)).length, 4);
  t.false(lines.join('').includes('\u001b'));
});

test('in a line of a log', (t) => {
  for (const format of ['text', 'json'] as const) {
    const stream = new PassThrough();
    createLogger({ level: 'info', format, stream, journal: false }).warn('a record', {
      key: '/weft/\u001b[31mx',
      why: EVIL,
    });
    const logged = String(stream.read());
    t.is(logged.split('\n').length, 2, logged);
    // eslint-disable-next-line no-control-regex -- what must not be there
    t.notRegex(logged.trimEnd(), /[\u0000-\u001f\u007f-\u009f\u202e\u2028]/);
  }
});
