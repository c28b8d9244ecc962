// Whether a program that a daemon will need is installed.
import { accessSync, constants } from 'node:fs';
import { join } from 'node:path';

import { failedPrecondition } from '../../core/errors.js';

/** systemd's own, and the administrators'. */
const FOLDERS = ['/usr/local/sbin', '/usr/local/bin', '/usr/sbin', '/usr/bin', '/sbin', '/bin'];

/** @throws WeftError FAILED_PRECONDITION with the package that has it */
export function findProgram(name: string, debianPackage: string): void {
  const isThere = (folder: string): boolean => {
    try {
      accessSync(join(folder, name), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  };
  if (FOLDERS.some(isThere)) return;
  throw failedPrecondition(
    `${name} is not installed, and the controller runs one (looked in ${FOLDERS.join(', ')})`,
    `Install it: apt-get install ${debianPackage}. Or name an etcd that runs: the key etcd in /etc/weft/controller.yaml.`,
  );
}
