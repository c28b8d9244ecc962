// The shutdown of a daemon, with real processes and signals.
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

import test from 'ava';

const at = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

const PRELUDE = `
  import { createLogger } from '${at('../../daemon/log.js')}';
  import { installShutdown } from '${at('../../daemon/shutdown.js')}';
  const log = createLogger({ level: 'info', format: 'text' });
  const shutdown = installShutdown(log);
  const say = (text) => process.stdout.write(text + '\\n');
  setInterval(() => undefined, 1000);
`;

interface Outcome {
  code: number | null;
  stdout: string[];
  stderr: string;
  /** Milliseconds from the last signal to the end. */
  ms: number;
}

/** Runs the script and sends the signals, each after the line before it. */
function run(script: string, ...signals: NodeJS.Signals[]): Promise<Outcome> {
  let begun = Date.now();
  const child = spawn(process.execPath, ['--input-type=module', '-e', `${PRELUDE}${script}`], {
    stdio: 'pipe',
  });
  let [stdout, stderr] = ['', ''];
  child.stdout.on('data', (chunk: Buffer) => {
    stdout += chunk.toString();
    const signal = signals.shift();
    if (signal === undefined) return;
    begun = Date.now();
    child.kill(signal);
  });
  child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
  return new Promise((resolve) => {
    child.once('close', (code) => {
      resolve({ code, stdout: stdout.trim().split('\n'), stderr, ms: Date.now() - begun });
    });
  });
}

test('SIGTERM stops everything in reverse order of start, and exits 0', async (t) => {
  const outcome = await run(
    `shutdown.add('first', async () => say('first'));
     shutdown.add('broken', () => { throw new Error('stuck lid'); });
     shutdown.add('second', async () => { say('second ' + shutdown.signal.aborted); });
     say('up');`,
    'SIGTERM',
  );
  t.is(outcome.code, 0);
  t.deepEqual(outcome.stdout, ['up', 'second true', 'first']);
  t.regex(outcome.stderr, /could not be stopped {2}part=broken {2}error="stuck lid"/);
});

test('a part that does not stop is cut off within five seconds', async (t) => {
  const outcome = await run(
    `shutdown.add('stuck', () => new Promise(() => undefined)); say('up');`,
    'SIGTERM',
  );
  t.is(outcome.code, 1);
  t.true(outcome.ms < 5500, `${outcome.ms} ms`);
});

test('a second signal ends it at once', async (t) => {
  const outcome = await run(
    `shutdown.add('slow', () => { say('stopping'); return new Promise(() => undefined); }); say('up');`,
    'SIGINT',
    'SIGINT',
  );
  t.is(outcome.code, 1);
  t.true(outcome.ms < 3000, `${outcome.ms} ms`);
});

test('an unhandled rejection is logged with its cause and ends it with 1', async (t) => {
  const outcome = await run(`Promise.reject(new Error('outer', { cause: new Error('the reason') }));`);
  t.is(outcome.code, 1);
  t.regex(outcome.stderr, /a fault in weft: an unhandled rejection {2}error="outer \(the reason\)"/);
});
