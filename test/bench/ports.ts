// The time to publish a port through the agent's socket, with 0 and with 1,000 ports.
//
// The target: the 1,001st costs at most twice the first.
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

import { credentials } from '@grpc/grpc-js';

import { messageOf } from '../../core/errors.js';
import { call } from '../../daemon/grpc.js';
import { AgentServiceClient } from '../../proto/gen/weft/v1/agent.js';
import { Cluster } from '../lab/cluster.js';
import { sweep } from '../lab/runs.js';

const ROUNDS = 40;
const MANY = 1000;
const WANTED_RATIO = 2;
/** Pause, so that the aftermath of one (etcd above all) is over before the next is measured. */
const REST_MS = 150;

async function main(): Promise<number> {
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
  await cluster.startEtcd();
  const config = { Network: '10.100.0.0/16', Backend: { Type: 'vxlan', VNI: 4100 } };
  await cluster.etcdctl('put', '/weft/networks/bench/config', JSON.stringify(config));
  await cluster.startAgents(['h1']);
  await cluster.addContainers('many', 'one');
  await cluster.attach('h1', 'bench', 'many', '--name', 'many');
  await cluster.attach('h1', 'bench', 'one', '--name', 'one');
  const socket = join(cluster.lab.host(1).runDir, 'agent.sock');
  const client = new AgentServiceClient(`unix:${socket}`, credentials.createInsecure());
  const how = { peer: 'the agent', deadlineMs: 30_000 };
  const publish = (endpoint: string, ...specs: string[]): Promise<unknown> =>
    call(client.publishPorts.bind(client), { endpoint, network: '', publish: specs, everywhere: false }, how);
  const rm = (endpoint: string, ...ports: string[]): Promise<unknown> =>
    call(client.unpublishPorts.bind(client), { endpoint, network: '', ports, all: false }, how);
  /** Publishes one more port and deletes it, so that each round starts with the same number. */
  const rounds = async (endpoint: string): Promise<number[]> => {
    const times: number[] = [];
    for (let round = -5; round < ROUNDS; round++) {
      const port = 10_000 + round;
      const began = performance.now();
      await publish(endpoint, `${port}:80`);
      if (round >= 0) times.push(performance.now() - began);
      await delay(REST_MS);
      await rm(endpoint, `${port}`);
      await delay(REST_MS);
    }
    return times.toSorted((a, b) => a - b);
  };
  try {
    const first = await rounds('one');
    await publish('many', `20000-${20_000 + MANY - 1}:1-${MANY}`);
    await delay(2000);
    const another = await rounds('one');
    const same = await rounds('many');
    return report({ first, another, same });
  } finally {
    client.close();
  }
}

function report(times: Record<'first' | 'another' | 'same', number[]>): number {
  const at = (list: readonly number[], q: number): number => list[Math.floor((list.length - 1) * q)] ?? NaN;
  const row = (name: string, list: readonly number[]): void =>
    console.log(
      `  ${name.padEnd(46)}${[0.5, 0.9].map((q) => `${at(list, q).toFixed(2)} ms`.padStart(12)).join('')}`,
    );
  console.log(`  ${'publishing one port'.padEnd(46)}${'p50'.padStart(12)}${'p90'.padStart(12)}`);
  row('where there is none', times.first);
  row(`where another container has ${MANY}`, times.another);
  row(`where the container itself has ${MANY}`, times.same);
  const ratio = Math.max(at(times.another, 0.5), at(times.same, 0.5)) / at(times.first, 0.5);
  console.log(`  ratio of the p50: ${ratio.toFixed(2)} (wanted: at most ${WANTED_RATIO})`);
  return ratio <= WANTED_RATIO ? 0 : 1;
}

process.exitCode = await main();
