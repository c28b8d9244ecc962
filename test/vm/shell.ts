// A shell in a virtual machine of the tests: node build/test/vm/shell.js [COMMAND…].
//
// For looking around. The machine has the underlay as eth0 and a segment as eth1, and ends with the shell.
import { createInterface } from 'node:readline/promises';

import { messageOf } from '../../core/errors.js';
import { Machines } from './machines.js';

const machines = await Machines.boot({ count: 1, segments: ['trunk'] });
const host = machines.host(1);
try {
  const given = process.argv.slice(2).join(' ');
  if (given !== '') process.exitCode = await run(given);
  else await talk();
} finally {
  await machines.down();
}

async function run(command: string): Promise<number> {
  const { code, stdout, stderr } = await host.try(command, { timeoutMs: 600_000 });
  process.stdout.write(stdout);
  process.stderr.write(stderr);
  return code;
}

/** Each line runs in a shell of its own; ^D ends the session. */
async function talk(): Promise<void> {
  const lines = createInterface({ input: process.stdin, output: process.stdout, prompt: `${host.name}# ` });
  lines.prompt();
  for await (const line of lines) {
    if (line.trim() !== '') await run(line).catch((error: unknown) => console.error(messageOf(error)));
    lines.prompt();
  }
}
