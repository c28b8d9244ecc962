// The bill of materials, in CycloneDX's format: what is really in the executable, no more.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import type { Package } from '../bundle.js';
import { NODE_VERSION, type Target } from './target.js';

interface Locked {
  packages: Record<string, { integrity?: string } | undefined>;
}

/** @param packages libraries in it @param date RFC 3339 */
export function billOfMaterials(
  {
    root,
    targets,
    version,
    date,
  }: { root: string; targets: readonly Target[]; version: string; date: string },
  packages: readonly Package[],
): string {
  const { packages: locked } = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')) as Locked;
  const node = {
    ...{ type: 'platform', name: 'node', version: NODE_VERSION, purl: `pkg:generic/node@${NODE_VERSION}` },
    licenses: [{ license: { id: 'MIT' } }],
    properties: targets.map(({ arch, sha256 }) => ({ name: `weft:sha256:linux-${arch}`, value: sha256 })),
  };
  const components = packages.map(({ name, version: its, license, folder }) => {
    const integrity = locked[folder.slice(root.length + 1)]?.integrity?.replace(/^sha512-/, '');
    return {
      ...{ type: 'library', name, version: its, purl: `pkg:npm/${name.replace('@', '%40')}@${its}` },
      licenses: [{ expression: license }],
      ...(integrity !== undefined && {
        hashes: [{ alg: 'SHA-512', content: Buffer.from(integrity, 'base64').toString('hex') }],
      }),
    };
  });
  const application = {
    type: 'application',
    name: 'weft',
    version,
    licenses: [{ license: { id: 'Apache-2.0' } }],
  };
  const bill = {
    ...{ bomFormat: 'CycloneDX', specVersion: '1.5', version: 1 },
    metadata: { timestamp: date, component: application },
    components: [node, ...components],
  };
  return `${JSON.stringify(bill, undefined, 2)}\n`;
}
