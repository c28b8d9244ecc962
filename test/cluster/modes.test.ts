// `weft run` on two hosts, and host endpoints, driven by the command line.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

import test from 'ava';

import { bare, Cluster, ETCD, type EndpointJson } from '../lab/cluster.js';
import { containerCalls, readText } from '../lab/containers.js';
import { exec } from '../lab/exec.js';
import { shareAmongTests } from '../lab/fresh.js';
import { WEFT } from '../lab/lab.js';
import type { LabProcess } from '../lab/process.js';

let lab: Cluster;
const { weft, detached, all, one, refused, nothingLeft } = containerCalls(() => lab);

async function setUp(): Promise<void> {
  lab = await Cluster.create(2);
  await lab.addContainers('c1', 'c2');
  await lab.startEtcd();
  await lab.startController(['--etcd', ETCD]);
  await lab.startAgents(['h1', 'h2']);
  await lab.json('h1', 'network', 'create', 'blue', '--subnet', '10.100.0.0/16');
  await lab.json('h1', 'network', 'create', 'green', '--subnet', '10.101.0.0/16', '--internal');
}

shareAmongTests(test, setUp, async () => lab?.lab.down());

test.serial('the exit status is passed on, as shells do', async (t) => {
  const blue = ['run', '--rm', '--network', 'blue', '--'];
  t.is((await weft(...blue, 'true')).code, 0);
  t.is((await weft(...blue, 'sh', '-c', 'exit 7')).code, 7);
  t.is((await weft(...blue, 'sh', '-c', 'kill -TERM $$')).code, 143);
  t.is((await weft(...blue, 'sh', '-c', 'kill -KILL $$')).code, 137);
  await refused(
    t,
    [...blue, 'no-such-command'],
    'NOT_FOUND',
    /no-such-command: there is no such command/,
    127,
  );
  await refused(t, [...blue, '/etc/passwd'], 'FAILED_PRECONDITION', /\/etc\/passwd cannot be executed/, 126);
  const fed = await exec(lab.place('h1').inside([WEFT, ...blue, 'sh', '-c', 'wc -c; echo said >&2']), {
    env: lab.environment('h1'),
    input: 'twelve bytes',
  });
  t.like({ ...fed, ms: 0 }, { code: 0, stdout: '12\n', stderr: 'said\n' });
  await nothingLeft(t);
});

test.serial('a command on a network sees a host of its own', async (t) => {
  const script =
    'hostname; cat /etc/hostname; cat /etc/resolv.conf; cat /etc/hosts; ls /sys/class/net; ip -o -4 address';
  const before = await lab.sh('h1', 'hostname; cat /etc/resolv.conf; cat /etc/hosts');
  const { code, stdout, stderr } = await weft(
    ...['run', '--rm', '--network', 'blue', '--name', 'web', '--', 'sh', '-c', script],
  );
  t.is(code, 0, stderr);
  t.regex(stdout, /^web\nweb\n/);
  const [, ip = ''] = /eth0 +inet (10\.100\.\d+\.\d+)\/24/.exec(stdout) ?? [];
  const gateway = ip.replace(/\.\d+$/, '.1');
  t.regex(stdout, new RegExp(`nameserver ${gateway}\n[^]*search blue\\.weft`));
  t.regex(stdout, new RegExp(`^${ip} web$`, 'm'));
  t.regex(stdout, /^eth0\nlo$/m);
  t.is(await lab.sh('h1', 'hostname; cat /etc/resolv.conf; cat /etc/hosts'), before);
  const asked = await weft('run', '--rm', '--network', 'blue', '--dns', '--', 'cat', '/etc/resolv.conf');
  t.is(asked.code, 0, asked.stderr);
  t.true(asked.stdout.includes(`nameserver ${gateway}\n`), '--dns asks for what it has in any case');
  await nothingLeft(t);
});

