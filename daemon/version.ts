// The version of this weft, from its package.json.
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The folder that package.json is in: the checkout, or the installed package. */
export const packageRoot: string = findRoot(dirname(fileURLToPath(import.meta.url)));

export const version: string = readVersion(packageRoot) ?? '0.0.0';

// Compiled files are one folder deeper (build/) than their sources: search upwards.
function findRoot(from: string): string {
  for (let folder = from; ; folder = dirname(folder)) {
    if (readVersion(folder) !== undefined) return folder;
    if (folder === dirname(folder)) return from;
  }
}

function readVersion(folder: string): string | undefined {
  try {
    const parsed: unknown = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
    if (typeof parsed !== 'object' || parsed === null || !('name' in parsed) || !('version' in parsed))
      return undefined;
    return parsed.name === 'weft' && typeof parsed.version === 'string' ? parsed.version : undefined;
  } catch {
    return undefined;
  }
}
