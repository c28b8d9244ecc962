// The page of web/: one script and one style, as browsers load them.
import { copyFileSync } from 'node:fs';
import { join } from 'node:path';

import { build, type Metafile } from 'esbuild';

/** @param folder where index.html, icon.svg, page.js and style.css are written */
export async function bundlePage(root: string, folder: string): Promise<Metafile> {
  const { metafile } = await build({
    absWorkingDir: root,
    entryPoints: { page: 'web/main.tsx', style: 'web/style.css' },
    outdir: folder,
    bundle: true,
    minify: true,
    format: 'iife',
    platform: 'browser',
    target: 'es2022',
    jsx: 'automatic',
    jsxImportSource: 'preact',
    tsconfig: join(root, 'web/tsconfig.json'),
    legalComments: 'none',
    logLevel: 'warning',
    metafile: true,
  });
  for (const name of ['index.html', 'icon.svg']) copyFileSync(join(root, 'web', name), join(folder, name));
  return metafile;
}