test.serial('its resolv.conf is set even where the host’s is a symbolic link', async (t) => {
  // A host as systemd-resolved sets it up, in a mount namespace of this test.
  const folder = join(lab.folder, 'linked');
  const script = `
    set -e
    mkdir -p ${folder}/etc; cp /etc/hosts /etc/passwd /etc/nsswitch.conf ${folder}/etc/; echo host >${folder}/etc/hostname
    echo '# the stub' >${folder}/stub
    ln -s ${folder}/stub ${folder}/etc/resolv.conf
    mount --bind ${folder}/etc /etc
    "$0" run --rm --network blue -- cat /etc/resolv.conf
    cat /etc/resolv.conf`;
  const { code, stdout, stderr } = await exec(
    lab.place('h1').inside(['unshare', '--mount', '--propagation', 'private', 'sh', '-c', script, WEFT]),
    { env: lab.environment('h1') },
  );
  t.is(code, 0, stderr);
  t.regex(stdout, /nameserver 10\.100\.[^]*# the stub\n$/);
  t.is(readFileSync(join(folder, 'stub'), 'utf8'), '# the stub\n');
});

test.serial('none, host, and the network of another container', async (t) => {
  const inside = ['--', 'sh', '-c', 'hostname; ip -br address'];
  const none = await weft('run', '--rm', '--name', 'alone', ...inside);
  t.regex(none.stdout, /^alone\nlo +\S+ +127\.0\.0\.1\/8 ::1\/128 *\n$/);
  const host = await weft('run', '--rm', '--network', 'host', ...inside);
  t.is(host.stdout.split('\n')[0], (await lab.sh('h1', 'hostname')).trim());
  t.true(host.stdout.includes(lab.ipOf('h1')));

  const a = await detached('h1', ['--network', 'blue', '--name', 'a'], 'sleep', '1000');
  t.like(a, { name: 'a', network: 'blue', node: 'h1', target: 'run:a', ifname: 'eth0', mtu: 1450 });
  t.like(a.container, { state: 'running', exitCode: null });
  const shared = await weft('run', '--rm', '--network', 'container:a', ...inside);
  t.true(shared.stdout.startsWith('a\n'));
  t.true(shared.stdout.includes(a.ip), shared.stdout);
  const chained = await detached('h1', ['--network', 'container:a', '--name', 'b'], 'sleep', '1000');
  t.like(chained, { name: 'b', network: 'container:a', ip: null, target: 'run:b' });
  t.true((await weft('exec', 'b', '--', 'ip', '-br', 'address')).stdout.includes(a.ip));

  await detached('h1', ['--name', 'n', '--network', 'none'], 'sleep', '1000');
  await refused(
    t,
    ['run', '--network', 'container:n', '--', 'true'],
    'FAILED_PRECONDITION',
    /container n has no network that could be shared: it runs with --network none/,
  );
  await refused(
    t,
    ['run', '--network', 'container:nope', '--', 'true'],
    'NOT_FOUND',
    /no container nope.*\n.*weft ps/,
  );
  t.is((await weft('stop', '--time', '2', 'a')).code, 0);
  await refused(
    t,
    ['run', '--network', 'container:a', '--', 'true'],
    'FAILED_PRECONDITION',
    /container a does not run[^]*weft start a/,
  );
  for (const name of ['a', 'b', 'n']) t.is((await weft('rm', '--force', name)).code, 0);
  await nothingLeft(t);
});

test.serial('wrong calls are refused before anything is created', async (t) => {
  const usage = (args: string[], words: RegExp): Promise<void> =>
    refused(t, ['run', ...args, '--', 'true'], 'INVALID_ARGUMENT', words, 2);
  await usage(
    ['--network', 'host', '--ip', '10.100.0.9'],
    /--ip: with --network host the command is attached to nothing/,
  );
  await usage(['--alias', 'x', '--ifname', 'net0'], /--alias, --ifname: with --network none/);
  await usage(['--dns'], /--dns: with --network none/);
  await usage(['--network', 'container:'], /container/);
  await usage(['--network', 'a/b'], /"a\/b" is not a network[^]*container:NAME/);
  await usage(['--restart', 'always'], /restart: always is for commands that run detached/);
  await usage(['-d', '--rm', '--restart', 'always'], /restart: always and --rm exclude each other/);
  await usage(['--restart', 'sometimes'], /sometimes/);
  await usage(['--name', '-x'], /-x/);
  t.is((await weft('run')).code, 2);
  await refused(
    t,
    ['run', '--network', 'nope', '--', 'true'],
    'NOT_FOUND',
    /network nope: there is no such network/,
  );
  await refused(t, ['exec', 'nope', '--', 'true'], 'NOT_FOUND', /no container nope/);
  await refused(t, ['stop', 'nope'], 'NOT_FOUND', /no container nope/);
  const away = await exec(lab.place('h1').inside([WEFT, 'run', '--agent', '/nowhere.sock', '--', 'true']));
  t.is(away.code, 1);
  t.regex(away.stderr, /the agent at \/nowhere\.sock does not answer[^]*weft agent/);
  await nothingLeft(t);
});

test.serial('a name is unique on the node and in the network', async (t) => {
  await detached('h1', ['--network', 'blue', '--name', 'db'], 'sleep', '1000');
  await refused(
    t,
    ['run', '--name', 'db', '--', 'true'],
    'ALREADY_EXISTS',
    /the name db is taken on this node by container [0-9a-f]{12}, which is running\n.*weft stop db/,
  );
  const { code, stderr } = await lab.weft('h2', 'run', '--network', 'blue', '--name', 'db', '--', 'true');
  t.is(code, 1);
  t.regex(stderr, /name db[^]*run:db.*h1/);
  t.deepEqual(await all('h2'), []);
  // On another network it is free.
  t.is((await lab.weft('h2', 'run', '--rm', '--network', 'green', '--name', 'db', '--', 'true')).code, 0);
  t.is((await weft('stop', '--time', '1', 'db')).code, 0);
  await refused(t, ['run', '--name', 'db', '--', 'true'], 'ALREADY_EXISTS', /which has exited\n.*weft rm db/);
  t.is((await weft('rm', 'db')).code, 0);
  await nothingLeft(t);
});

test.serial('containers of two hosts reach each other; exec, logs, a second network', async (t) => {
  const a = await detached(
    'h1',
    ['--network', 'blue', '--name', 'a'],
    'sh',
    '-c',
    'echo out; echo err >&2; sleep 1000',
  );
  const b = await detached('h2', ['--network', 'blue', '--name', 'b'], 'sleep', '1000');
  await lab.until(
    'a reaches b',
    async () => (await weft('exec', 'a', '--', 'ping', '-c', '1', '-W', '3', bare(b.ip))).code === 0,
  );
  t.is((await weft('exec', 'a', '--', 'sh', '-c', 'exit 9')).code, 9);
  t.is((await weft('exec', 'a', '--', 'no-such-command')).code, 127);
  t.is((await weft('exec', 'a', '--', 'hostname')).stdout, 'a\n');
  await lab.until('its output is kept', async () => (await weft('logs', 'a')).stdout === 'out\nerr\n');

  const second = await lab.json<EndpointJson>('h1', 'attach', 'green', 'a');
  t.like(second, { target: 'run:a', name: 'a', ifname: 'eth1' });
  t.true((await weft('exec', 'a', '--', 'ip', '-br', 'address')).stdout.includes(second.ip));
  t.is((await one('a'))?.endpoints.length, 2);
  // A restart attaches it to both networks again.
  await weft('stop', '--time', '1', 'a');
  await refused(
    t,
    ['exec', 'a', '--', 'true'],
    'FAILED_PRECONDITION',
    /container a does not run[^]*weft start a/,
  );
  t.is((await weft('start', 'a')).code, 0);
  const again = await one('a');
  t.deepEqual(
    again?.endpoints.map(({ id, network, ip, ifname }) => ({ id, network, ip, ifname })),
    [a, second].map(({ id, network, ip, ifname }) => ({ id, network, ip, ifname })),
  );
  t.is((await weft('detach', 'green', 'a')).code, 0);
  t.is((await one('a'))?.endpoints.length, 1);
  t.is(a.container.network, 'blue');

  t.is((await weft('rm', 'a')).code, 1);
  t.is((await weft('rm', '--force', 'a')).code, 0);
  t.is((await lab.weft('h2', 'rm', '--force', 'b')).code, 0);
  await nothingLeft(t);
});

test.serial('a service is reached by its name and by its published port', async (t) => {
  const serve = 'while :; do echo hello | nc -N -l 80; done';
  const shop = await detached(
    'h2',
    ['--network', 'blue', '--name', 'shop', '--publish', '8080:80'],
    'sh',
    '-c',
    serve,
  );
  t.like(shop.publish[0], { hostPort: 8080, port: 80, protocol: 'tcp' });
  const ask = (...command: string[]) =>
    lab.until('it answers', async () => {
      const { stdout } = await weft('run', '--rm', '--network', 'blue', '--', ...command);
      return stdout.includes('hello') ? stdout : undefined;
    });
  t.is(await ask('nc', '-w', '2', 'shop', '80'), 'hello\n');
  t.is(await ask('nc', '-w', '2', 'shop.blue.weft', '80'), 'hello\n');
  t.is(await ask('nc', '-w', '2', '192.0.2.12', '8080'), 'hello\n');
  t.is((await lab.weft('h2', 'stop', '--time', '0', 'shop')).code, 0);
  t.is((await lab.weft('h2', 'rm', 'shop')).code, 0);
  t.not((await weft('run', '--rm', '--network', 'blue', '--', 'getent', 'hosts', 'shop')).code, 0);
  t.deepEqual(await lab.json('h2', 'port', 'ls'), []);
});

test.serial('stop sends SIGTERM, then SIGKILL, and ends every process of the container', async (t) => {
  const stubborn = await detached(
    'h1',
    ['--name', 'stubborn'],
    'sh',
    '-c',
    'trap "" TERM; while :; do sleep 0.1; done',
  );
  const began = performance.now();
  t.is((await weft('stop', '--time', '1', 'stubborn')).code, 0);
  t.true(performance.now() - began >= 1000);
  t.is((await one('stubborn'))?.exitCode, 137);
  t.false(existsSync(`/proc/${stubborn.container.pid}`));
  await weft('rm', 'stubborn');
  const { WEFT_AGENT: socket = '' } = lab.environment('h1');
  const front = lab.spawn('stopped', 'h1', [
    ...[WEFT, 'run', '--agent', socket, '--name', 'front', '--', 'sleep', '1000'],
  ]);
  // One that ends before its command has begun was never started, and is not kept.
  await lab.until('its command runs', async () =>
    readText(`/proc/${(await one('front'))?.pid ?? 0}/cmdline`).startsWith('sleep'),
  );
  t.is((await weft('stop', 'front')).code, 0);
  t.is(await front.ended, 143);
  t.like(await one('front'), { state: 'exited', exitCode: 143 });
  await weft('rm', 'front');

  // A grandchild in a session of its own goes with its container.
  // In a file that outlives the container, and its log.
  const pidFile = join(lab.folder, 'left');
  await detached(
    'h1',
    ['--name', 'left', '--rm'],
    'sh',
    '-c',
    `setsid sleep 1000 & echo $! >${pidFile}; sleep 0.5`,
  );
  const pid = await lab.until('it has written its pid', () => readText(pidFile).trim() || undefined);
  await lab.until(
    'every process has ended',
    async () => (await all()).length === 0 && !existsSync(`/proc/${pid}`),
  );
  await nothingLeft(t);
});

test.serial(
  'Ctrl-C reaches the command and leaves nothing behind, also twice during the start',
  async (t) => {
    const { WEFT_AGENT: socket = '' } = lab.environment('h1');
    const start = (name: string, ...command: string[]): LabProcess =>
      lab.spawn(name, 'h1', [WEFT, 'run', '--agent', socket, '--rm', '--network', 'blue', '--', ...command]);

    const sleeping = start('sleeping', 'sleep', '1000');
    await lab.until('it runs', async () => (await all())[0]?.state === 'running' && (await all())[0]?.pid);
    sleeping.signal('SIGINT');
    t.is(await sleeping.ended, 130);

    const catching = start(
      'catching',
      'sh',
      '-c',
      'trap "exit 5" INT; echo ready; while :; do sleep 0.1; done',
    );
    await lab.until('its trap is set', () => catching.log().includes('\nready'));
    catching.signal('SIGINT');
    t.is(await catching.ended, 5);

    // At any moment: before the namespaces exist, while it is attached, after the command has started.
    for (const ms of [20, 120, 200, 250, 300, 350, 380, 400, 410, 420, 440, 500]) {
      const early = start(`early-${ms}`, 'sleep', '1000');
      await delay(ms);
      early.signal('SIGINT');
      await delay(5);
      early.signal('SIGINT');
      t.is(await early.ended, 130, `after ${ms} ms`);
    }
    await nothingLeft(t);
  },
);

test.serial('Ctrl-C on a terminal reaches the command exactly once', async (t) => {
  const { WEFT_AGENT: socket = '' } = lab.environment('h1');
  writeFileSync(
    join(lab.folder, 'count.sh'),
    "n=0; trap 'n=$((n+1)); echo got $n' INT; tty; echo ready; sleep 1; sleep 1; echo end $n; exit 3",
  );
  // Not below a shell, which shares the terminal and handles Ctrl-C itself.
  const command = `exec ${WEFT} run --agent ${socket} --rm --network blue -- sh ${lab.folder}/count.sh`;
  // script(1) provides a terminal; its input is typed there.
  const typed = await lab.try(
    'h1',
    `seen() { for i in $(seq 300); do sleep 0.1; grep -q "$1" ${lab.folder}/typed 2>/dev/null && break; done; }; ` +
      `(seen ready; printf '\\003'; seen 'end [0-9]') | script -qfec "$COMMAND" ${lab.folder}/typed`,
    { env: { COMMAND: command } },
  );
  t.is(typed.code, 3, typed.stdout);
  t.regex(typed.stdout, /\/dev\/pts\/\d+/);
  t.regex(typed.stdout, /got 1[^]*end 1/);
  await nothingLeft(t);
});

test.serial('a host joins a network, and leaves it', async (t) => {
  for (const network of ['blue', 'green']) {
    const [a, b] = await Promise.all([lab.attach('h1', network, 'c1'), lab.attach('h2', network, 'c2')]);
    const host = await lab.json<EndpointJson>('h1', 'expose', network);
    t.like(host, { name: 'h1', network, node: 'h1', target: 'host' });
    t.true(bare(host.gateway).startsWith(bare(host.ip).replace(/\d+$/, '')));
    t.is((await lab.json<EndpointJson>('h1', 'expose', network)).id, host.id, 'the same again');
    for (const container of ['c1', 'c2'])
      t.true(await lab.reaches(container, bare(host.ip)), `${network} ${container}`);
    for (const { ip } of [a, b]) t.true(await lab.reaches('h1', bare(ip)), `${network} ${ip}`);
    // And by that address.
    t.regex(await lab.sh('h1', `ip route get ${bare(a.ip)}`), new RegExp(`src ${bare(host.ip)}\\b`));
    t.regex(await lab.sh('h1', `ip route get ${bare(b.ip)}`), new RegExp(`src ${bare(host.ip)}\\b`));

    await lab.process('agent-h1').kill();
    await lab.startAgents(['h1']);
    t.true(await lab.reaches('c2', bare(host.ip)));
    t.is((await lab.json<{ node: { stepsApplied: number } }>('h1', 'status')).node.stepsApplied, 0);
    await lab.sh('h1', `ip address del ${bare(host.ip)}/32 dev ${host.ifname}`);
    await lab.until('the address is restored', () => lab.reaches('c2', bare(host.ip)));
    await lab.until('the routes are restored', async () =>
      (await lab.sh('h1', `ip route get ${bare(b.ip)}`)).includes(`src ${bare(host.ip)}`),
    );

    t.is((await lab.json<EndpointJson>('h1', 'hide', network)).id, host.id);
    t.false((await lab.sh('h1', 'ip address')).includes(`${bare(host.ip)}/32`));
    t.true(await lab.reaches('h1', bare(b.ip)), 'as before');
    await refused(t, ['hide', network], 'NOT_FOUND', /not exposed to network/);
    await lab.json('h1', 'detach', network, lab.ns('c1'));
    await lab.json('h2', 'detach', network, lab.ns('c2'));
  }
  const asked = await lab.json<EndpointJson>('h1', 'expose', 'blue', '--name', 'gate', '--alias', 'door');
  t.like(asked, { name: 'gate', aliases: ['door'] });
  await refused(
    t,
    ['expose', 'blue', '--name', 'other'],
    'ALREADY_EXISTS',
    /name is gate, not other[^]*weft hide blue/,
  );
  await refused(t, ['expose', 'nope'], 'NOT_FOUND', /network nope: there is no such network/);
  await refused(t, ['expose', 'blue', '--ip', '10.1.0.1'], 'ALREADY_EXISTS', /ip is/);
  t.is((await weft('hide', 'blue')).code, 0);
  await refused(t, ['expose', 'blue', '--ip', '10.1.0.1'], 'INVALID_ARGUMENT', /outside network blue/);
});
