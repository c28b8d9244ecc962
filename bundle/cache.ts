// V8's code cache of each bundle, taken at the end of a run: only then are the functions in it that a start compiles.
import { execFile } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { Script } from 'node:vm';

import { PROGRAMS, type Program } from './bundle.js';

const HERE = fileURLToPath(import.meta.url);
const CLUSTER = join(dirname(HERE), 'cluster.js');
/** Namespaces with a process 1 whose end ends all others. */
const APART = '--net --mount --mount-proc --pid --fork --kill-child'.split(' ');
const WITHIN_MS = 60_000;

/** One is good for one version of Node.js; bin/weft has the same name. */
const cacheOf = (program: string): string => `${program}.${process.version}.cache`;

/** What can be done anywhere, where a whole cluster cannot be run. */
const ALONE: Readonly<Record<Program, readonly string[][]>> = {
  cli: [['--version'], ['network', 'ls', '--controller', '127.0.0.1:1']],
  agent: [['--help']],
  controller: [['--help']],
};

/** Records the code cache of every program while a small cluster runs. @throws Error where a program made no cache */
export async function recordAll(folder: string): Promise<void> {
  const state = mkdtempSync(join(tmpdir(), 'weft-recording-'));
  const words = [...APART, process.execPath, CLUSTER, folder, state];
  const failed = await promisify(execFile)('unshare', words, { timeout: WITHIN_MS, killSignal: 'SIGKILL' })
    .then(() => undefined)
    .catch(String);
  rmSync(state, { recursive: true, force: true });
  const missing = PROGRAMS.filter((program) => !existsSync(join(folder, cacheOf(program))));
  if (missing.length > 0)
    process.stderr.write(
      `The code cache is made of less than a whole start (that takes root, etcd, iproute2 and unshare): ${failed ?? ''}\n`,
    );
  for (const program of missing)
    await promisify(execFile)(process.execPath, recorder(folder, program, ALONE[program])).catch(
      (error: unknown) => {
        // A run may end with any status.
        if (!existsSync(join(folder, cacheOf(program)))) throw error;
      },
    );
}

/** The command line that runs a program, one run after the other, and writes its cache at its end. */
export const recorder = (folder: string, program: Program, runs: readonly string[][]): string[] => [
  ...[HERE, folder, program, JSON.stringify(runs)],
];

async function record(folder: string, program: string, runs: readonly string[][]): Promise<void> {
  const filename = join(folder, `${program}.cjs`);
  const script = new Script(readFileSync(filename, 'latin1'), { filename });
  // A program may end the process.
  process.once('exit', () => writeFileSync(join(folder, cacheOf(program)), script.createCachedData()));
  const module = { exports: {} as { run(argv: readonly string[]): Promise<void> } };
  const wrapper = script.runInThisContext() as (...of: unknown[]) => void;
  wrapper(module.exports, createRequire(filename), module, filename, folder);
  for (const argv of runs) await module.exports.run(argv);
}

if (process.argv[1] === HERE) {
  const [folder = '', program = '', runs = '[]'] = process.argv.slice(2);
  await record(folder, program, JSON.parse(runs) as string[][]);
}
