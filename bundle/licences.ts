// The text that goes with the bundles: each library in them, with its licence.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

import type { Package } from './bundle.js';

const RULE = '-'.repeat(80);

/** @throws Error for a library without a licence */
export function licences(packages: readonly Package[]): string {
  const parts = packages.map(({ name, version, license, folder }) => {
    const files = readdirSync(folder).filter((file) => /^(licen[cs]e|copying|notice)/i.test(file));
    if (typeof license !== 'string') throw new Error(`${name}: its package.json names no licence`);
    const texts = files.map((file) => readFileSync(join(folder, file), 'utf8').trim());
    return [`${name} ${version} (${license})`, ...texts].join('\n\n');
  });
  return `The programs in this folder contain these libraries.\n\n${parts.map((part) => `${RULE}\n${part}\n`).join('\n')}`;
}
