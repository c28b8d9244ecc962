// The page in a real browser, with a controller that is a stand-in: every view in both looks and widths, the keyboard, names
// that attack, and what is said when something is away.
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';

import test, { type ExecutionContext } from 'ava';
import type { Browser } from 'playwright-core';

import { permissionDenied } from '../../core/errors.js';
import type { PageServer } from '../../daemon/page/index.js';
import { EventType } from '../../proto/gen/weft/v1/controller.js';
import { Event } from '../../proto/gen/weft/v1/events.js';
import { Endpoint, Node } from '../../proto/gen/weft/v1/types.js';
import { TestCa } from '../daemon/certificates.js';
import { temporaryFolder } from '../lab/temporary-folder.js';
import { isSound, launch, LOOKS, NARROW, open, WIDE, type Opened } from './chromium.js';
import { sample } from './sample.js';
import { StandIn, type State } from './stand-in.js';

let browser: Browser;
test.before(async () => {
  browser = await launch();
});
test.after.always(() => browser?.close());

interface Served {
  state: State;
  controller: StandIn;
  server: PageServer;
}

async function serve(t: ExecutionContext, state = sample()): Promise<Served> {
  const controller = await StandIn.start(state);
  const server = await controller.page();
  t.teardown(async () => {
    await server.stop();
    await controller.stop();
  });
  return { state, controller, server };
}

async function visit(t: ExecutionContext, server: PageServer, path = '', width = WIDE): Promise<Opened> {
  const opened = await open(browser, server.url, { width });
  t.teardown(() => opened.context.close());
  await show(opened, path);
  return opened;
}

/** Another view of an open page. */
async function show({ page }: Opened, path: string): Promise<void> {
  await page.goto(`${new URL(page.url()).origin}/#/${path}`);
  await page.locator('main h1').first().waitFor();
}

const VIEWS = [
  'problems',
  'paths/blue',
  'topology/edge-1',
  'addresses',
  'traffic',
  'endpoint/ID',
  'trace/api-40',
];

for (const look of LOOKS)
  for (const width of [WIDE, NARROW])
    test.serial(`every view is sound: ${look}, ${width} pixels`, async (t) => {
      const { server, state } = await serve(t);
      const first = await visit(t, server);
      for (const view of VIEWS) {
        const path = view.replace('ID', state.endpoints.find(({ name }) => name === 'db-20')?.id ?? '');
        const known = first;
        const opened = await open(browser, new URL(`/#/${path}`, server.url).href, { width, look, known });
        const { page } = opened;
        await page.locator('main h1').first().waitFor();
        if (view.startsWith('paths')) await page.locator('table button').first().click();
        if (view.startsWith('endpoint')) await page.getByText('12 packets').waitFor();
        if (view.startsWith('addresses')) {
          await page.getByRole('button', { name: 'Check all addresses' }).click();
          await page.getByText('its container is gone').waitFor();
          await page.locator('summary').first().click();
        }
        if (view.startsWith('trace')) {
          await page.getByRole('textbox', { name: 'To' }).fill('db-30');
          await page.getByRole('button', { name: 'Trace', exact: true }).click();
          await page.getByText('not seen').first().waitFor();
        }
        await isSound(t, opened, view);
        await opened.context.close();
      }
    });

test.serial('the first view says what is wrong, causes first, each with its fix to copy', async (t) => {
  const { server } = await serve(t);
  const { page, context } = await visit(t, server);
  await context.grantPermissions(['clipboard-read', 'clipboard-write']);
  const heads = page.locator('.problems h3');
  await heads.first().waitFor();
  t.regex((await heads.first().textContent()) ?? '', /^node db-2: its firewall drops VXLAN.*root cause$/);
  t.is(await heads.count(), 2);
  await page.getByRole('button', { name: 'Copy weft node rm batch-2' }).click();
  await page.getByText('Copied').waitFor();
  t.is(await page.evaluate<string>('navigator.clipboard.readText()'), 'weft node rm batch-2');
  t.is(await page.title(), '(2) weft');
});

