// The systemd units: those of deploy/, with the paths of this weft and its Node.js.
import { readFileSync, realpathSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';

import { packageRoot } from '../../daemon/version.js';
import type { SetupFile } from './files.js';

export const UNITS = ['weft-controller', 'weft-agent'] as const;
export type Unit = (typeof UNITS)[number];

const UNIT_FOLDER = '/etc/systemd/system';

/** What deploy/ has in place of the program. */
const PLACE = '/usr/local/bin/weft';

/** The program that this command is of, as words. systemd's PATH may have no Node.js, or another one. */
export const programWords = (): [node: string, script: string] => [
  realpathSync(process.execPath),
  join(realpathSync(packageRoot), 'bin/weft'),
];

/** @param more lines for the section Service */
export function unitFile(unit: Unit, more: readonly string[] = [], program = programWords()): SetupFile {
  const text = readFileSync(join(packageRoot, 'deploy', `${unit}.service`), 'utf8');
  const [node, script] = program;
  const root = dirname(dirname(script));
  return {
    path: `${UNIT_FOLDER}/${unit}.service`,
    text: text
      .replace(`ExecStart=${PLACE} `, () => `ExecStart=${quoted(node)} ${quoted(script)} `)
      .replace(
        /^Documentation=.*$/m,
        () => `Documentation=${specifiers(pathToFileURL(`${root}/README.md`).href)}`,
      )
      .replace(/^\[Service\]$/m, () => ['[Service]', ...more].join('\n'))
      .replace(/^ProtectHome=yes$/m, () => protectHome([node, root]).join('\n')),
  };
}

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
