// Where the node's certificate comes from, before anything else is started.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

import test from 'ava';

import { agentProgram, agentSettingsFrom } from '../../../agent/settings.js';
import { identify } from '../../../agent/start/identify.js';
import { WeftError } from '../../../core/errors.js';
import { silentLogger as log } from '../../../daemon/log.js';
import { loadSettings } from '../../../daemon/settings.js';
import { temporaryFolder } from '../../lab/temporary-folder.js';
import { until } from '../../lab/wait.js';

test('a token’s file that is not there yet is waited for; one that holds something else is an error', async (t) => {
  const folder = temporaryFolder(t, 'weft-identify-');
  const file = join(folder, 'token');
  const flags = ['--config=/dev/null', '--controller=127.0.0.1:1', `--token-file=${file}`];
  const given = loadSettings(agentProgram, [...flags, `--state-dir=${folder}`, '--node=h1'], {});
  if (given.kind !== 'values') throw new Error('no settings');
  const shutdown = { signal: new AbortController().signal, add: () => undefined, end: () => t.fail() };
  const reasons: string[] = [];
  const found = t.throwsAsync(
    identify({ settings: agentSettingsFrom(given.values, given.origin), log, shutdown }, ({ message }) =>
      reasons.push(message),
    ),
    { instanceOf: WeftError, message: '--token-file: is not a token' },
  );
  await until('the reason', () => reasons.length > 1);
  t.is(reasons[0], `--token-file: ${file}: there is no such file yet`);
  writeFileSync(file, 'something else\n');
  await found;
});
