// What packages are made for: machines, and the Node.js that is in them.
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

import { KOFFI, netlinkPart } from './native-parts.js';

/** The newest of its line; scripts/other-nodes.sh has the same. */
export const NODE_VERSION = '24.22.3';

export interface Target {
  /** As Node.js calls it. */
  arch: 'x64' | 'arm64';
  /** As Debian calls it. */
  debian: string;
  /** Of Node.js's binary: what registries serve is not believed. */
  sha256: string;
}

export const TARGETS: readonly Target[] = [
  {
    arch: 'x64',
    debian: 'amd64',
    sha256: 'a7ec1b37e6ff9d187e4198c5b6df9a4eb1c74dd31804fb3bac55cc4ceca1ac01',
  },
  {
    arch: 'arm64',
    debian: 'arm64',
    sha256: '8f9c2a55879e9705cb285b6cdd649d95df642c6720f052cb30f300d2677da99f',
  },
];

/** Where scripts/package.sh puts what is of other machines. */
const otherArch = (root: string, arch: string): string => join(root, 'node_modules/.cache/weft-node', arch);

export const nodeFolder = (root: string, { arch }: Target): string =>
  arch === process.arch
    ? join(root, 'node_modules/.cache/weft-node/node_modules/node-24')
    : join(otherArch(root, arch), 'node');

/** @throws Error where it is not there, or not the one that was meant */
export function checkNode(root: string, target: Target): string {
  const path = join(nodeFolder(root, target), 'bin/node');
  if (!existsSync(path)) throw new Error(`${path} is not there. Run: npm run package -- ${target.arch}`);
  const hash = createHash('sha256').update(readFileSync(path)).digest('hex');
  if (hash !== target.sha256)
    throw new Error(`${path} is not Node.js ${NODE_VERSION}: its SHA-256 is ${hash}`);
  return path;
}

/** The files of the native parts, by their names as assets. */
export function nativeFiles(root: string, { arch }: Target): Record<string, string> {
  const modules = join(root, 'node_modules');
  const koffi =
    arch === process.arch
      ? join(modules, `@koromix/koffi-linux-${arch}`)
      : join(otherArch(root, arch), 'koffi');
  return {
    [KOFFI]: join(koffi, `linux_${arch}/koffi.node`),
    [netlinkPart(arch)]: join(modules, netlinkPart(arch)),
  };
}
