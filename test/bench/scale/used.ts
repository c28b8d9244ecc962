// CPU and memory of groups of processes of a measured cluster.
import { setTimeout as delay } from 'node:timers/promises';

import { cpuOf, residentOf } from '../usage.js';
import { REAL, type MeasuredCluster } from './measured-cluster.js';

/** Of each group: its process that used most, or has most. */
export interface Used {
  agent: number;
  controller: number;
  etcd: number;
  /** Of all hollow nodes together, by their number. */
  hollow: number;
}

const GROUPS = ['agent', 'controller', 'etcd', 'hollow'] as const;

type Pids = Record<keyof Used, readonly number[]>;

function pidsOf(of: MeasuredCluster): Pids {
  const pids = (names: readonly string[]): number[] =>
    names.map((name) => of.process(name)).flatMap((one) => (one.isRunning ? [one.pid] : []));
  return {
    agent: pids([`agent-${REAL}`]),
    controller: pids(of.controllers),
    etcd: pids(of.servers),
    hollow: pids([...of.workers.keys()]),
  };
}

function grouped(of: MeasuredCluster, valueOf: (pid: number) => number): Used {
  const pids = pidsOf(of);
  const used = { agent: 0, controller: 0, etcd: 0, hollow: 0 };
  for (const group of GROUPS) {
    const values = pids[group].map(valueOf);
    used[group] =
      group === 'hollow'
        ? values.reduce((sum, value) => sum + value, 0) / of.layout.nodes.length
        : Math.max(0, ...values);
  }
  return used;
}

/** Resident megabytes. */
export const memory = (of: MeasuredCluster): Used => grouped(of, residentOf);

/** Parts of a core, while the work lasts. */
export async function cpuWhile<T>(
  of: MeasuredCluster,
  work: () => Promise<T>,
): Promise<{ used: Used; result: T }> {
  const before = new Map(
    Object.values(pidsOf(of))
      .flat()
      .map((pid) => [pid, cpuOf(pid)]),
  );
  const began = performance.now();
  const result = await work();
  const seconds = (performance.now() - began) / 1000;
  // One that was started since has used all of its time here.
  return { used: grouped(of, (pid) => (cpuOf(pid) - (before.get(pid) ?? 0)) / seconds), result };
}

export const cpuFor = async (of: MeasuredCluster, seconds: number): Promise<Used> =>
  (await cpuWhile(of, () => delay(seconds * 1000))).used;
