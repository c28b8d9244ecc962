// systemd, by its own commands.
import { execFile } from 'node:child_process';

import { failedPrecondition, messageOf } from '../../core/errors.js';
import { notSilently } from '../waiting.js';
import type { Unit } from './units.js';

interface Ran {
  /** Undefined: the program could not be started. */
  code: number | undefined;
  stdout: string;
  stderr: string;
}

export interface Failure {
  why: string;
  /** systemd does not start it again. */
  isFinal: boolean;
}

/** systemctl(1), is-system-running: systemd is installed, and something else is process 1. */
const AWAY = new Set(['offline', 'unknown']);

export class Systemd {
  private constructor() {}

  /** Undefined where systemd does not run this host. */
  static async find(): Promise<Systemd | undefined> {
    const { code, stdout, stderr } = await run('systemctl', ['is-system-running']);
    // Its words where it does not reach systemd at all go to standard error.
    const isAway = code === undefined || AWAY.has(stdout.trim()) || (code !== 0 && stdout.trim() === '');
    return isAway || /not been booted with systemd/.test(stderr) ? undefined : new Systemd();
  }

  /** New and changed files are read. @throws WeftError FAILED_PRECONDITION */
  async reload(): Promise<void> {
    await this.#call('daemon-reload');
  }

  /** Starts it now and at each boot. @throws WeftError FAILED_PRECONDITION */
  async enable(unit: Unit): Promise<void> {
    await this.#call('enable', '--now', `${unit}.service`);
  }

  /** @throws WeftError FAILED_PRECONDITION */
  async restart(unit: Unit): Promise<void> {
    await this.#call('restart', `${unit}.service`);
  }

  /** Stops it, now and at each boot. @throws WeftError FAILED_PRECONDITION */
  async disable(unit: Unit): Promise<void> {
    await this.#call('disable', '--now', `${unit}.service`);
  }

  /** Deletes its state and runtime directories. @throws WeftError FAILED_PRECONDITION */
  async clean(unit: Unit): Promise<void> {
    await this.#call('clean', '--what=all', `${unit}.service`);
  }

  async isActive(unit: Unit): Promise<boolean> {
    return (await run('systemctl', ['is-active', '--quiet', `${unit}.service`])).code === 0;
  }

  /** Why the unit does not run, by its log. Undefined while it runs. */
  async failureOf(unit: Unit): Promise<Failure | undefined> {
    const { stdout } = await run('systemctl', ['show', '--property=SubState', '--value', `${unit}.service`]);
    const state = stdout.trim();
    if (state !== 'auto-restart' && state !== 'failed') return undefined;
    const log = await run('journalctl', [
      ...['--unit', `${unit}.service`, '--lines=20', '--output=cat', '--no-pager', '--quiet'],
      // weft's own words, without systemd's about it.
      '_TRANSPORT=stdout',
    ]);
    const lines = log.stdout.trim().split('\n');
    // A daemon's last words begin so; the next step may be behind them.
    const why = lines.findLast((line) => /^weft \w+: |^the \w+ cannot go on/.test(line)) ?? lines.at(-1);
    return { why: why === undefined || why === '' ? `it is ${state}` : why, isFinal: state === 'failed' };
  }

  async #call(...args: string[]): Promise<void> {
    const call = `systemctl ${args.join(' ')}`;
    const { code, stderr } = await notSilently(call, () => run('systemctl', args));
    if (code === 0) return;
    const [why = ''] = stderr.trim().split('\n');
    throw failedPrecondition(
      `${call} failed: ${why === '' ? `exit status ${code}` : why}`,
      'See systemctl status and journalctl; then repeat this command.',
    );
  }
}

function run(program: string, args: readonly string[]): Promise<Ran> {
  return new Promise((resolve) => {
    execFile(program, args, { timeout: 120_000 }, (error, stdout, stderr) => {
      const code = error === null ? 0 : typeof error.code === 'number' ? error.code : undefined;
      resolve({ code, stdout, stderr: stderr === '' && error !== null ? messageOf(error) : stderr });
    });
  });
}
