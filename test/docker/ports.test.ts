// `docker run -p` on networks of weft, and more of moby's tests of network drivers.
//
// Docker leaves port publishing to the plugin. Titles name moby's tests (integration-cli/docker_cli_network_unix_test.go).
import { isDeepStrictEqual } from 'node:util';

import test, { type ExecutionContext } from 'ava';

import type { DockerHost } from '../lab/docker.js';
import { shareAmongTests } from '../lab/fresh.js';
import { connection, CREATE, DockerCluster, pings, pingsNot, refused, start } from './cluster.js';

let lab: DockerCluster;

async function setUp(): Promise<void> {
  lab = await DockerCluster.up();
  await lab.createOnBoth('--subnet', '10.9.0.0/16', 'blue');
}

shareAmongTests(test, setUp, async () => lab?.down());

/** A container that serves its own name on port 80. */
async function server(host: DockerHost, name: string, ...options: string[]): Promise<void> {
  const script = `echo ${name} > /tmp/index.html; exec httpd -f -p 80 -h /tmp`;
  await host.ask('run', '-d', '--init', '--name', name, ...options, 'busybox', 'sh', '-c', script);
}

/** The container `web` with three ports of the first host, from whichever test made it. */
async function web(): Promise<void> {
  if ((await lab.h1.ask('ps', '-q', '-f', 'name=^web$')) !== '') return;
  const ports = ['8080:80', `${lab.h1.ip}:8081:80`, '127.0.0.1:8082:80'];
  await server(lab.h1, 'web', '--network', 'blue', ...ports.flatMap((port) => ['-p', port]));
}

const get = async (from: DockerHost, url: string): Promise<string> =>
  (await from.exec(['curl', '-s', '--max-time', '5', url])).stdout.trim();

async function answers(t: ExecutionContext, from: DockerHost, url: string, name: string): Promise<void> {
  await lab.until(`${url} answers`, async () => (await get(from, url)) === name);
  t.pass();
}

test.serial(
  'TestDockerPluginExternalConnectivity, PortMapping: -p opens a port of the host, and stop closes it',
  async (t) => {
    await web();
    await answers(t, lab.h2, `http://${lab.h1.ip}:8080/`, 'web');
    await answers(t, lab.h1, `http://${lab.h1.ip}:8080/`, 'web');
    await answers(t, lab.h1, 'http://127.0.0.1:8080/', 'web');
    await answers(t, lab.h2, `http://${lab.h1.ip}:8081/`, 'web');
    await answers(t, lab.h1, 'http://127.0.0.1:8082/', 'web');
    t.is(await get(lab.h2, `http://${lab.h1.ip}:8082/`), '');
    const { publish } = (await lab.endpoints('blue', 1))[0] as unknown as { publish: { hostPort: number }[] };
    t.deepEqual(
      publish.map(({ hostPort }) => hostPort).toSorted((a, b) => a - b),
      [8080, 8081, 8082],
    );
    await lab.h1.ask('stop', '-t', '0', 'web');
    t.is(await get(lab.h2, `http://${lab.h1.ip}:8080/`), '');
    await lab.h1.ask('start', 'web');
    await answers(t, lab.h2, `http://${lab.h1.ip}:8080/`, 'web');
  },
);

test.serial(
  'what stands in DOCKER-USER holds for published ports, also after Docker’s restart',
  async (t) => {
    await web();
    const url = `http://${lab.h1.ip}:8080/`;
    await answers(t, lab.h2, url, 'web');
    const forward = async (): Promise<string[]> =>
      (await lab.h1.must(['iptables', '-S', 'FORWARD'])).trim().split('\n').slice(1, 3);
    const inOrder = ['-A FORWARD -j DOCKER-USER', '-A FORWARD -j WEFT-ACCEPT'];
    await lab.until('weft is directly behind DOCKER-USER', async () =>
      isDeepStrictEqual(await forward(), inOrder),
    );
    const drop = ['-i', 'eth0', '-p', 'tcp', '--dport', '80', '-j', 'DROP'];
    await lab.h1.must(['iptables', '-I', 'DOCKER-USER', ...drop]);
    t.is(await get(lab.h2, url), '');
    t.is(await get(lab.h1, url), 'web', 'the rule is about eth0 alone');
    await lab.h1.dockerd.stop();
    await lab.h1.startDocker();
    await lab.h1.ask('start', 'web');
    await answers(t, lab.h1, url, 'web');
    await lab.until('weft is put back there', async () => isDeepStrictEqual(await forward(), inOrder));
    t.is(await get(lab.h2, url), '');
    await lab.h1.must(['iptables', '-D', 'DOCKER-USER', ...drop]);
    await answers(t, lab.h2, url, 'web');
  },
);

