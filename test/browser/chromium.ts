// Debian's Chromium, driven by playwright-core, and what the tests look for in a page.
import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import axe from 'axe-core';
import type { ExecutionContext } from 'ava';
import { chromium, type Browser, type BrowserContext, type Page } from 'playwright-core';

import { slowness } from '../lab/wait.js';

const PROGRAM = '/usr/bin/chromium';
/** Root has no sandbox. */
const FLAGS = ['--no-sandbox', '--disable-dev-shm-usage'];

export const LOOKS = ['light', 'dark'] as const;
export type Look = (typeof LOOKS)[number];
/** Widths of windows: of a desktop, and the narrowest that the page is made for. */
export const [WIDE, NARROW] = [1200, 400];

/** @param inside a namespace, as words to start a program there; with a folder for the program that does so */
export async function launch(inside?: { argv: readonly string[]; folder: string }): Promise<Browser> {
  let executablePath = PROGRAM;
  if (inside !== undefined) {
    executablePath = join(inside.folder, 'chromium');
    const words = inside.argv.map((word) => `'${word.replaceAll("'", `'\\''`)}'`).join(' ');
    writeFileSync(executablePath, `#!/bin/sh\nexec ${words} ${PROGRAM} "$@"\n`);
    chmodSync(executablePath, 0o755);
  }
  return await chromium.launch({ executablePath, args: FLAGS, timeout: 30_000 * slowness });
}

/** A page whose faults are kept: what it throws, what its console says, and what it loads from elsewhere. */
export interface Opened {
  page: Page;
  context: BrowserContext;
  faults: string[];
}

export interface Visit {
  width?: number;
  height?: number;
  look?: Look;
  /** Whose cookies it has: a link counts once. */
  known?: Opened;
  /** Files of the person's certificate. The server's is of a CA that the browser does not know. */
  certificate?: { cert: string; key: string };
}

export async function open(
  browser: Browser,
  url: string,
  { width = WIDE, height = 900, look = 'light', known, certificate }: Visit = {},
): Promise<Opened> {
  const own = new URL(url).origin;
  const context = await browser.newContext({
    viewport: { width, height },
    colorScheme: look,
    ...(known !== undefined && { storageState: await known.context.storageState() }),
    ...(certificate !== undefined && {
      ignoreHTTPSErrors: true,
      clientCertificates: [{ origin: own, certPath: certificate.cert, keyPath: certificate.key }],
    }),
  });
  context.setDefaultTimeout(30_000 * slowness);
  const page = await context.newPage();
  const faults: string[] = [];
  page.on('pageerror', (error) => faults.push(error.message));
  page.on('console', (message) => {
    if (message.type() === 'error') faults.push(`${message.text()} ${message.location().url}`);
  });
  page.on('request', (request) => {
    if (new URL(request.url()).origin !== own) faults.push(`it asks for ${request.url()}`);
  });
  await page.goto(url);
  return { page, context, faults };
}

/** What axe-core finds, as lines. */
export async function findings(page: Page): Promise<string[]> {
  await page.evaluate(axe.source);
  const { violations } = await page.evaluate<{
    violations: { id: string; help: string; nodes: { html: string; failureSummary: string }[] }[];
  }>('axe.run(document, { resultTypes: ["violations"] })');
  return violations.flatMap(({ id, help, nodes }) =>
    nodes.map(({ html, failureSummary }) => `${id}: ${help}: ${html}\n${failureSummary}`),
  );
}

/** Whether the page is wider than its window: what is wide scrolls in its own box. */
export const isTooWide = (page: Page): Promise<boolean> =>
  page.evaluate<boolean>('document.documentElement.scrollWidth > innerWidth');

/** Axe, the width, and that nothing failed. */
export async function isSound(t: ExecutionContext, { page, faults }: Opened, where: string): Promise<void> {
  t.deepEqual(await findings(page), [], where);
  t.false(await isTooWide(page), `${where} is wider than its window`);
  t.deepEqual(faults, [], where);
}
