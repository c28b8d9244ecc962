// The main script of the single executable: what bin/weft is for a checkout, with everything inside.
//
// Programs and their code caches are those that `npm run build` makes (../bundle.ts), here as assets of the executable.
import { getAsset } from 'node:sea';
import { setFlagsFromString } from 'node:v8';
import { Script } from 'node:vm';

import { EXECUTABLE, type Executable } from '../../daemon/executable.js';
import { assetOf, NativeParts } from './native-parts.js';

const natives = new NativeParts();

Reflect.set(globalThis, EXECUTABLE, {
  file: (path) => getAsset(path, 'utf8'),
  loadNativeParts: (stateDir) => natives.load(stateDir),
} satisfies Executable);

interface Program {
  run(argv: readonly string[]): Promise<void>;
}

function load(program: string): Program {
  const filename = `${process.execPath}.${program}`;
  const hasCache = ASSETS.includes(`${program}.cache`);
  const script = new Script(assetOf(`${program}.cjs`).toString('latin1'), {
    filename,
    ...(hasCache && { cachedData: assetOf(`${program}.cache`) }),
  });
  // As in bin/weft.
  const set = (flag: string): void => {
    if (program !== 'cli') setFlagsFromString(flag);
  };
  const grow = (factor: number): void => set(`--semi-space-growth-factor=${factor}`);
  grow(4);
  set('--no-parallel-scavenge');
  set('--no-minor-gc-task');
  set('--no-opt');
  setTimeout(() => set('--opt'), 5000).unref();
  const module = { exports: {} as Program };
  const wrapper = script.runInThisContext() as (...of: unknown[]) => void;
  wrapper(module.exports, natives.require, module, filename, process.execPath);
  grow(1);
  return module.exports;
}

/** Replaced by the names of all assets when the executable is made. */
declare const ASSETS: readonly string[];

// Node.js has the executable's path in place of a script's, too.
const [, , command, ...rest] = process.argv;
switch (command) {
  case 'agent':
  case 'controller':
    void load(command).run(rest);
    break;
  case '__pump': {
    // It runs as it is loaded, with what is behind its path.
    const [stateDir = ''] = rest;
    process.argv.splice(2, 2);
    natives.load(stateDir);
    load('pump');
    break;
  }
  default:
    void load('cli').run(process.argv.slice(2));
}
