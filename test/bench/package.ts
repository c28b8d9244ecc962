// The packages: how large they are, and how the single executable starts beside the checkout, in one run.
//
// scripts/bench.sh makes them first (dist/test).
import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';

import { Cluster } from '../lab/cluster.js';
import { CHECKOUT, WEFT } from '../lab/lab.js';
import { sweep } from '../lab/runs.js';
import { cpuOf, cpuOfCommands, median, residentOf } from './usage.js';

const FOLDER = join(CHECKOUT, 'dist/test');
const EXECUTABLE = join(FOLDER, `weft-linux-${process.arch}`);
const STARTS = Number(process.env['WEFT_BENCH_STARTS'] ?? 5);
const COMMANDS = [
  ['--version'],
  ['agent', '--help'],
  ['network', 'ls', '--controller', '127.0.0.1:1'],
] as const;

interface Start {
  seconds: number;
  cpu: number;
  resident: number;
}

/** Of an agent in an empty cluster, until it serves. */
async function startOf(cluster: Cluster, program: string): Promise<Start> {
  cluster.program = program;
  const began = performance.now();
  await cluster.startAgents(['h1']);
  const seconds = (performance.now() - began) / 1000;
  const agent = cluster.process('agent-h1');
  const start = { seconds, cpu: cpuOf(agent.pid), resident: residentOf(agent.pid) };
  await agent.stop();
  return start;
}

function row(what: string, unit: string, executable: number, checkout: number, most: number): boolean {
  const cells = [executable, checkout, most]
    .map((value) => `${value.toFixed(2)} ${unit}`.padStart(12))
    .join('');
  const missed = executable > most * checkout;
  console.log(
    `  ${what.padEnd(34)}${cells.replace(/.{12}$/, `${most.toFixed(2)} ×`.padStart(12))}${missed ? '  not reached' : ''}`,
  );
  return !missed;
}

async function main(): Promise<number> {
  if (!existsSync(EXECUTABLE)) {
    console.error('bench: there are no packages. Run: npm run bench package');
    return 1;
  }
  sweep();
  console.log('Sizes');
  for (const name of readdirSync(FOLDER))
    console.log(`  ${name.padEnd(34)}${(statSync(join(FOLDER, name)).size / 1e6).toFixed(1).padStart(9)} MB`);
  console.log(
    `Starts\n  ${''.padEnd(34)}${['executable', 'checkout', 'at most'].map((text) => text.padStart(12)).join('')}`,
  );
  const words = COMMANDS.flatMap((args) => [
    [EXECUTABLE, ...args],
    [process.execPath, WEFT, ...args],
  ]);
  const cpu = cpuOfCommands(words, 4 * STARTS).map((seconds) => 1000 * seconds);
  // Node.js 24 in place of the checkout's may be a little slower or faster: a tenth is no news.
  const rows = COMMANDS.map((args, i) =>
    row(`CPU of weft ${args.slice(0, 2).join(' ')}`, 'ms', cpu[2 * i] ?? NaN, cpu[2 * i + 1] ?? NaN, 1.1),
  );
  const cluster = await Cluster.create(1);
  try {
    await cluster.startController();
    const starts = new Map<string, Start[]>([
      [EXECUTABLE, []],
      [WEFT, []],
    ]);
    for (let round = 0; round <= STARTS; round++)
      for (const [program, of] of starts) {
        const start = await startOf(cluster, program);
        // The first one writes the native parts.
        if (round > 0) of.push(start);
      }
    const figure = (program: string, of: keyof Start): number =>
      median((starts.get(program) ?? []).map((start) => start[of]));
    for (const [what, unit, key, most] of [
      ['an agent, until it serves', 's', 'seconds', 1.1],
      ['  its CPU', 's', 'cpu', 1.1],
      ['  resident', 'MB', 'resident', 1.25],
    ] as const)
      rows.push(row(what, unit, figure(EXECUTABLE, key), figure(WEFT, key), most));
  } finally {
    await cluster.lab.down();
  }
  return rows.every(Boolean) ? 0 : 1;
}

process.exitCode = await main();
