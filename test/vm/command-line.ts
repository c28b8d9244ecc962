// weft's command line, loaded once in a virtual machine and called many times.
//
// Each call has its own variables, output and exit status, as the process `weft` has them.
import { main } from '../../cli/main.js';
import type { Done, WeftCall } from './protocol.js';

const own = { ...process.env };

const exitStatus = (): number => Number(process.exitCode ?? 0);

async function answer({ id, args, env, cwd }: WeftCall): Promise<void> {
  for (const name of Object.keys(process.env)) if (!(name in own)) delete process.env[name];
  Object.assign(process.env, own, env);
  process.chdir(cwd);
  process.exitCode = undefined;
  let stdout = '';
  let stderr = '';
  const write = process.stdout.write.bind(process.stdout);
  const writeError = process.stderr.write.bind(process.stderr);
  process.stdout.write = (text): boolean => {
    stdout += String(text);
    return true;
  };
  process.stderr.write = (text): boolean => {
    stderr += String(text);
    return true;
  };
  try {
    await main(args);
  } finally {
    process.stdout.write = write;
    process.stderr.write = writeError;
    // Every call adds listeners of its own, and expects to be the only one.
    process.stdout.removeAllListeners('error');
    process.removeAllListeners('SIGINT');
  }
  const done: Done = { kind: 'done', id, code: exitStatus(), stdout, stderr };
  process.send?.(done);
}

let queue = Promise.resolve();
process.on('message', (call: WeftCall) => {
  queue = queue.then(() => answer(call));
});
// Ends with the program that sends the calls.
process.on('disconnect', () => process.exit());