test.serial('a port in use is refused, and nothing is left over', async (t) => {
  await web();
  await refused(
    t,
    lab.h1,
    ['run', '--rm', '--network', 'blue', '-p', '9000:80', '-p', '8080:80', 'busybox', 'true'],
    /8080.*(in use|taken|web)/,
  );
  await server(lab.h1, 'second', '--network', 'blue', '-p', '9000:80');
  await answers(t, lab.h2, `http://${lab.h1.ip}:9000/`, 'second');
  await lab.h1.ask('rm', '-f', 'second');
  await lab.endpoints('blue', 1);
  // Docker's own bridge and weft refuse each other's ports, too.
  await refused(t, lab.h1, ['run', '--rm', '-p', '8080:80', 'busybox', 'true'], /8080/);
});

test.serial('-P publishes every exposed port, and weft shows the ports that were chosen', async (t) => {
  await server(lab.h1, 'all', '--network', 'blue', '--expose', '80', '--expose', '81/udp', '-P');
  const open = await lab.until('both are open', async () => {
    const all = await lab.cluster.json<{ name: string; port: number; protocol: string; hostPort: number }[]>(
      'h1',
      ...['port', 'ls'],
    );
    const found = all.filter(({ name }) => name === 'all');
    return found.length === 2 && found;
  });
  t.deepEqual(open.map(({ port, protocol }) => `${port}/${protocol}`).toSorted(), ['80/tcp', '81/udp']);
  const chosen = open.find(({ port }) => port === 80)?.hostPort ?? 0;
  await answers(t, lab.h2, `http://${lab.h1.ip}:${chosen}/`, 'all');
  await lab.h1.ask('rm', '-f', 'all');
});

test.serial('UDP, ranges, and an automatically chosen port', async (t) => {
  await server(lab.h1, 'many', '--network', 'blue', '-p', '5300:53/udp', '-p', '7000-7002:80-82', '-p', '80');
  // The image has no server of UDP: one of the machine's, in the container's namespace.
  const pid = await lab.h1.ask('inspect', '-f', '{{.State.Pid}}', 'many');
  // By exec, so that it is the lab's own process, which the lab can end: nothing else marks it as part of the run.
  const echo = lab.h1.spawn('udp', ['sh', '-c', `exec nsenter -t ${pid} -n nc -u -l 53 <<END\npong\nEND`]);
  await lab.until('the UDP port answers', async () => {
    const { stdout } = await lab.h2.exec(['sh', '-c', `echo ping | nc -u -w1 ${lab.h1.ip} 5300`]);
    return stdout.includes('pong');
  });
  await echo.kill();
  await answers(t, lab.h2, `http://${lab.h1.ip}:7000/`, 'many');
  const all = await lab.cluster.json<{ name: string; publish: { hostPort: number; port: number }[] }[]>(
    'h1',
    'endpoint',
    'ls',
    '--network',
    'blue',
  );
  const chosen = all
    .flatMap((endpoint) => endpoint.publish)
    .find(({ port, hostPort }) => port === 80 && hostPort >= 49_153);
  await answers(t, lab.h2, `http://${lab.h1.ip}:${chosen?.hostPort ?? 0}/`, 'many');
  const { IPAddress } = await connection(lab.h1, 'many', 'blue');
  // Flows in conntrack, by their reply direction: even the first came under the client's own address.
  const flows = async (): Promise<boolean> =>
    (await lab.h1.must(['cat', '/proc/net/nf_conntrack'])).includes(
      ` src=${IPAddress} dst=${lab.h2.ip} sport=53 `,
    );
  t.true(await flows());
  await lab.h1.ask('rm', '-f', 'many');
  t.false(await flows(), 'TestConntrackFlowsLeak');
});

