// docker-compose.yml and the Dockerfile on real engines.
//
// The first host brings up everything, the second only an agent, and containers of both share a network. The base image is
// imported from this machine's files.
import { existsSync, mkdirSync, realpathSync } from 'node:fs';
import { dirname, join } from 'node:path';

import test from 'ava';

import { DockerHost, IMAGE, makeImage } from '../lab/docker.js';
import { must } from '../lab/exec.js';
import { shareAmongTests } from '../lab/fresh.js';
import { CHECKOUT, Lab } from '../lab/lab.js';
import { CREATE, pings, start, connection } from './cluster.js';

let lab: Lab;
let h1: DockerHost;
let h2: DockerHost;

/** The programs that the Dockerfile would install, with the libraries that they need, node_modules, and the packages' Node.js. */
async function makeBase(): Promise<string> {
  const root = join(lab.folder, 'base');
  const tar = join(lab.folder, 'base.tar');
  for (const part of [
    'bin',
    'usr/bin',
    'usr/sbin',
    'usr/local/bin',
    'etc',
    'tmp',
    'run',
    'var',
    'root',
    'opt/weft',
    'proc',
    'sys',
    'dev',
  ])
    mkdirSync(join(root, part), { recursive: true });
  const npm = dirname(dirname(realpathSync((await must(['sh', '-c', 'command -v npm'])).trim())));
  const node = 'node_modules/.cache/weft-node/node_modules/node-24';
  const script = `set -e
    ln -s /run ${root}/var/run
    cp /bin/busybox ${root}/bin/ && for a in $(busybox --list); do [ $a = busybox ] || [ $a = setpriv ] || ln -s busybox ${root}/bin/$a; done
    echo 'root:x:0:0:root:/root:/bin/sh' >${root}/etc/passwd
    copy() { mkdir -p ${root}$(dirname $1) && [ -e ${root}$1 ] || cp -L $1 ${root}$1; }
    with() { copy $1; ldd $1 | grep -o '/[^ ]*' | while read -r lib; do copy $lib; done; }
    cp -L ${process.execPath} ${root}/usr/bin/node && ldd ${process.execPath} | grep -o '/[^ ]*' | while read -r lib; do copy $lib; done
    mkdir -p ${root}/usr/lib/node_modules && cp -a ${npm} ${root}/usr/lib/node_modules/npm
    ln -s /usr/lib/node_modules/npm/bin/npm-cli.js ${root}/usr/bin/npm
    ln -s /bin/env ${root}/usr/bin/env
    for program in nft iptables ip6tables iptables-restore ip6tables-restore iptables-save ip6tables-save etcd setpriv bash strip dpkg-deb tar; do
      path=$(command -v $program) && with $(readlink -f $path) && [ -e ${root}/usr/bin/$program ] || ln -s $(readlink -f $path) ${root}/usr/bin/$program
    done
    for modules in /usr/lib/*-linux-gnu/xtables; do [ ! -d $modules ] || { mkdir -p ${root}$modules && cp -L $modules/*.so ${root}$modules/; }; done
    tar -C ${CHECKOUT} --exclude='buf-linux*' --exclude='*oxlint*' --exclude=dprint-node --exclude=.cache -cf - node_modules | tar -C ${root}/opt/weft -xf -
    mkdir -p ${root}/opt/weft/${node}/bin
    cp -L ${CHECKOUT}/${node}/bin/node ${root}/opt/weft/${node}/bin/ && cp ${CHECKOUT}/${node}/LICENSE ${root}/opt/weft/${node}/
    tar -C ${root} -cf ${tar} .`;
  await must(['bash', join(CHECKOUT, 'scripts/other-nodes.sh')], { timeoutMs: 240_000 });
  await must(['bash', '--norc', '-c', script], { timeoutMs: 120_000 });
  return tar;
}

/** docker-compose on a host, in a project of its own. */
function compose(host: DockerHost, env: Record<string, string>, ...args: string[]): Promise<string> {
  return must(['docker-compose', '-f', join(CHECKOUT, 'docker-compose.yml'), '-p', 'weft', ...args], {
    timeoutMs: 240_000,
    env: {
      DOCKER_HOST: `unix://${host.engine}`,
      DOCKER_BUILDKIT: '0',
      COMPOSE_DOCKER_CLI_BUILD: '0',
      ...{ WEFT_BASE: 'base', WEFT_RUNTIME: 'base' },
      ...env,
    },
  });
}

/** As Docker sees it by the file's own health check. */
const healthy = async (host: DockerHost, container = 'weft_agent_1'): Promise<boolean> =>
  (await host.ask('inspect', '--format', '{{.State.Health.Status}}', container)) === 'healthy';

