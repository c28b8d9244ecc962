// Failures between Docker and weft on two real engines.
//
// Either is killed, Docker's requests are lost, or the plugin's state is lost. Traffic goes on, and every address belongs to
// one container.
import { rmSync } from 'node:fs';
import { join } from 'node:path';

import test from 'ava';

import { bare } from '../lab/cluster.js';
import { PLUGIN_SOCKET, type DockerHost } from '../lab/docker.js';
import { shareAmongTests } from '../lab/fresh.js';
import { connection, CREATE, DockerCluster, pings, refused, start } from './cluster.js';

let lab: DockerCluster;

async function setUp(): Promise<void> {
  lab = await DockerCluster.up();
  await lab.createOnBoth('--subnet', '10.9.0.0/16', 'blue');
  await start(lab.h2, 'far', '--network', 'blue');
}

shareAmongTests(test, setUp, async () => lab?.down());

/** Replaces the agent by a stub that accepts every request of Docker: what Docker notifies is lost. */
async function unheard(host: DockerHost, name: string, work: () => Promise<void>): Promise<void> {
  const agent = lab.cluster.process(`agent-${host.name}`);
  await agent.kill();
  const stub = host.spawn(name, [
    process.execPath,
    '-e',
    `const fs = require('fs'), http = require('http'); fs.rmSync('/run/docker/plugins/weft.sock', { force: true });
     http.createServer((q, s) => q.resume().on('end', () => s.end('{}'))).listen('/run/docker/plugins/weft.sock', () => console.log('listens'));`,
  ]);
  await lab.until('the stub listens', () => stub.log().includes('\nlistens'));
  await work();
  await stub.kill();
  await lab.cluster.startAgents([host.name]);
}

/** All addresses that Docker has are different, and weft has the same. */
async function addressesAreRight(): Promise<string | undefined> {
  const docker: string[] = [];
  for (const host of [lab.h1, lab.h2]) {
    const ids = (await host.ask('ps', '-q')).split('\n').filter(Boolean);
    for (const id of ids) docker.push((await connection(host, id, 'blue')).IPAddress);
  }
  const weft = (await lab.cluster.json<{ ip: string }[]>('h1', 'endpoint', 'ls', '--network', 'blue')).map(
    ({ ip }) => bare(ip),
  );
  if (new Set(docker).size !== docker.length) return `Docker has an address twice: ${docker.join(' ')}`;
  const same = docker.toSorted().join(' ') === weft.toSorted().join(' ');
  return same ? undefined : `Docker has ${docker.join(' ')}, weft has ${weft.join(' ')}`;
}

const settled = (): Promise<unknown> =>
  lab.until(
    'Docker and weft agree',
    async () => {
      const why = await addressesAreRight();
      if (why !== undefined) throw new Error(why);
      return true;
    },
    { timeoutMs: 45_000 },
  );

test.serial(
  'the agent is killed under running containers: traffic goes on, and its endpoints are restored',
  async (t) => {
    await start(lab.h1, 'stays', '--network', 'blue');
    const far = await connection(lab.h2, 'far', 'blue');
    const stays = await connection(lab.h1, 'stays', 'blue');
    await lab.endpoints('blue', 2);
    await lab.cluster.process('agent-h1').kill();
    await pings(t, lab.h1, 'stays', far.IPAddress);
    await lab.cluster.startAgents(['h1']);
    await pings(t, lab.h1, 'stays', far.IPAddress);
    await settled();
    // Its address stays in use.
    await refused(
      t,
      lab.h1,
      ['run', '--rm', '--network', 'blue', '--ip', stays.IPAddress, 'busybox', 'true'],
      /in use/,
    );
    await start(lab.h1, 'next', '--network', 'blue');
    t.not((await connection(lab.h1, 'next', 'blue')).IPAddress, stays.IPAddress);
    await lab.h1.ask('rm', '-f', 'next', 'stays');
    await settled();
  },
);