test.serial('ports survive the agent, and close with a container that ended while it was down', async (t) => {
  await web();
  await lab.cluster.process('agent-h1').kill();
  await answers(t, lab.h2, `http://${lab.h1.ip}:8080/`, 'web');
  await lab.cluster.startAgents(['h1']);
  await answers(t, lab.h2, `http://${lab.h1.ip}:8080/`, 'web');
  await lab.h1.dockerd.kill();
  await lab.h1.startDocker();
  await lab.until('the port is closed', async () => (await get(lab.h2, `http://${lab.h1.ip}:8080/`)) === '');
  await lab.h1.ask('start', 'web');
  await answers(t, lab.h2, `http://${lab.h1.ip}:8080/`, 'web');
});

test.serial(
  'TestDockerNetworkConnectDisconnectWithPortMapping: a port follows the network with the default route',
  async (t) => {
    await web();
    await lab.h1.ask(...CREATE, '--subnet', '10.10.0.0/16', 'aaa');
    await lab.h1.ask('network', 'connect', 'aaa', 'web');
    await answers(t, lab.h2, `http://${lab.h1.ip}:8080/`, 'web');
    await lab.h1.ask('network', 'disconnect', 'blue', 'web');
    await answers(t, lab.h2, `http://${lab.h1.ip}:8080/`, 'web');
    await lab.h1.ask('network', 'connect', 'blue', 'web');
    await lab.h1.ask('network', 'disconnect', 'aaa', 'web');
    await answers(t, lab.h2, `http://${lab.h1.ip}:8080/`, 'web');
    await lab.h1.ask('rm', '-f', 'web');
    await lab.h1.ask('network', 'rm', 'aaa');
  },
);

test.serial('TestDockerNetworkCreateDelete, DeleteMultiple, DeleteNotExists, Ls, Inspect', async (t) => {
  await lab.h1.ask(...CREATE, '--subnet', '10.11.0.0/16', '--label', 'colour=red', 'one');
  await lab.h1.ask(...CREATE, '--subnet', '10.12.0.0/16', 'two');
  t.deepEqual(
    (await lab.h1.ask('network', 'ls', '-f', 'driver=weft', '--format', '{{.Name}} {{.Scope}}')).split('\n'),
    ['blue local', 'one local', 'two local'],
  );
  const one = await lab.h1.inspect<{ Labels: object; Driver: string; IPAM: { Driver: string } }>(
    'network',
    'inspect',
    'one',
  );
  t.like(one, { Labels: { colour: 'red' }, Driver: 'weft', IPAM: { Driver: 'weft' } });
  await lab.h1.ask('network', 'rm', 'one', 'two');
  await refused(t, lab.h1, ['network', 'rm', 'one'], /No such network/);
  t.false(await lab.hasNetwork('one'));
});

test.serial(
  'TestDockerNetworkDriverOptions, IPAMOptions: options arrive unchanged, and inspect shows them',
  async (t) => {
    await lab.h1.ask(
      ...CREATE,
      '--subnet',
      '10.13.0.0/16',
      '-o',
      'com.docker.network.driver.mtu=1280',
      '--ipam-opt',
      'weft.host-prefix=25',
      'options',
    );
    const shown = await lab.h1.inspect<{ Options: object; IPAM: { Options: object } }>(
      'network',
      'inspect',
      'options',
    );
    t.deepEqual(shown.Options, { 'com.docker.network.driver.mtu': '1280' });
    t.deepEqual(shown.IPAM.Options, { 'weft.host-prefix': '25' });
    t.like(
      await lab.until('it exists', async () => (await lab.hasNetwork('options')) && lab.network('options')),
      { mtu: 1280, hostPrefix: 25 },
    );
    await lab.h1.ask('network', 'rm', 'options');
  },
);

test.serial(
  'TestDockerNetworkIPAMMultipleNetworks: subnets that overlap are refused, others are not',
  async (t) => {
    await refused(
      t,
      lab.h1,
      [...CREATE, '--subnet', '10.9.0.0/16', 'twin'],
      /another Docker network of this host/,
    );
    await refused(t, lab.h1, [...CREATE, '--subnet', '10.9.1.0/24', 'part'], /overlaps network blue/);
    await lab.h1.ask(...CREATE, '--subnet', '10.14.0.0/16', 'third');
    await lab.h1.ask('network', 'rm', 'third');
  },
);

