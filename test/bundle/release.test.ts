// scripts/release.sh in a clone of its own: what it writes, commits and tags, and what it refuses.
import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

import test, { type ExecutionContext } from 'ava';

import { NODE_VERSION } from '../../bundle/package/target.js';
import { exec, must, type Outcome } from '../lab/exec.js';
import { CHECKOUT } from '../lab/lab.js';
import { temporaryFolder } from '../lab/temporary-folder.js';

const FILES = [
  'package.json',
  'package-lock.json',
  'bin/weft-cni',
  'bin/weft-netavark',
  'scripts/release.sh',
];
const CHANGES =
  '# Changelog\n\n## [Unreleased]\n\n### Added\n\n- Something.\n\n## [0.0.1] - 2026-01-01\n\n- The first.\n';
const AUTHOR = ['-c', 'user.name=Someone', '-c', 'user.email=someone@example.com'];

class Clone {
  constructor(readonly folder: string) {}

  static async make(t: ExecutionContext): Promise<Clone> {
    const clone = new Clone(temporaryFolder(t, 'weft-release-'));
    for (const path of FILES) {
      mkdirSync(dirname(join(clone.folder, path)), { recursive: true });
      cpSync(join(CHECKOUT, path), join(clone.folder, path));
    }
    clone.write('CHANGELOG.md', CHANGES);
    await clone.git('init', '--quiet');
    for (const setting of ['user.name Someone', 'user.email someone@example.com', 'commit.gpgsign false'])
      await clone.git('config', ...setting.split(' '));
    await clone.commit();
    return clone;
  }

  write(path: string, text: string): void {
    writeFileSync(join(this.folder, path), text);
  }

  read(path: string): string {
    return readFileSync(join(this.folder, path), 'utf8');
  }

  git(...args: string[]): Promise<string> {
    return must(['git', '-C', this.folder, ...AUTHOR, ...args]);
  }

  async commit(): Promise<void> {
    await this.git('add', '--all');
    await this.git('commit', '--quiet', '-m', 'as it is');
  }

  release(version: string): Promise<Outcome> {
    return exec(['bash', join(this.folder, 'scripts/release.sh'), version, '--no-packages']);
  }
}

test('packages have the Node.js that tests run with', (t) => {
  const script = readFileSync(join(CHECKOUT, 'scripts/other-nodes.sh'), 'utf8');
  t.true(script.includes(` ${NODE_VERSION}'`), NODE_VERSION);
});

test('the version goes where it is written, the changelog gets a heading, and all of it a tag', async (t) => {
  const clone = await Clone.make(t);
  const { code, stderr } = await clone.release('7.8.9');
  t.is(code, 0, stderr);
  t.is(await clone.git('describe', '--tags'), 'v7.8.9\n');
  t.is(await clone.git('log', '-1', '--format=%s'), 'release: 7.8.9\n');
  t.is(await clone.git('status', '--porcelain'), '');
  t.is((JSON.parse(clone.read('package.json')) as { version: string }).version, '7.8.9');
  const lock = JSON.parse(clone.read('package-lock.json')) as {
    version: string;
    packages: Record<string, { version: string }>;
  };
  t.deepEqual([lock.version, lock.packages['']?.version], ['7.8.9', '7.8.9']);
  for (const shim of ['bin/weft-cni', 'bin/weft-netavark']) t.regex(clone.read(shim), /^version=7\.8\.9$/m);
  t.regex(
    clone.read('CHANGELOG.md'),
    /^## \[Unreleased\]\n\n## \[7\.8\.9\] - \d{4}-\d\d-\d\d\n\n### Added\n\n- Something\.\n/m,
  );
});

test('what is no release is refused, and nothing is changed', async (t) => {
  const clone = await Clone.make(t);
  const refused = async (version: string, words: RegExp): Promise<void> => {
    const before = await clone.git('rev-parse', 'HEAD');
    const { code, stderr } = await clone.release(version);
    t.is(code, 1);
    t.regex(stderr, words);
    t.is(await clone.git('rev-parse', 'HEAD'), before);
  };
  await refused('seven', /"seven" is no version/);
  await refused('', /"" is no version/);
  clone.write('new', '');
  await refused('7.8.9', /not committed/);
  await clone.commit();
  t.is((await clone.release('7.8.9')).code, 0);
  await refused('7.8.9', /v7\.8\.9 is there already/);
  await refused('7.8.10', /nothing below \[Unreleased\]/);
  clone.write('CHANGELOG.md', CHANGES);
  await clone.commit();
  await refused('7.8.8', /7\.8\.8 is before 7\.8\.9/);
});
