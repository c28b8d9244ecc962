// Where weft writes unless a folder is named: what appears there during a run was left by a test without folders of its own.
import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';

const PLACES = ['/etc/weft', '/var/lib/weft', '/var/lib/weft-controller', '/run/weft'];

/** Those that exist. @param home of a person */
export const usualPlaces = (root = '/', home = homedir()): string[] =>
  [...PLACES, join(home, '.config/weft')].map((path) => join(root, path)).filter((path) => existsSync(path));

/** Those that were not there before. */
export const newPlaces = (before: readonly string[], now = usualPlaces()): string[] =>
  now.filter((path) => !before.includes(path));
