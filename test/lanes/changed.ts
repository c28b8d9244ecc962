// What a change needs to be tested by: changed paths, mapped to lanes and test files.
//
// In the lanes of the parts that is every test file that imports what changed, at any distance. Whole programs import
// everything, so there a table of folders chooses the lane.
import { dirname, join, normalize } from 'node:path';

import { laneOf, USUAL_LANES, type Lane, type LaneName } from './table.js';

export interface Choice {
  lane: Lane;
  /** Test files; undefined: all of the lane. */
  files?: readonly string[];
}

/** Lanes of the parts: their tests import what they test. */
const BY_IMPORT: readonly LaneName[] = ['unit', 'fuzz', 'tools', 'store', 'kernel'];

const BY_FOLDER: readonly { path: RegExp; lanes: readonly LaneName[] }[] = [
  { path: /^(core|proto|daemon|bin|programs|bundle)\//, lanes: ['cluster'] },
  { path: /^store\//, lanes: ['cluster', 'faults'] },
  { path: /^agent\//, lanes: ['cluster', 'faults'] },
  { path: /^agent\/kernel\//, lanes: ['vm'] },
  { path: /^agent\/pipework\//, lanes: ['vm'] },
  { path: /^core\/drivers\//, lanes: ['vm'] },
  { path: /^(controller|cli)\//, lanes: ['cluster'] },
  { path: /^(web|daemon\/page|proto)\//, lanes: ['browser'] },
  { path: /^scripts\/chromium\.sh$/, lanes: ['browser'] },
  { path: /^plugin\/cnm\//, lanes: ['docker'] },
  { path: /^plugin\/cni\//, lanes: ['cni', 'cnitool', 'crictl', 'cluster'] },
  { path: /^bin\/weft-cni$/, lanes: ['cni', 'cnitool', 'crictl'] },
  { path: /^(plugin\/netavark\/|bin\/weft-netavark$)/, lanes: ['podman', 'cluster'] },
  { path: /^(deploy|cli\/setup)\//, lanes: ['cluster', 'vm'] },
  { path: /^(Dockerfile|docker-compose\.yml|\.dockerignore)$/, lanes: ['docker'] },
  { path: /^scripts\/vm-kernel\.sh$/, lanes: ['vm'] },
  {
    path: /^(package(-lock)?\.json|tsconfig\.json)$/,
    lanes: ['unit', 'fuzz', 'tools', 'store', 'kernel', 'cluster'],
  },
];

/** Imports of each source file, by path from the checkout; `text` of every file that there is. */
export function importsOf(sources: ReadonlyMap<string, string>): Map<string, string[]> {
  const imports = new Map<string, string[]>();
  for (const [file, text] of sources) {
    const found = [...text.matchAll(/\b(?:from|import)\s*\(?\s*'(\.[^']*)'/g)].map(([, to = '']) =>
      normalize(join(dirname(file), to)).replace(/\.js$/, '.ts'),
    );
    // What starts the program depends on its mains; here they are only words.
    if (/\bbin\/weft\b/.test(text) && !file.startsWith('test/lanes/')) found.push(...MAINS);
    imports.set(file, found);
  }
  return imports;
}

const MAINS = ['programs/agent.ts', 'programs/controller.ts', 'programs/cli.ts'];

/** Files that import any of these, at any distance, and these. */
export function reaching(
  changed: readonly string[],
  imports: ReadonlyMap<string, readonly string[]>,
): Set<string> {
  const importers = new Map<string, string[]>();
  for (const [from, all] of imports)
    for (const to of all) importers.set(to, [...(importers.get(to) ?? []), from]);
  const found = new Set(changed);
  for (const file of found) for (const importer of importers.get(file) ?? []) found.add(importer);
  return found;
}

/** @param testFiles all that there are */
export function choose(
  changed: readonly string[],
  testFiles: readonly string[],
  imports: ReadonlyMap<string, readonly string[]>,
): Choice[] {
  if (changed.length === 0) return [];
  const whole = new Set<LaneName>(['check']);
  for (const { path, lanes } of BY_FOLDER)
    if (changed.some((file) => path.test(file))) for (const lane of lanes) whole.add(lane);
  const reached = reaching(changed, imports);
  // Of whole programs only what the tests' own helpers reach.
  const reachedByTests = reaching(
    changed.filter((file) => file.startsWith('test/')),
    imports,
  );
  return USUAL_LANES.filter(({ node }) => node === undefined).flatMap((lane): Choice[] => {
    if (whole.has(lane.name as LaneName)) return [{ lane }];
    if (lane.name === 'crowds' && whole.has('faults')) return [{ lane }];
    const which = BY_IMPORT.includes(lane.name as LaneName) ? reached : reachedByTests;
    const files = testFiles.filter((file) => which.has(file) && laneOf(file) === lane);
    return files.length > 0 ? [{ lane, files }] : [];
  });
}
