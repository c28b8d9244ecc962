// The last release and this one in one cluster, under traffic: daemons change one by one, in both directions.
//
// scripts/last-release.sh builds the release. Commands and the shim of CNI are of this checkout throughout.
import { cpSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

import test, { type ExecutionContext } from 'ava';

import { bare, Cluster, type EndpointJson } from '../lab/cluster.js';
import { CniRuntime, type CniResult } from '../lab/cni.js';
import { dockerHosts, IMAGE, type DockerHost } from '../lab/docker.js';
import { must } from '../lab/exec.js';
import { CHECKOUT, WEFT } from '../lab/lab.js';
import { Meter, monotonic } from '../lab/meter.js';
import { temporaryFolder } from '../lab/temporary-folder.js';

type Daemon = 'controller' | 'h1' | 'h2';

let release: string;
test.before(async () => {
  const path = await must(['bash', `${CHECKOUT}/scripts/last-release.sh`, '--path']);
  release = `${path.trim()}/bin/weft`;
});

class Upgrade {
  private constructor(
    readonly lab: Cluster,
    readonly engines: readonly DockerHost[],
  ) {}

  static async up(t: ExecutionContext, secure: boolean): Promise<Upgrade> {
    const lab = await Cluster.create(2, { secure });
    t.teardown(() => lab.lab.down());
    await lab.addContainers('c1', 'c2', 'd1', 'd2');
    const engines = await dockerHosts(lab, ['h1', 'h2']);
    const upgrade = new Upgrade(lab, engines);
    lab.program = release;
    await lab.startController();
    await lab.startAgents(['h1', 'h2']);
    return upgrade;
  }

  /** A daemon of the other release in place of the one that runs. */
  async change(daemon: Daemon, program: string): Promise<void> {
    const { lab } = this;
    lab.program = program;
    if (daemon === 'controller') {
      await lab.process('controller').stop();
      await lab.startController();
    } else {
      await lab.process(`agent-${daemon}`).stop();
      await lab.startAgents([daemon]);
    }
    await lab.until('both hosts are well', async () => {
      const all = await Promise.all(['h1', 'h2'].map((host) => lab.json<{ health: string }>(host, 'status')));
      return all.every(({ health }) => health === 'ok');
    });
  }

  /** By pid: on a host with an engine /run is the host's own. */
  async pidOf(container: string): Promise<number> {
    return this.lab.spawn(`holder-${container}-${monotonic()}`, container, ['sleep', 'infinity']).pid;
  }

  /** Everything that is attached, by what its owner knows of it. */
  async endpoints(): Promise<string[]> {
    const all = await this.lab.json<(EndpointJson & { manager?: string })[]>('h1', 'endpoint', 'ls');
    return all.map(({ name, network, node, ip, mac }) => [name, network, node, ip, mac].join(' ')).toSorted();
  }
}

async function changes(t: ExecutionContext, secure: boolean, order: readonly Daemon[]): Promise<void> {
  const upgrade = await Upgrade.up(t, secure);
  const { lab, engines } = upgrade;
  const cni = ['h1', 'h2'].map((host) => new CniRuntime(() => lab, host));
  await lab.json('h1', 'network', 'create', 'blue', '--subnet', '10.100.0.0/16');
  const create = [
    'network',
    'create',
    '-d',
    'weft',
    '--ipam-driver',
    'weft',
    '--subnet',
    '10.9.0.0/16',
    'dock',
  ];
  const added: { host: CniRuntime; call: { id: string; env: Record<string, string> }; result: CniResult }[] =
    [];
  for (const [i, engine] of engines.entries()) {
    await engine.ask(...create);
    await engine.ask('run', '-d', '--init', '--name', `k${i + 1}`, '--network', 'dock', IMAGE);
    const env = { CNI_NETNS: `/proc/${await upgrade.pidOf(`c${i + 1}`)}/ns/net` };
    const call = { id: `c0ffee0${i + 1}`, env };
    const host = cni[i] as CniRuntime;
    added.push({ host, call, result: await host.add(call) });
  }
  const attached = await lab.until('all are known', async () => {
    const all = await upgrade.endpoints();
    return all.length === 4 && all;
  });
  const meter = await Meter.start(
    lab.place('c1'),
    lab.place('c2'),
    bare(added[1]?.result.ips[0]?.address ?? ''),
  );
  t.teardown(() => meter.stop());
  const began = monotonic();
  const docked = async (): Promise<number> => {
    const format = '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}';
    const ip = (await engines[1]?.ask('inspect', '-f', format, 'k2')) ?? '';
    return (await (engines[0] as DockerHost).pingFrom('k1', ip, { count: 2 })).received;
  };

  const both = [
    ...order.map((daemon) => ({ daemon, program: WEFT })),
    // Back, which is what somebody does whom the new one does not please, and forth again.
    ...order.slice(0, 2).map((daemon) => ({ daemon, program: release })),
    ...order.slice(0, 2).map((daemon) => ({ daemon, program: WEFT })),
  ];
  for (const { daemon, program } of both) {
    const what = `${daemon} ${program === WEFT ? 'new' : 'old'}`;
    await upgrade.change(daemon, program);
    t.deepEqual(await upgrade.endpoints(), attached, what);
    // New containers on both hosts, which leave again.
    const fresh = await Promise.all(
      ['d1', 'd2'].map(async (container, i) =>
        lab.json<EndpointJson>(`h${i + 1}`, 'attach', 'blue', `pid:${await upgrade.pidOf(container)}`),
      ),
    );
    await lab.until(`${what}: they reach each other`, () => lab.reaches('d1', bare(fresh[1]?.ip ?? '')));
    for (const { node, target } of fresh) await lab.weft(node, 'detach', 'blue', target);
    t.is(await docked(), 2, what);
    for (const { host, call, result } of added)
      await host.done({ command: 'CHECK', ...call, conf: { prevResult: result } });
    await lab.until('what left is forgotten', async () => (await upgrade.endpoints()).length === 4);
  }
  const report = await meter.settled(began);
  t.deepEqual([report.lost, report.stream.broken], [0, undefined]);

  // What one release has attached the other detaches.
  for (const { host, call } of added) await host.done({ command: 'DEL', ...call });
  for (const [i, engine] of engines.entries()) await engine.ask('rm', '-f', `k${i + 1}`);
  await lab.until('nothing is attached', async () => (await upgrade.endpoints()).length === 0);
  await lab.json('h1', 'network', 'rm', 'blue');
}

/** The last release, under a version that is older than any. */
function ancient(t: ExecutionContext): string {
  const folder = temporaryFolder(t, 'weft-ancient-');
  const from = dirname(dirname(release));
  for (const part of ['build', 'node_modules', 'deploy']) symlinkSync(join(from, part), join(folder, part));
  cpSync(join(from, 'bin'), join(folder, 'bin'), { recursive: true });
  const about = JSON.parse(readFileSync(join(from, 'package.json'), 'utf8')) as object;
  writeFileSync(join(folder, 'package.json'), JSON.stringify({ ...about, version: '0.0.9' }));
  return join(folder, 'bin/weft');
}

test.serial('a version that is too old is told, on both sides', async (t) => {
  const lab = await Cluster.create(2);
  t.teardown(() => lab.lab.down());
  const old = ancient(t);
  await lab.startController();
  await lab.startAgents(['h2']);
  lab.program = old;
  await lab.startAgents(['h1']);
  const problems = async (...where: string[]): Promise<string[]> => {
    // Where the agent does not answer the exit status is 1.
    const { stdout } = await lab.weft('h2', 'status', ...where, '-o', 'json');
    const status = JSON.parse(stdout) as { problems: { what: string; why: string }[] };
    return status.problems
      .filter(({ why }) => why.startsWith('its weft'))
      .map(({ what, why }) => `${what}: ${why.replace(/, and .*/, '')}`);
  };
  t.deepEqual(await problems('--agent', '/nonexistent.sock'), ['node h1: its weft is 0.0.9']);
  await lab.process('controller').stop();
  await lab.startController();
  const told = ['the controller at 192.0.2.2:7400: its weft is 0.0.9'];
  await lab.until('it is told', async () => (await problems()).join() === told.join());
});

test.serial('plain text: the agents first', (t) => changes(t, false, ['h1', 'controller', 'h2']));
test.serial('by token: the controller first', (t) => changes(t, true, ['controller', 'h2', 'h1']));
