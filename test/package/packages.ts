// The packages of this build, as `npm run test:package` makes them, and one of an earlier version with the same content.
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { must } from '../lab/exec.js';
import { CHECKOUT } from '../lab/lab.js';

const MADE = join(CHECKOUT, 'dist/test');

/** @throws Error where they were not made */
export function madePackage(ending: string): string {
  const name = readdirSync(MADE).find((file) => file.endsWith(ending));
  if (name === undefined)
    throw new Error(`dist/test has nothing that ends with ${ending}: npm run test:package makes it`);
  return join(MADE, name);
}

export const executablePath = (): string => madePackage(`weft-linux-${process.arch}`);

export const EARLIER = '0.0.1';

/** A folder with this build's package as new.deb, as old.deb with an earlier version, and the archive; the caller deletes it. */
export async function packageFolder(): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), 'weft-packages-'));
  const tree = join(folder, 'tree');
  cpSync(madePackage('.deb'), join(folder, 'new.deb'));
  cpSync(madePackage('.tar.gz'), join(folder, 'weft.tar.gz'));
  await must(['dpkg-deb', '-R', join(folder, 'new.deb'), tree], { timeoutMs: 120_000 });
  const control = join(tree, 'DEBIAN/control');
  writeFileSync(control, readFileSync(control, 'utf8').replace(/^Version: .*$/m, `Version: ${EARLIER}`));
  await must(['dpkg-deb', '--root-owner-group', '-Zgzip', '-z1', '-b', tree, join(folder, 'old.deb')], {
    timeoutMs: 120_000,
  });
  rmSync(tree, { recursive: true });
  return folder;
}
