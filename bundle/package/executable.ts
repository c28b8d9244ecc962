// The single executable: Node.js with the launcher, the bundles, their code caches and the native parts inside.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmodSync, copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { build } from 'esbuild';

import { OWN_FILES } from '../../daemon/version.js';
import { bundle, packagesIn, PROGRAMS, type Package } from '../bundle.js';
import { bundlePage } from '../page.js';
import { checkNode, nativeFiles, NODE_VERSION, TARGETS, type Target } from './target.js';

/** Node.js looks for the resource by this name, and for this word with :1 behind it. */
const RESOURCE = 'NODE_SEA_BLOB';
const FUSE = 'NODE_SEA_FUSE_fce680ab2cc467b6e072b8b5df1996b2';

/**
 * Makes the bundles, that of the pump, too, and records the code caches with the Node.js of the packages.
 * @returns the libraries in them
 */
export async function prepareBundles(root: string, folder: string): Promise<Package[]> {
  mkdirSync(folder, { recursive: true });
  const made = await bundle(root, folder, [...PROGRAMS, 'pump']);
  const own = TARGETS.find(({ arch }) => arch === process.arch);
  if (own === undefined) throw new Error(`packages are not made on ${process.arch}`);
  const module = join(root, 'build/bundle/cache.js');
  const script = `const { recordAll } = await import(${JSON.stringify(module)}); await recordAll(${JSON.stringify(folder)});`;
  execFileSync(checkNode(root, own), ['--input-type=module', '--eval', script], { stdio: 'inherit' });
  const page = await bundlePage(root, join(root, 'build/page'));
  const outputs = { ...made.outputs, ...page.outputs };
  return packagesIn(root, { ...made, outputs }, ['koffi']);
}

/** @param folder of `prepareBundles` @returns its path, in the same folder */
export async function makeExecutable(root: string, folder: string, target: Target): Promise<string> {
  const isOwn = target.arch === process.arch;
  const node = checkNode(root, target);
  const natives = nativeFiles(root, target);
  const assets: Record<string, string> = {
    ...natives,
    ...Object.fromEntries(OWN_FILES.map((path) => [path, join(root, path)])),
    ...Object.fromEntries(
      [...PROGRAMS, 'pump'].map((program) => [`${program}.cjs`, join(folder, `${program}.cjs`)]),
    ),
    // V8 takes a code cache from the same binary alone.
    ...(isOwn &&
      Object.fromEntries(PROGRAMS.map((program) => [`${program}.cache`, cacheIn(folder, program)]))),
  };
  const launcher = join(folder, `launcher-${target.arch}.cjs`);
  await build({
    absWorkingDir: root,
    entryPoints: ['build/bundle/package/launcher.js'],
    outfile: launcher,
    ...{
      bundle: true,
      platform: 'node',
      target: 'node24',
      format: 'cjs',
      minifyWhitespace: true,
      lineLimit: 160,
    },
    define: {
      ASSETS: JSON.stringify(Object.keys(assets)),
      NATIVE_HASH: JSON.stringify(hashOf(Object.values(natives))),
    },
    logLevel: 'warning',
  });
  const config = join(folder, `sea-${target.arch}.json`);
  const blob = join(folder, `sea-${target.arch}.blob`);
  const settings = {
    ...{ main: launcher, output: blob, assets, disableExperimentalSEAWarning: true, useCodeCache: isOwn },
    // NODE_OPTIONS of a shell is for other programs; the pump gets its options by --node-options.
    execArgvExtension: 'cli',
  };
  writeFileSync(config, JSON.stringify(settings));
  const maker = TARGETS.find(({ arch }) => arch === process.arch) ?? target;
  execFileSync(checkNode(root, maker), ['--experimental-sea-config', config], { stdio: 'pipe' });

  const path = join(folder, `weft-linux-${target.arch}`);
  copyFileSync(node, path);
  chmodSync(path, 0o755);
  // A seventh of it is names for debuggers. The strip of one machine knows no binaries of others.
  if (isOwn) execFileSync('strip', [path]);
  execFileSync(process.execPath, [
    join(root, 'node_modules/postject/dist/cli.js'),
    ...[path, RESOURCE, blob, '--sentinel-fuse', FUSE],
  ]);
  return path;
}

function cacheIn(folder: string, program: string): string {
  const path = join(folder, `${program}.v${NODE_VERSION}.cache`);
  if (!existsSync(path)) throw new Error(`${path}: no code cache was recorded`);
  return path;
}

function hashOf(paths: readonly string[]): string {
  const hash = createHash('sha256');
  for (const path of paths) hash.update(readFileSync(path));
  return hash.digest('hex');
}
