// Which versions are too old for this release.
import test from 'ava';

import { isTooOld, OLDEST_VERSION } from '../../core/versions.js';
import { version } from '../../daemon/version.js';

for (const [text, old] of [
  ['0.0.9', true],
  ['0.0.10', true],
  [OLDEST_VERSION, false],
  ['0.1.0-rc.1', false],
  ['0.10.0', false],
  ['1.0.0', false],
  ['', false],
  ['of a branch', false],
] as const)
  test(`${text === '' ? 'no version' : text}: ${old ? 'too old' : 'works with this'}`, (t) =>
    t.is(isTooOld(text), old));

test('this release works with itself', (t) => t.false(isTooOld(version)));
