// `weft init`, `join` and `leave`: the files, what they call, and what they leave as it is. A recording systemctl is the host's.
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

import test, { type ExecutionContext } from 'ava';

import { unitFile } from '../../cli/setup/units.js';
import { formatToken, newToken } from '../../core/identity.js';
import { TestCa } from '../daemon/certificates.js';
import { exec } from '../lab/exec.js';
import { Fakes, run, WEFT, type Ran } from './fakes.js';
import { token as sample } from './samples.js';

const CONTROLLER = '192.0.2.10:7400';
const TOKEN = formatToken(newToken('b'.repeat(50)));

const fakes = new Fakes();
const folder = mkdtempSync(join(tmpdir(), 'weft-setup-'));
let ready: Server;
test.before(async () => {
  await fakes.start();
  ready = createServer((_, response) => response.end('ok\n'));
  await new Promise<void>((done) => ready.listen(0, '127.0.0.1', done));
});
test.after.always(() => {
  fakes.stop();
  ready.close();
  rmSync(folder, { recursive: true });
});

/** A host's files, and what its systemctl was called with. */
class TestHost {
  readonly root = mkdtempSync(join(folder, 'root-'));
  readonly #bin = mkdtempSync(join(folder, 'bin-'));
  readonly #record = join(this.#bin, 'record');

