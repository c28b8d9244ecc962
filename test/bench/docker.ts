// The network's share of `docker run --rm`, on a real engine.
//
// On weft, on a user-defined bridge of Docker's own, and on a swarm overlay, in turn, each minus the time with `--network none`.
// Also the plugin's own time for one container.
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

import { messageOf } from '../../core/errors.js';
import { PluginClient } from '../docker/plugin.js';
import { Cluster } from '../lab/cluster.js';
import { dockerHosts, IMAGE, type DockerHost } from '../lab/docker.js';
import { sweep } from '../lab/runs.js';

const ROUNDS = Number(process.env['WEFT_BENCH_ROUNDS'] ?? 20);
const WARM_UP = 3;
const WANTED = { bridge: 1, overlay: 0.4, pluginMs: 5 };
/** Pause, so that the aftermath of one run is over before the next. */
const REST_MS = 200;
const PLUGIN_ROUNDS = 200;

async function main(): Promise<number> {
  sweep();
  const cluster = await Cluster.create(1);
  try {
    await cluster.startController();
    const [host] = await dockerHosts(cluster, ['h1']);
    if (host === undefined) throw new Error('there is no host');
    const runs = await measureRuns(cluster, host);
    const plugin = await measurePlugin(cluster);
    return report(runs, plugin);
  } catch (error) {
    console.error(`bench: ${messageOf(error)}\n${cluster.lab.logs()}`);
    return 1;
  } finally {
    await cluster.lab.down();
  }
}

type Way = 'none' | 'weft' | 'bridge' | 'overlay';

async function measureRuns(cluster: Cluster, host: DockerHost): Promise<Record<Way, number[]>> {
  await cluster.startAgents(['h1']);
  await host.ask(
    'network',
    'create',
    '-d',
    'weft',
    '--ipam-driver',
    'weft',
    '--subnet',
    '10.100.0.0/16',
    'weft',
  );
  await host.ask('network', 'create', 'own-bridge');
  await host.ask('swarm', 'init', '--advertise-addr', host.ip);
  await host.ask('network', 'create', '-d', 'overlay', '--attachable', 'own-overlay');
  const networks = { none: 'none', weft: 'weft', bridge: 'own-bridge', overlay: 'own-overlay' } as const;
  // An overlay without a container is deleted, and created again for the next one.
  await host.ask('run', '-d', '--network', networks.overlay, IMAGE, 'sleep', 'infinity');
  const times: Record<Way, number[]> = { none: [], weft: [], bridge: [], overlay: [] };
  console.log(`docker run --rm, ${ROUNDS} times on each network, in turn …`);
  for (let round = -WARM_UP; round < ROUNDS; round++) {
    for (const way of Object.keys(networks) as Way[]) {
      const began = performance.now();
      await host.ask('run', '--rm', '--network', networks[way], IMAGE, 'true');
      if (round >= 0) times[way].push(performance.now() - began);
      await delay(REST_MS);
    }
  }
  await cluster.process('agent-h1').stop();
  return times;
}

/** The three requests of one container, by the plugin's own clock. */
async function measurePlugin(cluster: Cluster): Promise<number[]> {
  const socket = join(cluster.folder, 'bench.sock');
  const place = cluster.place('h1');
  cluster.dockerHost('h1', place, [
    '--cnm-socket',
    socket,
    '--docker',
    `unix://${join(cluster.folder, 'none.sock')}`,
    '--log-level',
    'debug',
  ]);
  await cluster.startAgents(['h1']);
  const docker = new PluginClient(socket);
  const pool = await docker.must<{ PoolID: string }>('IpamDriver.RequestPool', { Pool: '10.101.0.0/16' });
  const { PoolID } = pool;
  const { Address: gateway } = await docker.must<{ Address: string }>('IpamDriver.RequestAddress', {
    PoolID,
    Options: { RequestAddressType: 'com.docker.network.gateway' },
  });
  const NetworkID = 'bench';
  await docker.must('NetworkDriver.CreateNetwork', {
    NetworkID,
    IPv4Data: [{ AddressSpace: 'weft', Pool: '10.101.0.0/16', Gateway: gateway }],
  });
  const log = cluster.process('agent-h1');
  const took: number[] = [];
  for (let n = 0; n < PLUGIN_ROUNDS; n++) {
    const from = log.log().length;
    const ids = { NetworkID, EndpointID: `bench${n}` };
    const { Address } = await docker.must<{ Address: string }>('IpamDriver.RequestAddress', { PoolID });
    await docker.must('NetworkDriver.CreateEndpoint', { ...ids, Interface: { Address } });
    await docker.must('NetworkDriver.Join', { ...ids, SandboxKey: `/run/netns/bench${n}` });
    await delay(20);
    const logged = log.log().slice(from);
    const times = ['RequestAddress', 'CreateEndpoint', 'Join'].map((name) =>
      Number(new RegExp(`Docker asked.*${name}.* ms=([\\d.]+)`).exec(logged)?.[1]),
    );
    took.push(times.reduce((sum, ms) => sum + ms, 0));
    await docker.must('NetworkDriver.Leave', ids);
    await docker.must('NetworkDriver.DeleteEndpoint', ids);
    await docker.must('IpamDriver.ReleaseAddress', { PoolID, Address: Address.split('/')[0] });
    await delay(50);
  }
  return took;
}

function report(runs: Record<Way, readonly number[]>, plugin: readonly number[]): number {
  const none = median(runs.none);
  const cost = {
    weft: median(runs.weft) - none,
    bridge: median(runs.bridge) - none,
    overlay: median(runs.overlay) - none,
  };
  console.log(`  ${'docker run --rm, median'.padEnd(38)}${'whole'.padStart(12)}${'network'.padStart(12)}`);
  for (const way of Object.keys(runs) as Way[]) {
    const whole = median(runs[way]);
    console.log(
      `  ${way.padEnd(38)}${`${whole.toFixed(0)} ms`.padStart(12)}${`${(whole - none).toFixed(0)} ms`.padStart(12)}`,
    );
  }
  const [toBridge, toOverlay, p50] = [cost.weft / cost.bridge, cost.weft / cost.overlay, median(plugin)];
  console.log(
    `  weft beside Docker’s user-defined bridge: ${toBridge.toFixed(2)} (wanted: at most ${WANTED.bridge})`,
  );
  console.log(
    `  weft beside a warm swarm overlay: ${toOverlay.toFixed(2)} (wanted: at most ${WANTED.overlay})`,
  );
  console.log(
    `  the plugin’s own time, address and endpoint and join, p50: ${p50.toFixed(2)} ms (wanted: at most ${WANTED.pluginMs})`,
  );
  if (toBridge <= WANTED.bridge && toOverlay <= WANTED.overlay && p50 <= WANTED.pluginMs) return 0;
  console.log('Not reached.');
  return 1;
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1
    ? (sorted[middle] ?? NaN)
    : ((sorted[middle - 1] ?? NaN) + (sorted[middle] ?? NaN)) / 2;
}

process.exitCode = await main();
