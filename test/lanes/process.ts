// Runs one job: ava or a command in a process group of its own, its output collected, its tests counted.
import { spawn, type ChildProcess } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

import type { Job } from './jobs.js';
import { Count, type AvaEvent, type Result } from './results.js';

export interface Outcome {
  job: Job;
  result: Result;
  /** All that it printed. */
  output: string;
  began: number;
  ended: number;
}

export interface ProcessOptions {
  checkout: string;
  /** The Node.js that runs it. */
  node: string;
  /** Gets what is printed as it comes. */
  onOutput?: (text: string) => void;
}

/** How long a job may clean up once it is to end; a lab of fifty hosts takes a few seconds. */
const GRACE_MS = 15_000;

/** What ava says about test/lanes/ava.config.js, on every run. */
const AVA_NOTES = /^ +⚠ (?:Using configuration from|Experiments are enabled).*\n/gm;

export class JobProcess {
  readonly began = performance.now();
  readonly count: Count;
  readonly outcome: Promise<Outcome>;
  readonly #child: ChildProcess;
  #output = '';

  constructor(
    readonly job: Job,
    { checkout, node, onOutput }: ProcessOptions,
  ) {
    this.count = new Count(job.name);
    const [program = '', ...args] = job.command ?? avaCommand(job, node, checkout);
    this.#child = spawn(program, args, {
      cwd: checkout,
      // bin/weft finds its Node.js by name: it is the one that runs the tests.
      env: { ...process.env, ...job.lane.environment, PATH: `${dirname(node)}:${process.env['PATH'] ?? ''}` },
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
      // A group of its own: a terminal's ^C reaches it by `end` alone, and then all that it started.
      detached: true,
    });
    const hear = (chunk: string): void => {
      const text = chunk.replace(AVA_NOTES, '');
      this.#output += text;
      onOutput?.(text);
    };
    this.#child.stdout?.setEncoding('utf8').on('data', hear);
    this.#child.stderr?.setEncoding('utf8').on('data', hear);
    this.#child.on('message', (event) => this.count.add(event as AvaEvent));
    this.outcome = new Promise((resolve) => {
      const finish = (why?: string): void =>
        resolve({
          ...{ job, result: this.count.end(why), output: this.#output },
          ...{ began: this.began, ended: performance.now() },
        });
      this.#child.once('error', (error) => finish(error.message));
      this.#child.once('close', (code, signal) =>
        code === 0 ? finish() : finish(`ended with ${signal ?? `status ${code}`}`),
      );
    });
  }

  /** SIGINT to all that it started (ava names what was under way), SIGKILL after the grace time. */
  async end(): Promise<void> {
    this.#signal('SIGINT');
    const deadline = performance.now() + GRACE_MS;
    // ava is gone before its test files, which take their labs down.
    while (this.#runs() && performance.now() < deadline) await delay(50);
    this.kill();
    await this.outcome;
  }

  kill(): void {
    this.#signal('SIGKILL');
  }

  #signal(signal: NodeJS.Signals): void {
    const { pid } = this.#child;
    if (pid === undefined) return;
    try {
      process.kill(-pid, signal);
    } catch {
      // Nothing of the group is left.
    }
  }

  /** Whether anything of its group runs. Zombies do not count: in a container there may be nobody to reap them. */
  #runs(): boolean {
    const { pid } = this.#child;
    return readdirSync('/proc').some((name) => {
      if (pid === undefined || !/^\d+$/.test(name)) return false;
      // proc(5): state and process group are fields 3 and 5 of stat, after the command in brackets.
      const [state, , group] = readStat(name).split(' ');
      return group === String(pid) && state !== 'Z';
    });
  }
}

function readStat(pid: string): string {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2);
  } catch {
    return '';
  }
}

function avaCommand({ lane, files, options }: Job, node: string, checkout: string): string[] {
  return [
    ...[node, join(checkout, 'node_modules/ava/entrypoints/cli.mjs'), '--config', 'test/lanes/ava.config.js'],
    ...['--concurrency', String(lane.concurrency), '--timeout', lane.timeout, ...options, ...files],
  ];
}

/** Where a job's output is kept. */
export const outputFile = (folder: string, name: string): string =>
  join(folder, `${name.replaceAll('/', '-')}.log`);

/** Where nothing can be written, the output was only shown. */
export function keepOutput(folder: string, name: string, output: string): void {
  try {
    mkdirSync(folder, { recursive: true });
    writeFileSync(outputFile(folder, name), output);
  } catch {
    // No reason to fail a run.
  }
}
