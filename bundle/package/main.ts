// Makes what is installed: `node build/bundle/package/main.js [ARCH…] [--quick] [--out DIR]`, the second half of `npm run package`.
//
// dist/, or DIR, has the single executable, the Debian package and the archive for each machine, with their checksums and the bill
// of materials. --quick compresses less, for tests.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { copyFileSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

import { version } from '../../daemon/version.js';
import { billOfMaterials } from './bill.js';
import { makeDeb } from './deb.js';
import { makeExecutable, prepareBundles } from './executable.js';
import { makeTarball } from './tarball.js';
import { TARGETS } from './target.js';

const ROOT = join(dirname(fileURLToPath(import.meta.url)), '../../..');
const WORK = join(ROOT, 'dist/.work');
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { quick: { type: 'boolean', default: false }, out: { type: 'string', default: 'dist' } },
});
const out = resolve(ROOT, values.out);
const arches = positionals.length > 0 ? positionals : [process.arch];
const targets = arches.map((name) => {
  const target = TARGETS.find(({ arch }) => arch === name);
  if (target === undefined)
    throw new Error(`${name}: packages are made for ${TARGETS.map((it) => it.arch).join(', ')}`);
  return target;
});

/** Seconds since the epoch, of the commit that this is of, or of now: what the files in the packages have as their time. */
function dateOf(): number {
  const given = Number(process.env['SOURCE_DATE_EPOCH']);
  if (Number.isInteger(given) && given > 0) return given;
  try {
    return Number(execFileSync('git', ['-C', ROOT, 'log', '-1', '--format=%ct'], { encoding: 'utf8' }));
  } catch {
    return Math.floor(Date.now() / 1000);
  }
}

const date = dateOf();
const when = new Date(date * 1000).toISOString();
process.env['SOURCE_DATE_EPOCH'] = String(date);
process.umask(0o022);
rmSync(WORK, { recursive: true, force: true });
rmSync(out, { recursive: true, force: true });
mkdirSync(out, { recursive: true });
const packages = await prepareBundles(ROOT, WORK);
const made: string[] = [];
for (const target of targets) {
  const executable = await makeExecutable(ROOT, WORK, target);
  const sources = { root: ROOT, target, executable, packages, date: when.slice(0, 10) };
  const alone = `weft-linux-${target.arch}`;
  copyFileSync(executable, join(out, alone));
  const folder = join(WORK, `deb-${target.arch}`);
  const compression = values.quick ? ['-Zgzip', '-z1'] : ['-Zxz'];
  const deb = makeDeb(sources, { folder, out, version, compression });
  const archived = join(WORK, target.arch, `weft-${version}`);
  const tarball = makeTarball(sources, { folder: archived, out, version, date });
  made.push(alone, deb, tarball);
  for (const name of [alone, deb, tarball])
    process.stdout.write(
      `${join(values.out, name)}  ${(statSync(join(out, name)).size / 1e6).toFixed(1)} MB\n`,
    );
}
const bill = `weft-${version}.cdx.json`;
writeFileSync(join(out, bill), billOfMaterials({ root: ROOT, targets, version, date: when }, packages));
const sums = [...made, bill].map((name) => `${sha256(readFileSync(join(out, name)))}  ${name}\n`);
writeFileSync(join(out, 'SHA256SUMS'), sums.join(''));

function sha256(content: Buffer): string {
  return createHash('sha256').update(content).digest('hex');
}
