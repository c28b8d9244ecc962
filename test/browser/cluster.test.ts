// `weft ui` and a controller's --ui on a real cluster of three hosts with a broken path, in a real browser on one of them.
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';

import test from 'ava';
import type { Browser } from 'playwright-core';

import { INFRA, INFRA_IP, type EndpointJson } from '../lab/cluster.js';
import { shareAmongTests } from '../lab/fresh.js';
import { ethernet } from '../lab/frames.js';
import { CHECKOUT, WEFT } from '../lab/lab.js';
import type { LabProcess } from '../lab/process.js';
import { SecureCluster } from '../lab/secure-cluster.js';
import { isSound, launch, open, type Opened } from './chromium.js';

const HOSTS = ['h1', 'h2', 'h3'];
const UI = `${INFRA_IP}:7443`;

let cluster: SecureCluster;
let browser: Browser;
let ends: EndpointJson[];
/** Opened by root's link. */
let root: Opened;

async function setUp(): Promise<void> {
  cluster = await SecureCluster.create(3, 'c1', 'c2', 'c3');
  await cluster.startController(['--ui', UI]);
  await cluster.join(...HOSTS);
  const { lab } = cluster;
  await cluster.json(INFRA, ['network', 'create', 'blue', '--subnet', '10.100.0.0/16']);
  ends = [];
  for (const [index, host] of HOSTS.entries())
    ends.push(await cluster.json(host, ['attach', 'blue', lab.ns(`c${index + 1}`), '--name', `web-${host}`]));
  // The switch drops what goes from one node to another.
  await lab.lab.existing('underlay').must(['nft', '-f', '-'], {
    input: [
      'add table bridge faults',
      'add chain bridge faults drops { type filter hook forward priority 0; }',
      `add rule bridge faults drops ip saddr ${lab.ipOf('h1')} ip daddr ${lab.ipOf('h2')} udp dport 8472 drop`,
    ].join('\n'),
  });
  browser = await launch({ argv: lab.place(INFRA).inside([]), folder: lab.folder });
  root = await open(browser, await link('root', {}));
}

shareAmongTests(test, setUp, async () => {
  await browser?.close();
  await cluster?.lab.lab.down();
});

/** The link that `weft ui` prints. */
async function link(name: string, env: Record<string, string>): Promise<string> {
  const { lab } = cluster;
  const started = ui(name, env);
  return await lab.until('the link', () => /^http:\/\/\S+$/m.exec(started.log())?.[0], {
    context: () => started.tail(),
  });
}

function ui(name: string, env: Record<string, string>): LabProcess {
  const { lab } = cluster;
  const all = {
    ...{ WEFT_INSECURE: '', WEFT_CONTROLLER: '127.0.0.1:7400', WEFT_ADMIN_DIR: join(lab.folder, 'admin') },
    ...{ HOME: lab.folder, ...env },
  };
  const words = Object.entries(all).map(([key, value]) => `${key}=${value}`);
  return lab.spawn(`ui-${name}`, INFRA, ['env', ...words, WEFT, 'ui', '--no-open']);
}

/** A viewer with a certificate of their own: the folder where it is. */
async function login(name: string): Promise<{ home: string; folder: string }> {
  const { lab } = cluster;
  const home = join(lab.folder, name);
  mkdirSync(home);
  const token = await cluster.token('--role', 'viewer');
  const env = { HOME: home, WEFT_ADMIN_DIR: '/nowhere' };
  const { code, stderr } = await cluster.weft(INFRA, ['login', '--token', token, `${INFRA_IP}:7400`], env);
  if (code !== 0) throw new Error(stderr);
  const folder = (await lab.sh(INFRA, `dirname ${home}/.config/weft/*/client.crt`)).trim();
  return { home, folder };
}

const show = ({ page }: Opened, path: string): Promise<unknown> =>
  page.goto(`${new URL(page.url()).origin}/#/${path}`);

test.serial('problems: the broken path, as status has it', async (t) => {
  await show(root, 'problems');
  const { page } = root;
  await page.locator('.problems h3', { hasText: 'node h1' }).first().waitFor();
  await page.locator('.problems', { hasText: 'UDP port 8472' }).waitFor();
  await page.locator('.events', { hasText: 'path-broken' }).waitFor();
  await isSound(t, root, 'problems');
});

test.serial('paths: from one node to the other it is broken, back and beside it is ok', async (t) => {
  await show(root, 'paths/blue');
  const { page } = root;
  await page.getByText('3 nodes, 1 broken path.').waitFor();
  await page.locator('table button', { hasText: 'h1' }).click();
  await page.locator('.chosen h2', { hasText: 'h1 to h2' }).waitFor();
  await page.locator('.matrix').focus();
  await page.keyboard.press('ArrowRight');
  await page.locator('.chosen h2', { hasText: /h1 to h3.*ok/ }).waitFor();
  await page.getByRole('button', { name: 'Measure', exact: true }).click();
  await page.locator('.chosen', { hasText: /IPv4: ok, [\d.]+ ms, MTU \d+, 0 of 3 lost/ }).waitFor();
  await isSound(t, root, 'paths');
});

