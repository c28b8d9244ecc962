// Files that tests leave outside of their own folders are found.
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';

import test from 'ava';

import { temporaryFolder } from '../lab/temporary-folder.js';
import { newPlaces, usualPlaces } from './usual-places.js';

test('a folder that was not there before is named; what a weft of this machine has is not', (t) => {
  const root = temporaryFolder(t, 'weft-places-');
  const look = (): string[] => usualPlaces(root, '/home/me');
  mkdirSync(join(root, 'var/lib/weft'), { recursive: true });
  const before = look();
  t.deepEqual(before, [join(root, 'var/lib/weft')]);
  mkdirSync(join(root, 'home/me/.config/weft'), { recursive: true });
  t.deepEqual(newPlaces(before, look()), [join(root, 'home/me/.config/weft')]);
});