  /** @param state as `systemctl is-system-running` prints it @param unit the state of each unit, and its log */
  constructor(state = 'running', unit: { state: string; log: string } = { state: 'running', log: '' }) {
    const script = `#!/bin/sh
case $1 in
  is-system-running) echo ${state}; [ ${state} = running ] ;;
  is-active) exit 3 ;;
  show) echo ${unit.state} ;;
  *) echo "$*" >>${this.#record} ;;
esac
`;
    writeFileSync(join(this.#bin, 'systemctl'), script, { mode: 0o755 });
    writeFileSync(join(this.#bin, 'journalctl'), `#!/bin/sh\nprintf '${unit.log}'\n`, { mode: 0o755 });
  }

  weft(...args: string[]): Promise<Ran> {
    return run([...args, '--root', this.root], { PATH: `${this.#bin}:${process.env['PATH'] ?? ''}` });
  }

  get called(): string[] {
    return existsSync(this.#record) ? readFileSync(this.#record, 'utf8').trim().split('\n') : [];
  }

  write(path: string, text: string): void {
    mkdirSync(dirname(join(this.root, path)), { recursive: true });
    writeFileSync(join(this.root, path), text);
  }

  read(path: string): string {
    return readFileSync(join(this.root, path), 'utf8');
  }

  get paths(): string[] {
    return readdirSync(this.root, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map(({ parentPath, name }) => join(parentPath, name).slice(this.root.length))
      .toSorted();
  }
}

const UNITS = '/etc/systemd/system';
const INIT = [
  `${UNITS}/weft-agent.service`,
  `${UNITS}/weft-controller.service`,
  '/etc/weft/agent.yaml',
  '/etc/weft/controller.yaml',
  '/etc/weft/setup.json',
];

function succeeded(t: ExecutionContext, { code, stderr }: Ran): void {
  t.is(code, 0, stderr);
}

test('a unit has the words of the program, and sees it where it is in a home folder', (t) => {
  const agent = unitFile('weft-agent', [], ['/usr/bin/node', '/opt/we ft/100%/bin/weft']).text;
  t.regex(agent, /^ExecStart=\/usr\/bin\/node "\/opt\/we ft\/100%%\/bin\/weft" agent$/m);
  t.regex(agent, /^Documentation=file:\/\/\/opt\/we%%20ft\/100%%25\/README\.md$/m);
  // The single executable has no Node.js beside it, and no folder.
  const alone = unitFile('weft-controller', [], ['/home/someone/weft']).text;
  t.regex(alone, /^ExecStart=\/home\/someone\/weft controller$/m);
  t.regex(alone, /^Documentation=man:weft\(8\)$/m);
  t.regex(alone, /^ProtectHome=tmpfs\nBindReadOnlyPaths=\/home\/someone\/weft$/m);
  const controller = (node: string, script: string): string[] =>
    unitFile('weft-controller', ['LoadCredential=a:/b'], [node, script])
      .text.split('\n')
      .filter((line) => /^(ProtectHome|BindReadOnlyPaths|LoadCredential)=/.test(line));
  t.deepEqual(controller('/usr/bin/node', '/opt/weft/bin/weft'), ['LoadCredential=a:/b', 'ProtectHome=yes']);
  t.deepEqual(controller('/root/.nvm/bin/node', '/tmp/weft/bin/weft'), [
    'LoadCredential=a:/b',
    'ProtectHome=tmpfs',
    'BindReadOnlyPaths=/root/.nvm/bin/node',
    'BindReadOnlyPaths=/tmp/weft',
  ]);
});

test('what comes after the agent’s unit finds the socket of the plugins, and waits for no agent that has ended', async (t) => {
  const unit = unitFile('weft-agent').text;
  t.regex(unit, /^Before=docker\.service podman-restart\.service$/m);
  const script = /^ExecStartPost=\/bin\/sh -c '(.*)'$/m.exec(unit)?.[1] ?? '';
  t.true(script.includes('/run/weft/cni.sock'));
  const socket = join(folder, 'cni.sock');
  const shell = script.replaceAll('$$', '$').replace('/run/weft/cni.sock', socket);
  const waiting = exec(['sh', '-c', shell], { env: { MAINPID: String(process.pid) } });
  t.is(await Promise.race([waiting, delay(300, 'it waits')]), 'it waits');
  const server = createServer();
  t.teardown(() => server.close());
  server.listen(socket);
  t.is((await waiting).code, 0);
  const ended = script.replaceAll('$$', '$').replace('/run/weft/cni.sock', `${socket}.none`);
  const started = performance.now();
  t.is((await exec(['sh', '-c', ended], { env: { MAINPID: '2147483647' } })).code, 0);
  t.true(performance.now() - started < 4000);
});

test('init --no-start writes settings and units, says what to run, and may be repeated', async (t) => {
  const host = new TestHost();
  const first = await host.weft('init', '--no-start', '--advertise', '192.0.2.10,2001:db8::10');
  succeeded(t, first);
  t.deepEqual(host.paths, INIT);
  t.regex(host.read('/etc/weft/controller.yaml'), /^advertise: \[192\.0\.2\.10, 2001:db8::10\]$/m);
  t.regex(host.read('/etc/weft/agent.yaml'), /^controller: \[127\.0\.0\.1:7400\]$/m);
  t.regex(host.read('/etc/weft/agent.yaml'), /^token-file: \/var\/lib\/weft-controller\/node-token$/m);
  for (const daemon of ['agent', 'controller']) {
    const unit = host.read(`${UNITS}/weft-${daemon}.service`);
    t.true(unit.includes(`ExecStart=${process.execPath} ${WEFT} ${daemon}\n`), unit);
    t.false(unit.includes('/usr/local/'));
  }
  t.regex(first.stdout, /single point of failure/);
  t.regex(first.stdout, /^ {2}systemctl enable --now weft-controller weft-agent$/m);
  t.deepEqual(host.called, []);

  const before = host.paths.map((path) => host.read(path));
  succeeded(t, await host.weft('init', '--no-start', '--advertise', '192.0.2.10,2001:db8::10'));
  t.deepEqual(
    host.paths.map((path) => host.read(path)),
    before,
  );
  const other = await host.weft('init', '--no-start', '--advertise', '192.0.2.11');
  t.is(other.code, 1);
  t.regex(other.stderr, /controller\.yaml is there, and does not say: advertise: \[192\.0\.2\.11\]\n/);
  const joined = await host.weft('join', CONTROLLER, '--token', TOKEN, '--no-start');
  t.regex(joined.stderr, /this host has a cluster of its own \(weft init\)\n.*weft leave/);

  succeeded(t, await host.weft('leave', '--no-start'));
  t.deepEqual(host.paths, []);
  const again = await host.weft('leave', '--no-start');
  succeeded(t, again);
  t.regex(again.stdout, /nothing to undo/);
});

test('init takes an etcd of the user’s: both daemons are told, the controller’s unit shows the files', async (t) => {
  const host = new TestHost();
  const made = new TestCa();
  t.teardown(() => made.remove());
  const { ca } = made;
  const { cert, key } = made.issue('weft');
  const urls = ['https://192.0.2.21:2379', 'https://192.0.2.22:2379'];
  const password = join(folder, 'password');
  writeFileSync(password, 'secret\n');
  const flags = [
    ...['--etcd', urls.join(','), '--etcd-ca', ca, '--etcd-cert', cert, '--etcd-key', key],
    ...['--etcd-username', 'weft', '--etcd-password-file', password],
  ];
  const first = await host.weft('init', '--no-start', ...flags);
  succeeded(t, first);
  t.notRegex(first.stdout, /single point of failure/);
  const files = { 'etcd-ca': ca, 'etcd-cert': cert, 'etcd-key': key, 'etcd-password-file': password };
  const common = ['etcd: [https://192.0.2.21:2379, https://192.0.2.22:2379]', 'etcd-username: weft'];
  const [controller, agent, unit] = [
    '/etc/weft/controller.yaml',
    '/etc/weft/agent.yaml',
    `${UNITS}/weft-controller.service`,
  ].map((path) => host.read(path).split('\n'));
  for (const line of common) t.true(controller?.includes(line) === true && agent?.includes(line), line);
  for (const [name, path] of Object.entries(files)) {
    t.true(controller?.includes(`${name}: /run/credentials/weft-controller.service/${name}`), name);
    t.true(agent?.includes(`${name}: ${path}`), name);
    t.true(unit?.includes(`LoadCredential=${name}:${path}`), name);
  }
  t.false(host.read('/etc/weft/controller.yaml').includes('secret'));
  succeeded(t, await host.weft('init', '--no-start', ...flags));

  // Where no unit is of use the controller is root's, and reads them itself.
  const plain = new TestHost('offline');
  succeeded(t, await plain.weft('init', ...flags));
  t.true(plain.read('/etc/weft/controller.yaml').includes(`etcd-key: ${key}\n`));
  const refusals = await Promise.all([
    host.weft('init', '--etcd-ca', ca),
    host.weft('init', '--etcd', 'https://192.0.2.21:2379'),
    host.weft('init', '--etcd', 'https://192.0.2.21:2379', '--etcd-ca', ca, '--etcd-cert', cert),
    host.weft('init', '--etcd', 'nonsense'),
    host.weft('init', '--etcd', 'http://192.0.2.21:2379', '--etcd-username', 'weft'),
  ]);
  t.deepEqual(
    refusals.map(({ code }) => code),
    [2, 2, 2, 2, 2],
  );
  t.regex(refusals[0].stderr, /--etcd-ca: is for an etcd of yours, and none is named\n *Name it with --etcd/);
});

test('init starts both daemons, awaits them, and prints the next command; what is there stays', async (t) => {
  const host = new TestHost();
  const http = `http: 127.0.0.1:${(ready.address() as AddressInfo).port}\n`;
  const controllerYaml = `# Mine.\nlisten: ${fakes.address}\netcd: http://192.0.2.9:2379\n${http}`;
  const agentYaml = `${http}controller: ${fakes.address}\ntoken-file: /var/lib/weft-controller/node-token\n`;
  host.write('/etc/weft/controller.yaml', controllerYaml);
  host.write('/etc/weft/agent.yaml', agentYaml);
  const made = await host.weft('init', '-o', 'json');
  succeeded(t, made);
  t.like(JSON.parse(made.stdout), {
    controller: CONTROLLER,
    token: sample.token,
    next: [`weft join ${CONTROLLER} --token ${sample.token}`],
  });
  t.deepEqual(host.called, [
    'daemon-reload',
    'enable --now weft-controller.service',
    'enable --now weft-agent.service',
  ]);
  for (const unit of ['weft-controller', 'weft-agent'])
    t.regex(made.stderr, new RegExp(`^weft: ${unit} is ready after`, 'm'));
  t.notRegex(made.stderr + made.stdout, /single point of failure/);
  t.is(host.read('/etc/weft/controller.yaml'), controllerYaml);
  t.is(host.read('/etc/weft/agent.yaml'), agentYaml);

  succeeded(t, await host.weft('leave'));
  t.deepEqual(host.called.slice(3), [
    'disable --now weft-agent.service',
    'disable --now weft-controller.service',
    'clean --what=all weft-controller.service',
    'clean --what=all weft-agent.service',
    'daemon-reload',
  ]);
  t.deepEqual(host.paths, ['/etc/weft/agent.yaml', '/etc/weft/controller.yaml']);
});

test('without systemd init and join write the settings, and say what to run', async (t) => {
  const host = new TestHost('offline');
  const made = await host.weft('init');
  succeeded(t, made);
  t.deepEqual(host.paths, INIT.slice(2));
  t.regex(made.stdout, /^There is no systemd here\./m);
  t.regex(made.stdout, /^ {2}weft controller --state-dir \S+ --node-token \S+$/m);
  t.regex(made.stdout, /^ {2}weft agent$/m);
  const other = new TestHost('offline');
  const joined = await other.weft('join', CONTROLLER, '--token', TOKEN);
  succeeded(t, joined);
  t.regex(joined.stdout, /^ {2}weft agent$/m);
  t.deepEqual([host.called, other.called], [[], []]);
});

test('join --no-start keeps the token in a file for its owner; a newer one takes its place', async (t) => {
  const host = new TestHost();
  succeeded(t, await host.weft('join', CONTROLLER, '--token', TOKEN, '--node', 'h2', '--no-start'));
  t.deepEqual(host.paths, [
    `${UNITS}/weft-agent.service`,
    '/etc/weft/agent.yaml',
    '/etc/weft/setup.json',
    '/etc/weft/token',
  ]);
  const settings = host
    .read('/etc/weft/agent.yaml')
    .split('\n')
    .filter((line) => !line.startsWith('#'));
  t.deepEqual(settings, [`controller: [${CONTROLLER}]`, 'node: h2', 'token-file: /etc/weft/token', '']);
  t.is(statSync(join(host.root, 'etc/weft/token')).mode & 0o777, 0o600);
  const newer = formatToken(newToken('b'.repeat(50)));
  succeeded(t, await host.weft('join', CONTROLLER, '--token', newer, '--node', 'h2', '--no-start'));
  t.is(host.read('/etc/weft/token'), `${newer}\n`);
  const elsewhere = await host.weft('join', '192.0.2.11:7400', '--token', TOKEN, '--no-start');
  t.regex(elsewhere.stderr, /agent\.yaml is there, and does not say: controller: \[192\.0\.2\.11:7400\]\n/);

  // What somebody has changed is his.
  host.write('/etc/weft/agent.yaml', `${host.read('/etc/weft/agent.yaml')}join: blue\n`);
  const left = await host.weft('leave', '--no-start');
  t.regex(left.stdout, /agent\.yaml stays/);
  t.deepEqual(host.paths, ['/etc/weft/agent.yaml']);
});

test('a token that cannot be used is told before anything is written or started', async (t) => {
  const host = new TestHost();
  const ran = await host.weft('join', fakes.address, '--token', TOKEN, '-o', 'json');
  t.is(ran.code, 1);
  t.like(JSON.parse(ran.stdout), { error: { code: 'UNAVAILABLE' } });
  t.regex(ran.stderr, /answers without TLS/);
  t.false(ran.stderr.includes(TOKEN));
  t.deepEqual([host.paths, host.called], [[], []]);
  const [none, wrong, insecure, misplaced] = await Promise.all([
    host.weft('join', CONTROLLER),
    host.weft('join', CONTROLLER, '--token', 'WEFT-1-x-secret'),
    host.weft('init', '--insecure'),
    host.weft('join', CONTROLLER, '--token', TOKEN, '--role', 'controller', '--node', 'h2'),
  ]);
  t.deepEqual([none.code, wrong.code, insecure.code, misplaced.code], [2, 2, 2, 2]);
  t.regex(none.stderr, /--token, --token-file or WEFT_TOKEN/);
  t.false(wrong.stderr.includes('x-secret'));
  t.regex(insecure.stderr, /--insecure/);
  t.regex(misplaced.stderr, /--node: is for the role node/);
});

test('a daemon that does not start: its own words, and what to do', async (t) => {
  const log = 'weft controller: /etc/weft/controller.yaml: bogus at line 1: not known\\nKnown are: listen\\n';
  const host = new TestHost('running', { state: 'failed', log });
  host.write('/etc/weft/controller.yaml', 'bogus: 1\nhttp: 127.0.0.1:1\netcd: http://192.0.2.9:2379\n');
  const ran = await host.weft('init', '-o', 'json');
  t.is(ran.code, 1);
  t.like(JSON.parse(ran.stdout), { error: { code: 'UNAVAILABLE' } });
  t.regex(ran.stderr, /weft-controller is not ready: .*bogus at line 1: not known\n.*journalctl.*weft leave/);
});

test('with a package’s units and settings of comments alone: these are continued, and given back', async (t) => {
  const host = new TestHost();
  const packaged = ['agent', 'controller'].map((daemon) => {
    const path = `/usr/lib/systemd/system/weft-${daemon}.service`;
    host.write(path, unitFile(`weft-${daemon}` as 'weft-agent', [], [process.execPath, WEFT]).text);
    host.write(`/etc/weft/${daemon}.yaml`, `# Of the package.\n`);
    return path;
  });
  succeeded(t, await host.weft('init', '--no-start'));
  t.deepEqual(host.paths, [
    '/etc/weft/agent.yaml',
    '/etc/weft/controller.yaml',
    '/etc/weft/setup.json',
    ...packaged,
  ]);
  t.regex(host.read('/etc/weft/agent.yaml'), /^# Of the package\.\n# Settings .*\ncontroller: \[127/s);
  const before = host.paths.map((path) => host.read(path));
  succeeded(t, await host.weft('init', '--no-start'));
  t.deepEqual(
    host.paths.map((path) => host.read(path)),
    before,
  );
  succeeded(t, await host.weft('leave', '--no-start'));
  t.deepEqual(host.paths, ['/etc/weft/agent.yaml', '/etc/weft/controller.yaml', ...packaged]);
  t.is(host.read('/etc/weft/agent.yaml'), '# Of the package.\n');

  // What the controller's unit must show besides is in a file beside it.
  const made = new TestCa();
  t.teardown(() => made.remove());
  succeeded(
    t,
    await host.weft('init', '--no-start', '--etcd', 'https://192.0.2.21:2379', '--etcd-ca', made.ca),
  );
  const dropIn = `${UNITS}/weft-controller.service.d/weft-init.conf`;
  t.is(host.read(dropIn), `[Service]\nLoadCredential=etcd-ca:${made.ca}\n`);
  succeeded(t, await host.weft('leave', '--no-start'));
  t.false(existsSync(dirname(join(host.root, dropIn))));

  // The units of another weft are not this one's.
  host.write(packaged[0] ?? '', unitFile('weft-agent', [], ['/opt/other/weft']).text);
  succeeded(t, await host.weft('init', '--no-start'));
  t.true(host.paths.includes(`${UNITS}/weft-agent.service`));
});
