// Output to a terminal.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';

import test from 'ava';

import { block, table } from '../../cli/output.js';
import { problemLines } from '../../cli/problem-lines.js';
import { visible, visibleLines } from '../../core/text.js';
import { createLogger } from '../../daemon/log.js';
import { until } from '../lab/wait.js';
import { Fakes, WEFT } from './fakes.js';
import { problem, status } from './samples.js';

// At a real terminal: colour, width, characters, and the line of a command that waits.

const fakes = new Fakes();
/** It takes connections, and never answers: as the kernel does for a process that is stopped. */
const silent = join(fakes.folder, 'silent.sock');
let server: Server;

test.before(async () => {
  await fakes.start();
  const [first] = status.networks;
  if (first === undefined) throw new Error('the sample has no network');
  const name = `a-network-with-a-very-long-name-${'x'.repeat(30)}`;
  fakes.agentStatus = {
    ...{ ...status, health: 'degraded', networks: [{ ...first, name }] },
    problems: [problem('link eth0', 'no carrier', 'plug it in, that’s all')],
  };
  server = createServer((connection) => connection.on('error', () => undefined)).listen(silent);
  await once(server, 'listening');
});
test.after.always(() => {
  server.close();
  fakes.stop();
});

class Terminal {
  seen = '';
  readonly #script;
  readonly ended: Promise<number | null>;

  /** @param line of a shell, in which $WEFT is the program */
  constructor(line: string, env: Record<string, string> = {}, columns = 60) {
    const { PATH = '', HOME = '' } = process.env;
    const words = { WEFT, WEFT_CONTROLLER: fakes.address, WEFT_AGENT: fakes.socket };
    this.#script = spawn('script', ['-qefc', `stty cols ${columns} rows 24; exec ${line}`, '/dev/null'], {
      env: { PATH, HOME, TERM: 'xterm', LANG: 'C.UTF-8', ...words, ...env },
    });
    this.#script.stdout.on('data', (bytes: Buffer) => (this.seen += bytes.toString()));
    this.ended = once(this.#script, 'close').then(([code]) => code as number | null);
  }

  type(text: string): void {
    this.#script.stdin.write(text);
  }

  kill(): void {
    this.#script.kill('SIGKILL');
  }
}

const ESCAPE = '\u001B';
const [RED, YELLOW, PLAIN] = [`${ESCAPE}[31m`, `${ESCAPE}[33m`, `${ESCAPE}[0m`];

const WAITING = `weft: waiting for the agent at ${fakes.socket}`;
const GONE = `\r${ESCAPE}[K`;

const lines = (text: string): string[] => text.replaceAll('\r', '').split('\n');

async function shown(line: string, env?: Record<string, string>, columns?: number): Promise<string> {
  const terminal = new Terminal(line, env, columns);
  await terminal.ended;
  // On a machine that is busy enough every command waits.
  return terminal.seen.replaceAll(`${WAITING}${GONE}`, '');
}

test('status has colour at a terminal, and tables of its width', async (t) => {
  const text = await shown('"$WEFT" status');
  t.is(lines(text)[0], `Health:     ${YELLOW}degraded${PLAIN}`);
  t.is(lines(text)[2], `${RED}Problems:${PLAIN}`);
  t.is(lines(text).find((line) => line.startsWith('  NAME'))?.length, 60);
  t.regex(text, /^ {2}a-network… {2}10\.100\./m);
  const wide = lines(await shown('"$WEFT" status', {}, 200)).find((line) => line.startsWith('  a-network'));
  t.regex(wide ?? '', /x{30} {2}10\.100\./);
});

test('where a terminal is too narrow for a table, its rows are blocks, and nothing is cut', async (t) => {
  const text = lines(await shown('"$WEFT" status', {}, 40));
  const at = text.indexOf('Networks:');
  t.regex(text[at + 1] ?? '', /^ {2}NAME: +a-network-with-a-very-long-name-x{30}$/);
  t.regex(text[at + 2] ?? '', /^ {2}SUBNET: +10\.100\.5\.0\/24$/);
});

test('NO_COLOR, a pipe and a file have no colour; a pipe and a file have the whole width', async (t) => {
  const [without, piped] = await Promise.all([
    shown('"$WEFT" status', { NO_COLOR: '1' }),
    shown('sh -c \'"$WEFT" status | cat\''),
  ]);
  t.regex(without, /^Health: +degraded\r\n\r\nProblems:\r\n/);
  t.false((without + piped).includes(ESCAPE));
  t.regex(piped, /x{30} {2}10\.100\./);
});

test('a terminal of another charset gets characters that it has', async (t) => {
  const text = await shown('"$WEFT" status', { LC_ALL: 'C' });
  t.notRegex(text, /[^\p{ASCII}]/u);
  t.regex(text, /plug it in, that's all/);
  t.regex(text, /^ {2}a-network~ {2}10\.100\./m);
  t.regex(await shown('"$WEFT" status'), /that’s all/);
});

test('help fits a terminal of 80 columns', async (t) => {
  for (const line of ['help', 'help attach', 'help network']) {
    const text = lines(await shown(`"$WEFT" ${line}`, {}, 80));
    t.true(text.length > 10, line);
    t.deepEqual(
      text.filter((one) => one.length > 80),
      [],
      line,
    );
  }
});

const WAITING_LONG = `weft: waiting for the agent at ${silent}`;

test('the line of a command that waits is gone when it has an answer', async (t) => {
  const text = await shown('"$WEFT" diff', { WEFT_AGENT: silent }, 200);
  t.true(
    text.startsWith(`${WAITING_LONG}${GONE}weft: the agent at ${silent} did not answer in time: it hangs`),
    text,
  );
});

test('Ctrl-C ends a command that waits, and its line', async (t) => {
  const terminal = new Terminal('"$WEFT" attach blue web', { WEFT_AGENT: silent }, 200);
  t.teardown(() => terminal.kill());
  await until('it says for whom it waits', () => terminal.seen === WAITING_LONG);
  terminal.type('\u0003');
  t.is(await terminal.ended, 130);
  t.is(terminal.seen.replace('^C', ''), `${WAITING_LONG}${GONE}`);
});

// What others wrote into records reaches neither the terminal nor a log as a control sequence or a line of its own.

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
