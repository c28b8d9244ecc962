// Where this weft is, which version it has, and the files that go with it.
import { readFileSync, realpathSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { executable } from './executable.js';

/** The folder that package.json is in: the checkout, or the installed package. Of no use in the single executable. */
export const packageRoot: string = findRoot(dirname(fileURLToPath(import.meta.url)));

export const version: string = versionIn(() => ownFile('package.json')) ?? '0.0.0';

/** Text of a file that goes with weft, by its path in a checkout; the single executable has those of OWN_FILES inside. */
export function ownFile(path: OwnFile): string {
  return executable?.file(path) ?? readFileSync(join(packageRoot, path), 'utf8');
}

/** What `ownFile` is asked for. */
export const OWN_FILES = [
  'package.json',
  'deploy/weft-agent.service',
  'deploy/weft-controller.service',
  'bin/weft-cni',
  'bin/weft-netavark',
  'build/page/icon.svg',
  'build/page/index.html',
  'build/page/page.js',
  'build/page/style.css',
] as const;
export type OwnFile = (typeof OWN_FILES)[number];

/** The words that start this weft, for other processes: their PATH may have no Node.js, or another one. */
export const ownCommand = (): string[] =>
  executable === undefined
    ? [realpathSync(process.execPath), join(realpathSync(packageRoot), 'bin/weft')]
    : [process.execPath];

// Compiled files are one folder deeper (build/) than their sources: search upwards.
function findRoot(from: string): string {
  for (let folder = from; ; folder = dirname(folder)) {
    if (versionIn(() => readFileSync(join(folder, 'package.json'), 'utf8')) !== undefined) return folder;
    if (folder === dirname(folder)) return from;
  }
}

function versionIn(read: () => string): string | undefined {
  try {
    const parsed: unknown = JSON.parse(read());
    if (typeof parsed !== 'object' || parsed === null || !('name' in parsed) || !('version' in parsed))
      return undefined;
    return parsed.name === 'weft' && typeof parsed.version === 'string' ? parsed.version : undefined;
  } catch {
    return undefined;
  }
}