/** `weft` in the controller's container, which has an administrator's certificate. */
async function weft<T>(...args: string[]): Promise<T> {
  return JSON.parse(await h1.ask('exec', 'weft_controller_1', 'weft', ...args, '-o', 'json')) as T;
}

/** What both hosts' administrators do: the first host has everything, the second an agent and a token. */
async function setUp(): Promise<void> {
  lab = await Lab.up({ hosts: 2 });
  [h1, h2] = [new DockerHost(lab, 'h1', 11), new DockerHost(lab, 'h2', 12)];
  const [image] = await Promise.all([makeImage(lab), h1.up(), h2.up()]);
  await Promise.all([h1.import(image), h2.import(image)]);

  await h1.ask('import', '-c', 'ENV PATH=/usr/local/bin:/usr/sbin:/usr/bin:/bin', await makeBase(), 'base');
  await compose(h1, {}, 'build');
  await compose(h1, {}, 'up', '-d');
  await lab.until('the agent of the first host is ready', () => healthy(h1), { timeoutMs: 60_000 });

  const archive = join(lab.folder, 'weft.tar');
  await h1.ask('save', '-o', archive, 'weft');
  await h2.ask('load', '-i', archive);
  const { token } = await weft<{ token: string }>('token', 'create', '--uses', '1');
  const env = { WEFT_FIRST_HOST: h1.ip, WEFT_TOKEN: token };
  await compose(h2, env, 'up', '-d', '--no-build', 'agent');
  await lab.until('the agent of the second host is ready', () => healthy(h2), { timeoutMs: 60_000 });
}

shareAmongTests(test, setUp, async () => lab?.down());

test.serial('the compose file brings up a cluster on one host and an agent on another', async (t) => {
  t.deepEqual((await h1.ask('ps', '--format', '{{.Names}}')).split('\n').toSorted(), [
    'weft_agent_1',
    'weft_controller_1',
  ]);
  const agent = await h1.inspect<{
    HostConfig: { Privileged: boolean; CapAdd: string[]; CapDrop: string[] };
  }>('inspect', 'weft_agent_1');
  t.false(agent.HostConfig.Privileged);
  t.deepEqual(agent.HostConfig.CapDrop, ['ALL']);
  t.is(await h2.ask('ps', '--format', '{{.Names}}'), 'weft_agent_1');
  t.true(await healthy(h1, 'weft_controller_1'));
  // The token that the controller wrote was for one node.
  const used = await weft<{ uses: number | null }[]>('token', 'ls');
  t.deepEqual(
    used.map(({ uses }) => uses),
    [0, 0],
  );
  // Who has no certificate of this cluster gets nothing, of the controller or of etcd.
  const stranger = await h2.docker('exec', 'weft_agent_1', 'weft', 'node', 'ls');
  t.not(stranger.code, 0);
  t.regex(stranger.stderr, /wants a certificate of its CA/);
  t.not((await h2.exec(['curl', '-sk', `https://${h1.ip}:2379/version`])).code, 0);
});

test.serial('containers of both hosts share a network, with names, ports and routes', async (t) => {
  for (const host of [h1, h2]) await host.ask(...CREATE, '--subnet', '10.9.0.0/16', 'blue');
  await start(h1, 'one', '--network', 'blue');
  await h2.ask(
    'run',
    '-d',
    '--init',
    '--name',
    'two',
    '--network',
    'blue',
    '-p',
    '8080:80',
    IMAGE,
    'httpd',
    '-f',
    '-p',
    '80',
    '-h',
    '/etc',
  );
  await pings(t, h1, 'one', (await connection(h2, 'two', 'blue')).IPAddress);
  await pings(t, h1, 'one', '198.51.100.1');
  await lab.until('the port answers', async () =>
    (await h1.exec(['curl', '-sf', `http://${h2.ip}:8080/passwd`])).stdout.includes('root'),
  );
  await lab.until(
    'every host resolves the names',
    async () => {
      const { stdout } = await h1.docker('exec', 'weft_agent_1', 'weft', 'endpoint', 'ls', '-o', 'json');
      const found = JSON.parse(stdout) as { name: string; node: string; ifname: string }[];
      return (
        found.length === 2 &&
        found.every(({ name, ifname }) => ['one', 'two'].includes(name) && ifname === 'eth0')
      );
    },
    { timeoutMs: 30_000 },
  );
  // The agent's container is restarted; the traffic of the others goes on.
  await h2.ask('restart', '-t', '5', 'weft_agent_1');
  await pings(t, h1, 'one', (await connection(h2, 'two', 'blue')).IPAddress);
  await lab.until('it is ready again', () => healthy(h2), { timeoutMs: 60_000 });
  await start(h2, 'three', '--network', 'blue');
  await pings(t, h1, 'one', (await connection(h2, 'three', 'blue')).IPAddress);
  t.false(existsSync('/run/docker/plugins/weft.sock'));
});
