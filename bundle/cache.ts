// V8's code cache of each bundle, taken at the end of a run: only then are the functions in it that a start compiles.
import { execFile } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Script } from 'node:vm';

import { PROGRAMS, type Program } from './bundle.js';

/** One is good for one version of Node.js; bin/weft has the same name. */
const cacheOf = (program: string): string => `${program}.${process.version}.cache`;
const HERE = fileURLToPath(import.meta.url);

/** What each program does for its cache: as much of usual runs as can be done by anybody and anywhere. */
const RUNS: Readonly<Record<Program, readonly string[][]>> = {
  cli: [['--version'], ['network', 'ls', '--controller', '127.0.0.1:1']],
  agent: [['--help']],
  controller: [['--help']],
};

/** @throws Error where a run made no cache */
export async function rehearse(folder: string): Promise<void> {
  await Promise.all(
    PROGRAMS.map(async (program) => {
      const said = await new Promise<string>((resolve) =>
        execFile(process.execPath, [HERE, folder, program], (_, stdout, stderr) => resolve(stdout + stderr)),
      );
      if (!existsSync(join(folder, cacheOf(program))))
        throw new Error(`no code cache for ${program}: ${said}`);
    }),
  );
}

async function run([folder = '', program]: readonly string[]): Promise<void> {
  const name = PROGRAMS.find((one) => one === program) ?? 'cli';
  const filename = join(folder, `${name}.cjs`);
  const script = new Script(readFileSync(filename, 'latin1'), { filename });
  // A program may end the process.
  process.once('exit', () => writeFileSync(join(folder, cacheOf(name)), script.createCachedData()));
  const module = { exports: {} as { run(argv: readonly string[]): Promise<void> } };
  const wrapper = script.runInThisContext() as (...of: unknown[]) => void;
  wrapper(module.exports, createRequire(filename), module, filename, dirname(filename));
  for (const argv of RUNS[name]) await module.exports.run(argv);
}

if (process.argv[1] === HERE) await run(process.argv.slice(2));
