// The files that packages install: the executable, its native parts, units, completion, manual pages, and what tells the host's
// network services to leave weft's interfaces alone.
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { gzipSync } from 'node:zlib';

import { UNITS, unitFile } from '../../cli/setup/units.js';
import type { Package } from '../bundle.js';
import { licences } from '../licences.js';
import { manualPages } from './manual.js';
import { nativeFiles, nodeFolder, type Target } from './target.js';

export interface PackageFile {
  /** Without the leading slash. */
  path: string;
  content: Buffer | string;
  mode?: number;
}

export interface Sources {
  root: string;
  target: Target;
  /** The single executable. */
  executable: string;
  /** The libraries in it. */
  packages: readonly Package[];
  /** Of manual pages, as 2026-01-31. */
  date: string;
}

const SHELLS = {
  bash: 'share/bash-completion/completions/weft',
  zsh: 'share/zsh/vendor-completions/_weft',
  fish: 'share/fish/vendor_completions.d/weft.fish',
};

/** Where a package keeps what is for other programs; an administrator's own folders are in /etc. */
export interface Places {
  /** Of the executable: usr or usr/local. */
  prefix: string;
  networkManager: string;
  networkd: string;
}

export function commonFiles(sources: Sources, places: Places): PackageFile[] {
  const { root, target, executable, date } = sources;
  const { prefix, networkManager, networkd } = places;
  const weft = (...args: string[]): string =>
    execFileSync(process.execPath, [join(root, 'bin/weft'), ...args], { encoding: 'utf8', env: {} });
  const read = (path: string): Buffer => readFileSync(join(root, path));
  const help = { agent: weft('agent', '--help'), controller: weft('controller', '--help') };
  const docs = `${prefix}/share/doc/weft`;
  return [
    { path: `${prefix}/bin/weft`, content: readFileSync(executable), mode: 0o755 },
    ...Object.entries(nativeFiles(root, target)).map(([part, from]) => ({
      path: `${prefix}/lib/weft/${part}`,
      content: readFileSync(from),
    })),
    ...Object.entries(SHELLS).map(([shell, path]) => ({
      path: `${prefix}/${path}`,
      content: weft('completion', shell),
    })),
    ...manualPages(help, date).map(({ name, text }) => ({
      path: `${prefix}/share/man/man8/${name}.gz`,
      content: compressed(text),
    })),
    { path: `${networkManager}/weft.conf`, content: read('deploy/package/networkmanager.conf') },
    { path: `${networkd}/10-weft.network`, content: read('deploy/package/weft.network') },
    { path: `${docs}/copyright`, content: read('deploy/package/copyright') },
    { path: `${docs}/changelog.gz`, content: compressed(read('CHANGELOG.md')) },
    { path: `${docs}/licences.gz`, content: compressed(allLicences(sources)) },
    ...['agent.yaml', 'controller.yaml'].map((name) => ({
      path: `${docs}/examples/${name}`,
      content: read(`deploy/${name}`),
    })),
  ];
}

/** For a program at a fixed place. */
export const unitFiles = (folder: string, program: string): PackageFile[] =>
  UNITS.map((unit) => ({
    path: `${folder}/${unit}.service`,
    content: unitFile(unit, [], [program]).text,
  }));

/** gzip without a date or a name, so that the same text is the same file. */
const compressed = (content: Buffer | string): Buffer => gzipSync(content, { level: 9 });

function allLicences({ root, target, packages }: Sources): string {
  const node = readFileSync(join(nodeFolder(root, target), 'LICENSE'), 'utf8');
  return `${licences(packages)}\n${'='.repeat(80)}\nNode.js\n\n${node}`;
}

export function writeFiles(folder: string, files: readonly PackageFile[]): void {
  for (const { path, content, mode = 0o644 } of files) {
    mkdirSync(join(folder, dirname(path)), { recursive: true, mode: 0o755 });
    writeFileSync(join(folder, path), content);
    chmodSync(join(folder, path), mode);
  }
}
