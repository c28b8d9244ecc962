// The audit log is for its owner alone, one line for an entry, and rotated.
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';

import test from 'ava';

import { AuditLog } from '../../daemon/audit.js';
import { silentLogger } from '../../daemon/log.js';
import { temporaryFolder } from '../lab/temporary-folder.js';

test('lines, rights and rotation', (t) => {
  const folder = join(temporaryFolder(t, 'weft-audit-'), 'audit');
  const path = join(folder, 'agent.log');
  const audit = new AuditLog(path, silentLogger, 1000);
  for (let i = 0; i < 400; i++) audit.write({ i, why: 'a\nb\u001b[31m\u009b' });
  audit.close();
  t.deepEqual(
    readdirSync(folder).toSorted(),
    ['', '.1', '.2', '.3', '.4', '.5'].map((end) => `agent.log${end}`),
  );
  for (const file of readdirSync(folder)) {
    t.is(statSync(join(folder, file)).mode & 0o777, 0o600);
    t.true(statSync(join(folder, file)).size <= 1000);
  }
  const lines = readFileSync(path, 'utf8').trim().split('\n');
  t.like(JSON.parse(lines.at(-1) ?? ''), { i: 399, why: 'a\nb\u001b[31m\u009b' });
  // An earlier process' file is continued.
  const again = new AuditLog(path, silentLogger, 10_000);
  again.write({ i: 100 });
  again.close();
  t.is(readFileSync(path, 'utf8').trim().split('\n').length, lines.length + 1);
});

test('a disk that cannot be written is told, and no more', (t) => {
  const told: string[] = [];
  const audit = new AuditLog('/dev/null/audit.log', {
    ...silentLogger,
    error: (message: string) => told.push(message),
  });
  audit.write({ i: 1 });
  t.deepEqual(told, ['the audit log cannot be written']);
});