test.serial(
  'TestDockerNetworkDriverUngracefulRestart: dockerd is killed and started again, with containers that restart always',
  async (t) => {
    await start(lab.h1, 'always', '--restart', 'always', '--network', 'blue');
    const fixed = (await connection(lab.h1, 'always', 'blue')).Gateway.replace(/1$/, '200');
    await start(lab.h1, 'fixed', '--restart', 'always', '--network', 'blue', '--ip', fixed);
    const reused = fixed.replace(/200$/, '199');
    await start(lab.h1, 'never', '--network', 'blue', '--ip', reused);
    await lab.h1.dockerd.kill();
    await lab.h1.startDocker();
    await lab.until(
      'they run again',
      async () => (await lab.h1.ask('ps', '-q', '--filter', 'status=running')).split('\n').length === 2,
      { timeoutMs: 30_000 },
    );
    const far = await connection(lab.h2, 'far', 'blue');
    for (const name of ['always', 'fixed']) await pings(t, lab.h1, name, far.IPAddress);
    t.is((await connection(lab.h1, 'fixed', 'blue')).IPAddress, fixed);
    await pings(t, lab.h2, 'far', fixed);
    await settled();
    t.is((await lab.h1.must(['ip', '-o', 'link'])).match(/wfep/g)?.length, 2);
    // The address of the container that does not restart is free.
    await start(lab.h1, 'bar', '--network', 'blue', '--ip', reused);
    t.is((await connection(lab.h1, 'bar', 'blue')).IPAddress, reused);
    await settled();
    await lab.h1.ask('rm', '-f', 'always', 'fixed', 'never', 'bar');
    await settled();
  },
);

test.serial('dockerd and the agent are killed together', async (t) => {
  await start(lab.h1, 'both', '--restart', 'always', '--network', 'blue');
  const { Gateway } = await connection(lab.h1, 'both', 'blue');
  await Promise.all([lab.h1.dockerd.kill(), lab.cluster.process('agent-h1').kill()]);
  await lab.cluster.startAgents(['h1']);
  await lab.h1.startDocker();
  await lab.until(
    'it runs again',
    async () => (await lab.h1.ask('ps', '-q', '--filter', 'status=running')) !== '',
    { timeoutMs: 30_000 },
  );
  await settled();
  const again = await connection(lab.h1, 'both', 'blue');
  t.is(again.Gateway, Gateway);
  t.not(again.IPAddress, Gateway);
  await pings(t, lab.h1, 'both', (await connection(lab.h2, 'far', 'blue')).IPAddress);
  await lab.h1.ask('rm', '-f', 'both');
  await settled();
});

test.serial('an endpoint whose Leave and DeleteEndpoint were lost is deleted', async (t) => {
  const { Gateway } = await connection(lab.h2, 'far', 'blue');
  const ip = Gateway.replace(/1$/, '201');
  await start(lab.h2, 'lost', '--network', 'blue', '--ip', ip);
  await lab.endpoints('blue', 2);
  await unheard(lab.h2, 'unheard1', async () => {
    await lab.h2.ask('rm', '-f', 'lost');
  });
  // Its address is free at once, although it was never released.
  await start(lab.h2, 'heir', '--network', 'blue', '--ip', ip);
  t.is((await connection(lab.h2, 'heir', 'blue')).IPAddress, ip);
  await settled();
  t.is((await lab.h2.must(['ip', '-o', 'link'])).match(/wfep/g)?.length, 2);
  await lab.h2.ask('rm', '-f', 'heir');
  await settled();
});

test.serial('a lost docker network rm: the host leaves the network all the same', async (t) => {
  await lab.h2.ask(...CREATE, '--subnet', '10.66.0.0/16', '-o', 'weft.network=lone', 'lone');
  t.true(await lab.hasNetwork('lone'));
  await unheard(lab.h2, 'unheard2', async () => {
    await lab.h2.ask('network', 'rm', 'lone');
  });
  await lab.until('the network is deleted', async () => !(await lab.hasNetwork('lone')), {
    timeoutMs: 60_000,
  });
  await lab.h2.ask(...CREATE, '--subnet', '10.66.0.0/16', 'lone');
  await lab.until('it can be created again', () => lab.hasNetwork('lone'));
  await lab.h2.ask('network', 'rm', 'lone');
});