test.serial('it works from the keyboard', async (t) => {
  const { server } = await serve(t);
  const { page } = await visit(t, server, 'paths/blue');
  await page.locator('.matrix').waitFor();
  await page.keyboard.press('Tab');
  t.is(await page.evaluate<string>('document.activeElement.textContent'), 'To the content');
  await page.keyboard.press('Enter');
  t.is(await page.evaluate<string>('document.activeElement.id'), 'main');
  await page.keyboard.press('Tab');
  await page.keyboard.press('Tab');
  for (const key of ['ArrowRight', 'ArrowDown', 'ArrowRight', 'ArrowRight']) await page.keyboard.press(key);
  await page.locator('.chosen h2', { hasText: 'batch-2 to cache-1' }).waitFor();
  await page.keyboard.press('Tab');
  await page.keyboard.press('Enter');
  await page.getByText('0.42 ms').waitFor();
  const search = page.getByRole('searchbox');
  await search.focus();
  await page.keyboard.type('10.100.46.2');
  await page.locator('.found a', { hasText: 'db-20.blue' }).waitFor();
  await page.keyboard.press('Tab');
  await page.keyboard.press('Enter');
  await page.locator('h1', { hasText: 'db-20.blue' }).waitFor();
  t.is(await search.inputValue(), '');
});

test.serial('search finds names, addresses, MAC addresses and containers', async (t) => {
  const { server } = await serve(t);
  const { page } = await visit(t, server);
  for (const [text, found] of [
    ['edge-2', 'edge-2'],
    ['10.100.46.2', 'db-20.blue'],
    ['02:42:0a:64:02:00', 'db-20.blue'],
    ['docker:db-20', 'db-20.blue'],
    ['red', 'red'],
  ] as const) {
    await page.getByRole('searchbox').fill(text);
    await page.locator('.found a', { hasText: found }).first().waitFor();
  }
  await page.getByRole('searchbox').fill('no such thing');
  await page.getByText('Nothing is called so.').waitFor();
  t.pass();
});

const HOSTILE = [
  '<img src=x onerror=alert(1)>',
  '\u202egnp.exe\u202c',
  `${'x'.repeat(62)}"`,
  "'); alert(1); ('",
  '$(reboot)',
];

test.serial('a hostile name is text, wherever it is', async (t) => {
  for (const name of HOSTILE) {
    const state = sample();
    const endpoint = Endpoint.fromPartial({
      ...{
        id: name,
        name,
        network: name,
        node: name,
        target: `docker:${name}`,
        ifname: name,
        hostIfname: name,
      },
      ...{
        mac: name,
        ip: name,
        aliases: [name],
        labels: { [name]: name },
        manager: name,
        allowedAddresses: [name],
      },
      publish: [{ hostIp: name, hostPort: 1, port: 2, protocol: name }],
    });
    const problem = { what: name, why: name, fix: name, consequences: [name], broken: [], isCause: true };
    state.endpoints.push(endpoint);
    state.nodes.push(
      Node.fromPartial({
        ...{ name, publicIp: name, state: 'up', version: name, networks: ['blue', name], why: name },
        problems: [{ ...problem, broken: [{ node: 'db-1', network: 'blue', family: 4 }] }],
      }),
    );
    const [network] = state.networks;
    if (network !== undefined) state.networks.push({ ...network, name });
    Object.assign(state.status, { problems: [problem], warnings: [problem] });
    state.policies.push({ name, from: [name], to: ['any'], ports: [name], createdAt: '', pending: [] });
    const event = { type: 'warning', node: name, reason: name, object: name, message: name };
    state.events = [Event.fromPartial({ time: new Date().toISOString(), ...event })];
    Object.assign(state.trace, {
      node: name,
      reason: name,
      why: name,
      fix: name,
      source: name,
      destination: name,
    });
    state.trace.back = [{ node: name, point: name, seen: true, detail: name }];
    for (const finding of state.findings) Object.assign(finding, { id: name, address: name, why: name });

    const { server } = await serve(t, state);
    const opened = await visit(t, server, '', NARROW);
    const { page, faults } = opened;
    page.on('dialog', (dialog) => {
      faults.push(`a dialog: ${dialog.message()}`);
      void dialog.dismiss();
    });
    const written = encodeURIComponent(name);
    const places = ['problems', `paths/blue`, `paths/${written}`, `topology/${written}`, 'addresses'];
    for (const view of [...places, `endpoint/${written}`, `trace/${written}`]) {
      await show(opened, view);
      if (view === 'addresses') {
        await page.getByRole('button', { name: 'Check all addresses' }).click();
        await page.locator('section li').first().waitFor();
      }
      if (view.startsWith('trace')) {
        await page.getByRole('textbox', { name: 'To' }).fill(name);
        await page.getByRole('button', { name: 'Trace', exact: true }).click();
        await page.locator('.hops').first().waitFor();
      }
      t.is(await page.locator('img').count(), 0, `${name} on ${view}`);
      t.false((await page.locator('body').innerText()).includes('\u202e'), `${name} on ${view}`);
      await isSound(t, opened, `${name} on ${view}`);
    }
    await page.getByRole('searchbox').fill(name.slice(0, 8));
    await page.locator('.found a').first().waitFor();
    await isSound(t, opened, `${name} found`);
  }
});

