// Runs programs for tests, with a deadline.
//
// Returns all their output, and fails with an error that shows it.
import { spawn } from 'node:child_process';

import { slowness } from './wait.js';

export interface Outcome {
  /** 128 + the signal's number where a signal ended it, as in a shell. */
  code: number;
  stdout: string;
  stderr: string;
  ms: number;
}

export interface ExecOptions {
  env?: Record<string, string>;
  input?: string;
  /** Default 30 s, times `slowness`; then it is killed, which is an error. */
  timeoutMs?: number;
}

/**
 * PATH without npm's folder of programs, which has an unrelated `nft`. weft speaks plain text in the lab, unless a test says
 * otherwise.
 */
export const environment = (extra: Record<string, string> = {}): NodeJS.ProcessEnv => ({
  ...process.env,
  WEFT_INSECURE: '1',
  PATH: (process.env['PATH'] ?? '')
    .split(':')
    .filter((folder) => !folder.endsWith('node_modules/.bin'))
    .join(':'),
  ...extra,
});

/** Runs a program to its end, whatever its exit status. @throws Error where it cannot be started or takes too long */
export function exec(argv: readonly string[], options: ExecOptions = {}): Promise<Outcome> {
  const [program = '', ...args] = argv;
  const began = performance.now();
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      env: environment(options.env),
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
    child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
    const timeoutMs = (options.timeoutMs ?? 30_000) * slowness;
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      child.kill('SIGKILL');
    }, timeoutMs);
    child.on('error', (error) => {
      clearTimeout(timer);
      reject(error);
    });
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      if (late) {
        reject(new Error(`${shown(argv)}: did not end within ${timeoutMs} ms\n${stdout}${stderr}`));
        return;
      }
      resolve({
        code: code ?? (signal === 'SIGINT' ? 130 : 143),
        stdout,
        stderr,
        ms: performance.now() - began,
      });
    });
    // A program that does not read its input is no error.
    child.stdin.on('error', () => undefined);
    child.stdin.end(options.input ?? '');
  });
}

/** As `exec`; returns what it printed. @throws Error where it fails, with its output */
export async function must(argv: readonly string[], options: ExecOptions = {}): Promise<string> {
  const { code, stdout, stderr } = await exec(argv, options);
  if (code !== 0) throw new Error(`${shown(argv)}: exit ${code}\n${stdout}${stderr}`);
  return stdout;
}

export const shown = (argv: readonly string[]): string =>
  argv.map((word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word}'`)).join(' ');

/** Many `ip` commands in one process; `namespace` where it is not the caller's own. */
export function ipBatch(lines: readonly string[], namespace?: string): Promise<string> {
  const where = namespace === undefined ? [] : ['-n', namespace];
  return must(['ip', ...where, '-batch', '-'], { input: `${lines.join('\n')}\n` });
}
