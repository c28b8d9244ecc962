// Makes the bundles of the programs, after tsc: `node build/bundle/main.js`, the second half of `npm run build`.
//
// Each is one file with its source map, V8's code cache, and the licences of what is in it. The plain build stays what they are
// made from; bin/weft compares its record with the copy that is made here.
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { bundle, packagesIn } from './bundle.js';
import { recordAll } from './cache.js';
import { licences } from './licences.js';
import { bundlePage } from './page.js';

const ROOT = join(dirname(fileURLToPath(import.meta.url)), '../..');
const FOLDER = join(ROOT, 'build/bundled');
const PAGE = join(ROOT, 'build/page');
const RECORD = 'tsconfig.tsbuildinfo';

// As it was before the bundler read the build: what tsc writes meanwhile makes the bundles stale.
const record = readFileSync(join(ROOT, 'build', RECORD));
rmSync(FOLDER, { recursive: true, force: true });
mkdirSync(FOLDER, { recursive: true });
const made = await bundle(ROOT, FOLDER);
const page = await bundlePage(ROOT, PAGE);
const outputs = { ...made.outputs, ...page.outputs };
writeFileSync(join(FOLDER, 'LICENSES.txt'), licences(packagesIn(ROOT, { ...made, outputs })));
await recordAll(FOLDER);
// Last: without it no bundle counts.
writeFileSync(join(FOLDER, RECORD), record);
