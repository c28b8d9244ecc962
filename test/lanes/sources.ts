// Files of the checkout: tests, sources, and what differs from another commit.
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const FOLDERS = [
  'agent',
  'bundle',
  'cli',
  'cloud',
  'controller',
  'core',
  'daemon',
  'plugin',
  'programs',
  'proto',
  'store',
  'test',
  'web',
];

/** Every test file, as a path from the checkout. */
export const testFiles = (checkout: string): string[] =>
  filesIn(checkout, 'test').filter((file) => file.endsWith('.test.ts') && !file.includes('/fixtures/'));

/** The text of every source file, by its path from the checkout. */
export const sourceFiles = (checkout: string): Map<string, string> =>
  new Map(
    FOLDERS.flatMap((folder) => filesIn(checkout, folder))
      .filter((file) => file.endsWith('.ts'))
      .map((file) => [file, readFileSync(join(checkout, file), 'utf8')]),
  );

function filesIn(checkout: string, folder: string): string[] {
  return readdirSync(join(checkout, folder), { recursive: true, encoding: 'utf8' })
    .map((file) => `${folder}/${file}`)
    .sort();
}

/**
 * What differs from where this branch left main, or on main itself from the commit before; with what is not committed.
 * @throws Error without git
 */
export function changedPaths(checkout: string): { base: string; paths: string[] } {
  const git = (...args: string[]): string => {
    const { status, stdout, stderr, error } = spawnSync('git', args, { cwd: checkout, encoding: 'utf8' });
    if (status !== 0) throw new Error(`git ${args.join(' ')}: ${error?.message ?? stderr.trim()}`);
    return stdout.trim();
  };
  const head = git('rev-parse', 'HEAD');
  const left = git('merge-base', 'HEAD', 'main');
  const base = left === head ? git('rev-parse', 'HEAD~1') : left;
  const lines = [
    git('diff', '--name-only', '--no-renames', base),
    git('ls-files', '--others', '--exclude-standard'),
  ];
  return {
    base: git('log', '-1', '--format=%h %s', base),
    paths: [...new Set(lines.flatMap((text) => text.split('\n').filter(Boolean)))],
  };
}
