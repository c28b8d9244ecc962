// The archive for other hosts: the same files for /usr/local, and a script that puts them there.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

import { commonFiles, writeFiles, type Sources } from './files.js';

/** Below the archive's folder; install.sh knows them. */
const PLACES = {
  prefix: 'prefix',
  networkManager: 'etc/NetworkManager/conf.d',
  networkd: 'etc/systemd/network',
};

/** @param folder a new one, whose last part is the folder in the archive @param date seconds since the epoch */
export function makeTarball(
  sources: Sources,
  { folder, out, version, date }: { folder: string; out: string; version: string; date: number },
): string {
  const { root, target } = sources;
  writeFiles(folder, [
    ...commonFiles(sources, PLACES),
    { path: 'install.sh', content: readFileSync(join(root, 'deploy/package/install.sh')), mode: 0o755 },
    { path: 'LICENSE', content: readFileSync(join(root, 'LICENSE')) },
  ]);
  const name = `weft-${version}-linux-${target.arch}.tar.gz`;
  execFileSync('tar', [
    ...[
      '-C',
      dirname(folder),
      '--sort=name',
      `--mtime=@${date}`,
      '--owner=0',
      '--group=0',
      '--numeric-owner',
    ],
    ...['-czf', join(out, name), folder.slice(dirname(folder).length + 1)],
  ]);
  return name;
}
