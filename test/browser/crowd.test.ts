// The page of 1,000 nodes and 50,000 endpoints that come and go: how soon it shows something, how it scrolls, what it keeps.
//
// Times are compared with those of a small cluster on the same machine. The long form, by hand, is ten minutes of changes:
// WEFT_UI_CHURN=600 npx ava test/browser/crowd.test.ts
import { spawn, type ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

import test from 'ava';
import type { Browser, CDPSession } from 'playwright-core';

import { shareAmongTests } from '../lab/fresh.js';
import { CHECKOUT, WEFT } from '../lab/lab.js';
import { findings, launch, open, type Opened } from './chromium.js';
import { sample } from './sample.js';
import { StandIn } from './stand-in.js';

const CHURN_S = Number(process.env['WEFT_UI_CHURN'] ?? 10);
const FRAMES = 60;

let browser: Browser;
let processes: ChildProcess[] = [];
let url: string;
let crowd: Opened;
let cdp: CDPSession;

/** Starts a program; settles with the first line that it prints. */
async function start(program: string, ...args: string[]): Promise<string> {
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  processes.push(child);
  let text = '';
  for await (const part of child.stdout) {
    text += String(part);
    if (text.includes('\n')) break;
  }
  return text.split('\n')[0] ?? '';
}

async function setUp(): Promise<void> {
  const controller = await start(process.execPath, join(CHECKOUT, 'build/test/browser/crowd.js'));
  url = await start(WEFT, 'ui', '--no-open', '--insecure', '--controller', controller);
  browser = await launch();
  crowd = await open(browser, url);
  cdp = await crowd.context.newCDPSession(crowd.page);
  await cdp.send('Performance.enable');
}

shareAmongTests(test, setUp, async () => {
  await browser?.close();
  for (const child of processes) child.kill();
  processes = [];
});

const COUNT = /^(49\d{3}|50\d{3})$/;

/** Milliseconds from the request for the page to its first view; the best of some. */
async function firstView(known: Opened, address: string): Promise<number> {
  const times: number[] = [];
  for (let i = 0; i < 4; i++) {
    const { page, context } = await open(browser, new URL('/#/problems', address).href, { known });
    await page.locator('.problems').waitFor();
    times.push(await page.evaluate<number>('performance.now()'));
    await context.close();
  }
  return Math.min(...times);
}

async function measured(name: string): Promise<number> {
  const { metrics } = await cdp.send('Performance.getMetrics');
  return metrics.find((metric) => metric.name === name)?.value ?? Number.NaN;
}

/** In MB, of what is in use. */
async function heap(): Promise<number> {
  await cdp.send('HeapProfiler.collectGarbage');
  return (await measured('JSHeapUsedSize')) / 1e6;
}

const show = (path: string): Promise<unknown> => crowd.page.goto(`${new URL(url).origin}/#/${path}`);

test.serial('what is wrong is there nearly as soon as in a small cluster', async (t) => {
  const controller = await StandIn.start(sample());
  const server = await controller.page();
  t.teardown(async () => {
    await server.stop();
    await controller.stop();
  });
  const few = await open(browser, server.url);
  const small = await firstView(few, server.url);
  const large = await firstView(crowd, url);
  t.log(`first view of ten nodes after ${small.toFixed()} ms, of a thousand after ${large.toFixed()} ms`);
  t.true(large <= 2 * small + 500);
});

test.serial('matrix, topology and addresses scroll within the time of a frame', async (t) => {
  const { page } = crowd;
  await page.locator('.figures dd').getByText(COUNT).waitFor();
  for (const view of ['paths/all', 'topology', 'addresses']) {
    await show(view);
    await page.locator('main svg').first().waitFor();
    const works: number[] = [];
    for (let round = 0; round < 4; round++) {
      const before = await measured('TaskDuration');
      await page.evaluate(
        `new Promise((done) => {
          const box = document.querySelector('.matrix, .scroll') ?? document.scrollingElement;
          let frames = 0;
          const step = () => {
            box.scrollTop += 20;
            box.scrollLeft += 5;
            if (++frames < ${FRAMES}) requestAnimationFrame(step);
            else done();
          };
          requestAnimationFrame(step);
        })`,
      );
      works.push((((await measured('TaskDuration')) - before) * 1000) / FRAMES);
    }
    const work = Math.min(...works);
    t.log(`${view}: ${work.toFixed(1)} ms of work a frame`);
    t.true(work < 1000 / 60, `${view}: ${work} ms`);
    t.deepEqual(await findings(page), [], view);
  }
});

test.serial('it finds one of 50,000', async (t) => {
  const { page } = crowd;
  const search = page.getByRole('searchbox');
  await search.fill('c7-777');
  await page.locator('.found a', { hasText: 'c7-777.net-7' }).click();
  await page.locator('h1', { hasText: 'c7-777.net-7' }).waitFor();
  t.pass();
});

test.serial('what comes and goes leaves nothing behind', async (t) => {
  await show('problems');
  await crowd.page.locator('.figures dd').getByText(COUNT).waitFor();
  const before = await heap();
  const end = Date.now() + CHURN_S * 1000;
  while (Date.now() < end)
    for (const view of ['paths/all', 'topology', 'addresses', 'traffic', 'problems']) {
      await show(view);
      await delay(Math.min(2000, CHURN_S * 100));
    }
  await show('problems');
  await crowd.page.locator('.figures dd').getByText(COUNT).waitFor();
  const after = await heap();
  t.log(`${before.toFixed(1)} MB, and after ${CHURN_S} s of changes ${after.toFixed(1)} MB`);
  t.true(after < before * 1.2 + 5);
  t.deepEqual(crowd.faults, []);
});
