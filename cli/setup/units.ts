// The systemd units: those of deploy/, with the words that start this weft.
import { dirname } from 'node:path';
import { pathToFileURL } from 'node:url';

import { ownCommand, ownFile } from '../../daemon/version.js';
import type { SetupFile } from './files.js';

export const UNITS = ['weft-controller', 'weft-agent'] as const;
export type Unit = (typeof UNITS)[number];

const UNIT_FOLDER = '/etc/systemd/system';

/** What deploy/ has in place of the program. */
const PLACE = '/usr/local/bin/weft';

/** Where packages have their units; systemd prefers UNIT_FOLDER (systemd.unit(5)). */
const PACKAGED_FOLDER = '/usr/lib/systemd/system';

export const packagedUnit = (unit: Unit): string => `${PACKAGED_FOLDER}/${unit}.service`;

/** @param more lines for the section Service @param program Node.js and a script, or the single executable */
export function unitFile(
  unit: Unit,
  more: readonly string[] = [],
  program: readonly string[] = ownCommand(),
): SetupFile {
  const [executable = '', script] = program;
  const root = script === undefined ? undefined : dirname(dirname(script));
  const manual = root === undefined ? 'man:weft(8)' : specifiers(pathToFileURL(`${root}/README.md`).href);
  return {
    path: `${UNIT_FOLDER}/${unit}.service`,
    text: ownFile(`deploy/${unit}.service`)
      .replace(`ExecStart=${PLACE} `, () => `ExecStart=${program.map(quoted).join(' ')} `)
      .replace(/^Documentation=.*$/m, () => `Documentation=${manual}`)
      .replace(/^\[Service\]$/m, () => ['[Service]', ...more].join('\n'))
      .replace(/^ProtectHome=yes$/m, () => protectHome([executable, ...(root ? [root] : [])]).join('\n')),
  };
}

/** Lines beside those of a package's unit. */
export const dropIn = (unit: Unit, more: readonly string[]): SetupFile => ({
  path: `${UNIT_FOLDER}/${unit}.service.d/weft-init.conf`,
  text: ['[Service]', ...more, ''].join('\n'),
});

/** Whether a package's unit starts this very weft. */
export const startsThis = (unitText: string): boolean =>
  unitText.includes(`\nExecStart=${ownCommand().map(quoted).join(' ')} `);

const specifiers = (text: string): string => text.replaceAll('%', '%%');

/** A word as systemd.syntax(7) and systemd.service(5) read it: specifiers and variables are not meant. */
function quoted(word: string): string {
  const plain = specifiers(word).replaceAll('$', '$$$$');
  return /^[\w@%+=:,./$-]+$/.test(plain) ? plain : `"${plain.replaceAll(/["\\]/g, String.raw`\$&`)}"`;
}

/**
 * Homes stay hidden but for the program itself, where it is in one (systemd.exec(5), ProtectHome=tmpfs). /tmp is the unit's own.
 */
function protectHome(paths: readonly string[]): string[] {
  const isIn = (path: string, folders: readonly string[]): boolean =>
    folders.some((folder) => path.startsWith(`${folder}/`));
  const inHome = paths.filter((path) => isIn(path, ['/root', '/home', '/run/user']));
  const hidden = [...inHome, ...paths.filter((path) => isIn(path, ['/tmp', '/var/tmp']))];
  return [
    `ProtectHome=${inHome.length > 0 ? 'tmpfs' : 'yes'}`,
    ...hidden.map((path) => `BindReadOnlyPaths=${quoted(path)}`),
  ];
}