test.serial('Docker’s socket is elsewhere: a problem until it is there', async (t) => {
  const elsewhere = '/run/elsewhere.sock';
  const restart = async (engine: string): Promise<void> => {
    await lab.cluster.process('agent-h2').stop();
    lab.cluster.dockerHost('h2', lab.h2, ['--cnm-socket', PLUGIN_SOCKET, '--docker', `unix://${engine}`]);
    await lab.cluster.startAgents(['h2']);
    // What needs its consent is refused until then.
    await lab.until('the other node knows that it is back', async () => {
      const { peers } = await lab.cluster.json<{ peers: { state: string }[] }>('h1', 'status');
      return peers.every(({ state }) => state === 'up');
    });
  };
  const named = async (): Promise<boolean> => {
    const { problems } = await lab.cluster.json<{ problems: { why: string }[] }>('h2', 'status');
    return problems.some(({ why }) => why.includes(elsewhere));
  };
  await restart(elsewhere);
  await lab.until('status names the socket', named);
  await lab.cluster.sh('h2', `ln -s ${lab.h2.engine} ${elsewhere}`);
  await lab.until('the problem ends', async () => !(await named()));
  await start(lab.h2, 'known', '--network', 'blue');
  await lab.until('names are learnt', async () =>
    (await lab.endpoints('blue', 2)).some(({ target }) => target === 'docker:known'),
  );
  await lab.h2.ask('rm', '-f', 'known');
  await restart(lab.h2.engine);
  await lab.cluster.sh('h2', `rm ${elsewhere}`);
  t.pass();
});

test.serial('etcd away: containers start, stop, restart and communicate', async (t) => {
  // Outside its host's own subnet: nobody could grant the address anew.
  const ip = (await connection(lab.h2, 'far', 'blue')).Gateway.replace(/1$/, '202');
  const fixed = ['--restart', 'always', '--network', 'blue', '--ip', ip];
  await start(lab.h1, 'fixed', ...fixed);
  await lab.endpoints('blue', 2);
  await lab.cluster.process('controller').stop();
  for (let n = 1; n <= 2; n++) await lab.h1.ask('restart', '-t', '0', 'fixed');
  await lab.h1.ask('rm', '-f', 'fixed');
  await start(lab.h1, 'fixed', ...fixed);
  await pings(t, lab.h2, 'far', ip);
  await lab.h1.dockerd.kill();
  await lab.h1.startDocker();
  await lab.until(
    'it runs again',
    async () => (await lab.h1.ask('ps', '-q', '--filter', 'status=running')) !== '',
    { timeoutMs: 30_000 },
  );
  t.is((await connection(lab.h1, 'fixed', 'blue')).IPAddress, ip);
  await pings(t, lab.h2, 'far', ip);
  await start(lab.h1, 'alone', '--network', 'blue');
  await pings(t, lab.h1, 'alone', (await connection(lab.h2, 'far', 'blue')).IPAddress);
  await refused(t, lab.h1, [...CREATE, '--subnet', '10.67.0.0/16', 'n'], /etcd/);
  await lab.h1.ask('rm', '-f', 'alone');
  await start(lab.h1, 'later', '--network', 'blue');
  await lab.cluster.startController();
  await settled();
  await pings(t, lab.h2, 'far', ip);
  await lab.h1.ask('rm', '-f', 'later', 'fixed');
  await settled();
});

test.serial('the plugin’s state is lost: containers go on, and the error gives the next step', async (t) => {
  await start(lab.h1, 'old', '--network', 'blue');
  // Also of a container that the agent has not looked into yet.
  await start(lab.h1, 'young', '--network', 'blue');
  await lab.cluster.process('agent-h1').kill();
  rmSync(join(lab.h1.stateDir, 'docker'), { recursive: true });
  await lab.cluster.startAgents(['h1']);
  await pings(t, lab.h1, 'old', (await connection(lab.h2, 'far', 'blue')).IPAddress);
  await refused(
    t,
    lab.h1,
    ['run', '--rm', '--network', 'blue', 'busybox', 'true'],
    /state directory was lost.*create it again, with the same --subnet/,
  );
  await lab.h1.ask('rm', '-f', 'old', 'young');
  await lab.h1.ask('network', 'rm', 'blue');
  await lab.h1.ask(...CREATE, '--subnet', '10.9.0.0/16', 'blue');
  await start(lab.h1, 'new', '--network', 'blue');
  await pings(t, lab.h1, 'new', (await connection(lab.h2, 'far', 'blue')).IPAddress);
  await settled();
});