test.serial('what changes in the cluster changes on the page', async (t) => {
  const { server, controller, state } = await serve(t);
  const opened = await visit(t, server, 'topology');
  const { page } = opened;
  await page.getByText('10 nodes').waitFor();
  const node = Node.fromPartial({ name: 'new-1', state: 'up', networks: ['blue'] });
  controller.tell('node', node);
  await page.getByText('11 nodes').waitFor();
  controller.tell('node', node, EventType.DELETE);
  await page.getByText('10 nodes').waitFor();
  await show(opened, 'problems');
  const event = { time: new Date().toISOString(), type: 'normal', node: 'db-1', message: 'a late event' };
  controller.tellEvent(Event.fromPartial(event));
  await page.getByText('a late event').waitFor();
  state.status = { ...state.status, health: 'ok', problems: [] };
  await page.getByText('Nothing is wrong.').waitFor();
  t.pass();
});

test.serial('a view that is asked for while the first one is drawn is shown', async (t) => {
  const { server } = await serve(t);
  const context = await browser.newContext();
  t.teardown(() => context.close());
  const page = await context.newPage();
  await page.addInitScript(`new MutationObserver((_, observer) => {
    if (document.querySelector('main h1') === null) return;
    observer.disconnect();
    location.hash = '#/topology';
  }).observe(document, { childList: true, subtree: true })`);
  await page.goto(server.url);
  await page.getByText('10 nodes').waitFor();
  t.pass();
});

test.serial('what is not live says since when, and is live again by itself', async (t) => {
  const { server, controller, state } = await serve(t);
  const opened = await visit(t, server);
  const { page } = opened;
  await page.locator('.problems').waitFor();
  await controller.stop();
  await page.getByText(/^As of \d\d:\d\d:\d\d: this is not live\.$/).waitFor();
  await page.getByText('not live', { exact: true }).waitFor();
  // What was known stays.
  t.true(await page.locator('.problems').isVisible());
  const again = await StandIn.start(state, controller.address);
  t.teardown(() => again.stop());
  await page.locator('.as-of').waitFor({ state: 'detached' });
  await server.stop();
  await page.getByText('the page has lost its connection').waitFor();
  t.pass();
});