test.serial('topology: three nodes and one bad edge; a node has its endpoints', async (t) => {
  await show(root, 'topology/h2');
  const { page } = root;
  await page.getByText('3 nodes', { exact: false }).first().waitFor();
  await page.locator('.topology path').waitFor();
  t.is(await page.locator('.topology path').count(), 1);
  await page.locator('td a', { hasText: 'web-h2.blue' }).waitFor();
  await isSound(t, root, 'topology');
});

test.serial('addresses: a subnet each, and nothing is wrong with them', async (t) => {
  await show(root, 'addresses');
  const { page } = root;
  await page.getByText('3 subnets, 0 claims outside of them').click();
  await page.locator('td', { hasText: '1 of 253' }).nth(2).waitFor();
  await page.getByRole('button', { name: 'Check all addresses' }).click();
  await page.getByText('Nothing is wrong with them.').waitFor();
  await isSound(t, root, 'addresses');
});

test.serial('an endpoint, found by its address', async (t) => {
  const { page } = root;
  const [, , last] = ends;
  await page.getByRole('searchbox').fill((last?.ip ?? '').split('/')[0] ?? '');
  await page.locator('.found a', { hasText: 'web-h3.blue' }).click();
  await page.locator('h1', { hasText: 'web-h3.blue' }).waitFor();
  await page.locator('dd', { hasText: last?.mac ?? '' }).waitFor();
  await page.locator('dd', { hasText: 'none' }).waitFor();
  await page.locator('.events li').first().waitFor();
  await isSound(t, root, 'endpoint');
});

test.serial('trace: it arrives there and back, and stops where the path is broken', async (t) => {
  const { page } = root;
  for (const [to, verdict] of [
    ['web-h3', 'reached'],
    ['web-h2', 'stopped'],
  ] as const) {
    await show(root, 'trace/web-h1');
    await page.getByRole('textbox', { name: 'To' }).fill(to);
    await page.getByRole('button', { name: 'Trace', exact: true }).click();
    await page.locator('h2', { hasText: verdict }).waitFor();
    t.true((await page.locator('.hops .seen').count()) > 0);
    if (verdict === 'reached') t.true((await page.locator('section:last-of-type .hops .seen').count()) > 0);
  }
  await isSound(t, root, 'trace');
});

test.serial('traffic: of the last hour, since the command runs', async (t) => {
  await show(root, 'traffic');
  const { page } = root;
  // Two samples, 15 s apart.
  await page.locator('canvas').first().waitFor({ timeout: 60_000 });
  const row = page.locator('tbody tr', { hasText: 'blue' });
  await row.waitFor();
  // The tunnel drops what is for a MAC address that no node has.
  const { lab } = cluster;
  const [, tunnel = ''] = /^\d+: ([^:@]+)/.exec(await lab.sh('h1', 'ip -o link show type vxlan')) ?? [];
  const [from, to] = ['02:00:00:00:00:01', '02:00:00:00:00:02'];
  const frame = ethernet({ from, to }, 0x88b5, Buffer.alloc(64)).toString('hex');
  const program = join(CHECKOUT, 'build/test/lab/forge.js');
  const dropped = async (): Promise<boolean> => {
    await lab.sh('h1', `${process.execPath} ${program} ${tunnel} ${frame}*1000`);
    return Number.parseFloat((await row.locator('td').nth(2).textContent()) ?? '') > 0;
  };
  await lab.until('drops on the page', dropped, { timeoutMs: 60_000, everyMs: 1000 });
  await isSound(t, root, 'traffic');
});

test.serial('a viewer sees the same, and may not trace', async (t) => {
  const { home } = await login('viewer');
  const opened = await open(browser, await link('viewer', { HOME: home, WEFT_ADMIN_DIR: '/nowhere' }));
  const { page } = opened;
  await page.locator('.problems h3', { hasText: 'node h1' }).first().waitFor();
  await show(opened, 'trace/web-h1');
  await page.getByRole('textbox', { name: 'To' }).fill('web-h3');
  await page.getByRole('button', { name: 'Trace', exact: true }).click();
  await page.locator('.failure', { hasText: 'viewer' }).waitFor();
  await opened.context.close();
  t.pass();
});

test.serial('--ui serves who has a certificate, with the rights of it, and nobody else', async (t) => {
  const { lab } = cluster;
  const curl = (options: string): ReturnType<typeof lab.try> =>
    lab.try('h1', `curl -sk -o /dev/null -w '%{http_code}' ${options}`);
  t.not((await curl(`https://${UI}/`)).code, 0);
  const { folder: viewer } = await login('viewer-of-ui');
  const shown = `--cert ${viewer}/client.crt --key ${viewer}/client.key`;
  t.is((await curl(`${shown} https://${UI}/`)).stdout, '200');
  t.is((await curl(`${shown} -H 'Host: evil.example' https://${UI}/`)).stdout, '403');
  const ask = (name: string): ReturnType<typeof curl> =>
    curl(
      `${shown} -H 'Origin: https://${UI}' -d '{"from":"web-h1","to":"web-h3"}' https://${UI}/api/${name}`,
    );
  t.is((await ask('trace')).stdout, '403');
  t.is((await ask('policies')).stdout, '200');
  const { stdout } = await lab.try('h1', `timeout 20 curl -skN ${shown} https://${UI}/api/live | head -n 1`);
  t.regex(stdout, /^data: \{"kind":"/);
});