test.serial('TestDockerNetworkMacInspect, ConnectPreferredIP, UnsupportedRequiredIP', async (t) => {
  await start(lab.h1, 'mac', '--network', 'blue', '--mac-address', 'a0:b1:c2:d3:e4:f6');
  const { MacAddress, Gateway } = await connection(lab.h1, 'mac', 'blue');
  t.is(MacAddress, 'a0:b1:c2:d3:e4:f6');
  await lab.h1.ask('network', 'disconnect', 'blue', 'mac');
  const ip = Gateway.replace(/1$/, '123');
  await lab.h1.ask('network', 'connect', '--ip', ip, 'blue', 'mac');
  t.is((await connection(lab.h1, 'mac', 'blue')).IPAddress, ip);
  // It stays when the container is stopped and started.
  await lab.h1.ask('restart', '-t', '0', 'mac');
  t.is((await connection(lab.h1, 'mac', 'blue')).IPAddress, ip);
  await refused(t, lab.h1, ['network', 'connect', '--ip', ip, 'blue', 'mac'], /already exists/);
  await lab.h1.ask('rm', '-f', 'mac');
});

test.serial('TestDockerNetworkConnectDisconnectToStoppedContainer, RunNetByID, InspectWithID', async (t) => {
  const id = await lab.h1.ask('network', 'inspect', '-f', '{{.Id}}', 'blue');
  await lab.h1.ask('create', '--name', 'stopped', '--network', id, 'busybox', 'sleep', 'infinity');
  await lab.h1.ask(...CREATE, '--subnet', '10.15.0.0/16', 'more');
  await lab.h1.ask('network', 'connect', 'more', 'stopped');
  await lab.h1.ask('network', 'disconnect', 'blue', 'stopped');
  await lab.h1.ask('start', 'stopped');
  t.regex((await connection(lab.h1, 'stopped', 'more')).IPAddress, /^10\.15\./);
  t.is(
    (await lab.h1.in('stopped', 'ls /sys/class/net')).stdout.trim().split(/\s+/).toSorted().join(' '),
    'eth0 lo',
  );
  await lab.h1.ask('network', 'disconnect', '-f', 'more', 'stopped');
  await refused(t, lab.h1, ['network', 'disconnect', 'more', 'stopped'], /not connected/);
  await lab.h1.ask('rm', '-f', 'stopped');
  await lab.h1.ask('network', 'rm', 'more');
});

test.serial('TestDockerNetworkMultipleNetworksUngracefulDaemonRestart, GracefulDaemonRestart', async (t) => {
  await lab.h1.ask(...CREATE, '--subnet', '10.16.0.0/16', 'green');
  await start(lab.h1, 'two-nets', '--restart', 'always', '--network', 'blue');
  await lab.h1.ask('network', 'connect', 'green', 'two-nets');
  for (const how of ['kill', 'stop'] as const) {
    await lab.h1.dockerd[how]();
    await lab.h1.startDocker();
    await lab.until(
      'it runs again',
      async () => (await lab.h1.ask('inspect', '-f', '{{.State.Running}}', 'two-nets')) === 'true',
      { timeoutMs: 30_000 },
    );
    t.regex((await connection(lab.h1, 'two-nets', 'blue')).IPAddress, /^10\.9\./);
    t.regex((await connection(lab.h1, 'two-nets', 'green')).IPAddress, /^10\.16\./);
  }
  await lab.h1.ask('rm', '-f', 'two-nets');
  await lab.h1.ask('network', 'rm', 'green');
});

test.serial(
  'TestUserDefinedNetworkConnectivity, ConnectDisconnectAlias: names on one host, by Docker’s own DNS',
  async (t) => {
    await start(lab.h1, 'first', '--network', 'blue');
    await start(lab.h1, 'other', '--network', 'blue', '--network-alias', 'nick');
    for (const name of ['other', 'nick']) await pings(t, lab.h1, 'first', name);
    await lab.h1.ask('network', 'disconnect', 'blue', 'other');
    await pingsNot(t, lab.h1, 'first', 'nick');
    await lab.h1.ask('rm', '-f', 'first', 'other');
  },
);

test.serial('TestDockerNetworkDriverUngracefulRestart: nothing of a container is left', async (t) => {
  await lab.until('no endpoint is left', async () => (await lab.endpoints('blue', 0)).length === 0);
  t.notRegex(await lab.h1.must(['ip', '-o', 'link']), /wfep|wfin/);
  const files = await lab.h1.must([
    'sh',
    '-c',
    `find ${lab.h1.stateDir}/docker/endpoints ${lab.h1.stateDir}/reservations ${lab.h1.stateDir}/endpoints -name '*.json'`,
  ]);
  t.is(files, '');
});
