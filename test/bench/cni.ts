// ADD and DEL by weft's CNI plugin, compared with CNI's own bridge and host-local.
//
// In turn, each for a fresh namespace, started as a runtime starts them: a process, the configuration on its standard input. The
// agent's own part is measured by asking it without the shim.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { Agent, request } from 'node:http';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

import { messageOf } from '../../core/errors.js';
import { Cluster } from '../lab/cluster.js';
import { CniRuntime, SHIM } from '../lab/cni.js';
import { PLUGINS } from '../lab/cni-host.js';
import { environment, ipBatch } from '../lab/exec.js';
import { sweep } from '../lab/runs.js';

const ROUNDS = Number(process.env['WEFT_BENCH_ROUNDS'] ?? 200);
/** Rounds that are not counted: they open connections and compile code. */
const WARM_UP = 20;
/** Pause, so that the aftermath of one is over before the other is measured. */
const REST_MS = 100;
/** The targets: p50 of an ADD by the shim divided by p50 of bridge and host-local, and milliseconds of the agent's part. */
const WANTED = { ratio: 1, agentMs: 5 };
const WAYS = ['weft', 'bridge', 'agent'] as const;
type Way = (typeof WAYS)[number];
type Times = Record<Way, number[]>;

async function main(): Promise<number> {
  if (!existsSync(join(PLUGINS, 'bridge'))) {
    console.log(`There is no ${PLUGINS}/bridge to compare with (Debian: containernetworking-plugins).`);
    return 1;
  }
  sweep();
  const cluster = await Cluster.create(1);
  try {
    return await measure(cluster);
  } catch (error) {
    console.error(`bench: ${messageOf(error)}\n${cluster.lab.logs()}`);
    return 1;
  } finally {
    await cluster.lab.down();
  }
}

async function measure(cluster: Cluster): Promise<number> {
  const host = cluster.lab.host(1);
  const runtime = new CniRuntime(() => cluster, 'h1');
  await cluster.startEtcd();
  const config = { Network: '10.100.0.0/16', SubnetLen: 20, Backend: { Type: 'vxlan', VNI: 4100 } };
  await cluster.etcdctl('put', '/weft/networks/bench/config', JSON.stringify(config));
  await cluster.startAgents(['h1'], ['--join', 'bench']);
  const numbers = Array.from({ length: ROUNDS + WARM_UP }, (_, n) => n);
  await ipBatch(numbers.flatMap((n) => WAYS.map((way) => `netns add ${cluster.lab.run}-${way}${n}`)));

  const conf = runtime.conf({ name: 'bench', network: 'bench' });
  const byHand = {
    ...{ cniVersion: '1.0.0', name: 'byhand', type: 'bridge', bridge: 'byhand0', isGateway: true, mtu: 1450 },
    ipam: {
      ...{ type: 'host-local', dataDir: join(cluster.folder, 'host-local') },
      ranges: [[{ subnet: '10.101.0.0/20' }]],
      routes: [{ dst: '0.0.0.0/0' }],
    },
  };
  const variables = (command: string, way: Way, n: number): Record<string, string> => ({
    ...{ CNI_COMMAND: command, CNI_CONTAINERID: `bench-${way}${n}`, CNI_IFNAME: 'eth0', CNI_PATH: PLUGINS },
    CNI_NETNS: `/run/netns/${cluster.lab.run}-${way}${n}`,
  });
  const started = (argv: readonly string[], env: Record<string, string>, input: object): number => {
    const began = performance.now();
    const { status, stdout, stderr } = spawnSync('nsenter', [`--net=/run/netns/${host.namespace}`, ...argv], {
      env: environment(env),
      input: JSON.stringify(input),
      encoding: 'utf8',
    });
    const took = performance.now() - began;
    if (status !== 0) throw new Error(`${argv.join(' ')}: ${stdout}${stderr}`);
    return took;
  };
  const agent = new Agent({ keepAlive: true });
  const ways: Record<Way, (command: string, n: number) => number | Promise<number>> = {
    weft: (command, n) => started(['/bin/sh', SHIM], variables(command, 'weft', n), conf),
    bridge: (command, n) => started([join(PLUGINS, 'bridge')], variables(command, 'bridge', n), byHand),
    agent: (command, n) =>
      ask(agent, runtime.socket, {
        ...{ command, id: `bench-agent${n}`, ifname: 'eth0', conf: JSON.stringify(conf) },
        netns: `/run/netns/${cluster.lab.run}-agent${n}`,
      }),
  };
  const times: Record<'ADD' | 'DEL', Times> = {
    ADD: { weft: [], bridge: [], agent: [] },
    DEL: { weft: [], bridge: [], agent: [] },
  };
  console.log(`${ROUNDS} ADDs and DELs by weft, and by CNI's bridge with host-local, in turn …`);
  for (let round = -WARM_UP; round < ROUNDS; round++) {
    for (const command of ['ADD', 'DEL'] as const) {
      for (const way of WAYS) {
        const took = await ways[way](command, round + WARM_UP);
        if (round >= 0) times[command][way].push(took);
        await delay(REST_MS);
      }
    }
  }
  agent.destroy();
  return report(times);
}

function ask(agent: Agent, socketPath: string, form: Record<string, string>): Promise<number> {
  const began = performance.now();
  return new Promise((resolve, reject) => {
    const call = request({ socketPath, agent, method: 'POST', path: '/cni' }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (part: string) => (text += part));
      response.on('end', () => {
        if (response.statusCode === 200) resolve(performance.now() - began);
        else reject(new Error(text));
      });
    });
    call.on('error', reject);
    call.end(new URLSearchParams(form).toString());
  });
}

function report(times: Record<'ADD' | 'DEL', Times>): number {
  const names: Record<Way, string> = {
    weft: 'weft, through the shim',
    bridge: 'CNI’s bridge and host-local',
    agent: 'weft’s agent alone',
  };
  console.log(`  ${''.padEnd(38)}${'p50'.padStart(12)}${'p99'.padStart(12)}`);
  for (const command of ['ADD', 'DEL'] as const) {
    for (const way of WAYS) {
      const shown = [0.5, 0.99].map((q) => `${quantile(times[command][way], q).toFixed(2)} ms`.padStart(12));
      console.log(`  ${`${command}: ${names[way]}`.padEnd(38)}${shown.join('')}`);
    }
  }
  const ratio = quantile(times.ADD.weft, 0.5) / quantile(times.ADD.bridge, 0.5);
  const agentMs = quantile(times.ADD.agent, 0.5);
  console.log(`  ratio of the p50 of ADD: ${ratio.toFixed(2)} (wanted: at most ${WANTED.ratio})`);
  console.log(`  the agent's part of ADD: ${agentMs.toFixed(2)} ms (wanted: at most ${WANTED.agentMs} ms)`);
  if (ratio <= WANTED.ratio && agentMs <= WANTED.agentMs) return 0;
  console.log('Not reached.');
  return 1;
}

function quantile(values: readonly number[], q: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.ceil(q * sorted.length) - 1)] ?? NaN;
}

process.exitCode = await main();
