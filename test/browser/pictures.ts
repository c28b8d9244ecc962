// Pictures of the views, of a cluster that is always the same: node build/test/browser/pictures.js FOLDER [--all].
//
// Those of docs/ui.md (npm run pictures) are wide and light; with --all every view is in both looks and widths.
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';

import { launch, LOOKS, NARROW, open, WIDE, type Opened } from './chromium.js';
import { sample } from './sample.js';
import { StandIn } from './stand-in.js';

const [folder = 'docs/images', all] = process.argv.slice(2);
const isAll = all === '--all';
/** In docs/ui.md. */
const SHOWN: ReadonlySet<string> = new Set(['problems', 'paths', 'addresses', 'trace']);
mkdirSync(folder, { recursive: true });

const state = sample();
const controller = await StandIn.start(state);
const server = await controller.page();
const browser = await launch();
const id = state.endpoints.find(({ name }) => name === 'db-20')?.id ?? '';
const VIEWS: Readonly<Record<string, string>> = {
  ...{
    problems: '',
    paths: 'paths/blue',
    topology: 'topology/edge-1',
    addresses: 'addresses',
    traffic: 'traffic',
  },
  ...{ endpoint: `endpoint/${id}`, trace: 'trace/api-40' },
};

/** What a person does on a view before there is something to see. */
async function use({ page }: Opened, view: string): Promise<void> {
  if (view === 'problems') await page.locator('.events li').first().waitFor();
  if (view === 'addresses') await page.locator('.strip').first().waitFor();
  if (view === 'paths') await page.locator('table button').first().click();
  if (view === 'topology') await page.locator('main h2').first().waitFor();
  if (view === 'endpoint') await page.getByText('12 packets').waitFor();
  if (view === 'traffic') await page.locator('canvas').first().waitFor({ timeout: 60_000 });
  if (view !== 'trace') return;
  await page.getByRole('textbox', { name: 'To' }).fill('db-30');
  await page.getByRole('button', { name: 'Trace', exact: true }).click();
  await page.getByText('stopped').first().waitFor();
}

try {
  const first = await open(browser, server.url);
  for (const look of isAll ? LOOKS : (['light'] as const))
    for (const width of isAll ? [WIDE, NARROW] : [WIDE])
      for (const [view, path] of Object.entries(VIEWS)) {
        if (!isAll && !SHOWN.has(view)) continue;
        const url = `${new URL(server.url).origin}/#/${path}`;
        const opened = await open(browser, url, { width, height: 700, look, known: first });
        await use(opened, view);
        const name = isAll ? `${view}-${look}-${width}` : view;
        await opened.page.screenshot({ path: join(folder, `${name}.png`), fullPage: isAll });
        if (opened.faults.length > 0) throw new Error(`${name}: ${opened.faults.join('; ')}`);
        await opened.context.close();
      }
} finally {
  await browser.close();
  await server.stop();
  await controller.stop();
}