test.serial('with a certificate it is live, and says what its person may not', async (t) => {
  const authority = new TestCa();
  t.teardown(() => authority.remove());
  const [own, person] = [authority.issue('controller'), authority.issue('person')];
  const controller = await StandIn.start(sample());
  const server = await controller.page({
    tls: { ca: readFileSync(authority.ca), cert: readFileSync(own.cert), key: readFileSync(own.key) },
    names: ['localhost'],
    rightOf: (socket) => (method) => {
      if (method !== 'TraceService/Trace') return;
      const { CN: name } = socket.getPeerCertificate().subject;
      throw permissionDenied(`${String(name)} may not trace`, 'Ask an operator.');
    },
  });
  t.teardown(async () => {
    await server.stop();
    await controller.stop();
  });
  const opened = await open(browser, server.url, { certificate: person });
  t.teardown(() => opened.context.close());
  const { page } = opened;
  await page.locator('.problems').waitFor();
  await show(opened, 'topology');
  await page.getByText('10 nodes').waitFor();
  controller.tell('node', Node.fromPartial({ name: 'new-1', state: 'up', networks: ['blue'] }));
  await page.getByText('11 nodes').waitFor();
  await isSound(t, opened, 'topology');
  await show(opened, 'trace/api-40');
  await page.getByRole('textbox', { name: 'To' }).fill('db-30');
  await page.getByRole('button', { name: 'Trace', exact: true }).click();
  await page.locator('.failure', { hasText: 'person may not trace' }).waitFor();
  const stranger = await browser.newContext({ ignoreHTTPSErrors: true });
  t.teardown(() => stranger.close());
  await t.throwsAsync((await stranger.newPage()).goto(server.url));
});

test.serial('an empty cluster says so', async (t) => {
  const state = {
    ...sample(),
    nodes: [],
    networks: [],
    endpoints: [],
    events: [],
    policies: [],
    findings: [],
  };
  state.status = { ...state.status, health: 'ok', problems: [], warnings: [], networks: [] };
  const { server } = await serve(t, { ...state, traffic: () => [] });
  const opened = await visit(t, server);
  for (const [view, text] of [
    ['problems', 'Nothing is wrong.'],
    ['paths', 'No node is in a network yet'],
    ['topology', '0 nodes'],
    ['addresses', 'There are no networks yet'],
    ['traffic', 'The first figures come'],
    ['endpoint/nobody', 'There is no such endpoint'],
  ] as const) {
    await opened.page.goto(`${new URL(opened.page.url()).origin}/#/${view}`);
    await opened.page.getByText(text).waitFor();
    await isSound(t, opened, view);
  }
});

test.serial('another page reads nothing, and a file may lead to the link', async (t) => {
  const { server, controller } = await serve(t);
  const file = join(temporaryFolder(t, 'weft-ui-test-'), 'open.html');
  writeFileSync(file, `<!doctype html><meta http-equiv="refresh" content="0;url=${server.url}">`);
  const context = await browser.newContext();
  t.teardown(() => context.close());
  const page = await context.newPage();
  await page.goto(`file://${file}`);
  await page.locator('.figures').waitFor();
  // With the page's cookie, which is one of the whole host.
  const foreign = createServer((_request, response) => response.end('<!doctype html><title>other</title>'));
  await new Promise<void>((resolve) => foreign.listen(0, '127.0.0.1', resolve));
  t.teardown(() => foreign.close());
  const other = await context.newPage();
  await other.goto(`http://127.0.0.1:${(foreign.address() as AddressInfo).port}/`);
  const { origin } = new URL(server.url);
  const before = controller.asked;
  for (const [path, options] of [
    ['/api/live', {}],
    ['/api/live', { mode: 'no-cors' }],
    ['/api/policies', { method: 'POST', body: '{}' }],
    ['/api/policies', { method: 'POST', body: '{}', mode: 'no-cors' }],
  ] as const) {
    const all = JSON.stringify({ ...options, credentials: 'include' });
    const read = await other.evaluate<string>(
      `fetch('${origin}${path}', ${all}).then((answer) => answer.text(), () => '')`,
    );
    t.is(read, '', path);
  }
  t.is(controller.asked, before);
});
