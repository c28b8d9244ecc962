// Starts the process of a container that is restarted.
//
// As at the first run, which the command line starts: the process makes its namespaces, waits to be attached, and then runs on
// without the agent.
import { spawn } from 'node:child_process';
import type { Duplex } from 'node:stream';

import { failedPrecondition, messageOf } from '../../core/errors.js';
import { LAUNCH_READY, launchArgv, launchWord, type Launch } from '../../core/launch.js';
import type { RunNetwork } from '../../core/run.js';

export interface LaunchOptions {
  id: string;
  network: RunNetwork;
  command: readonly string[];
  directory: string;
  /** NAME=VALUE. */
  environment: readonly string[];
}

/** A process that waits inside its namespaces. */
export interface Launched {
  readonly pid: number;
  /** Lets it execute the command. */
  go(word: Launch): void;
  giveUp(): void;
  onExit(listener: () => void): void;
}

/** Making namespaces takes milliseconds; a host that is out of memory or processes never finishes. */
const READY_WITHIN_MS = 10_000;

/** @throws WeftError FAILED_PRECONDITION where it cannot be started; then nothing is left */
export function launch(options: LaunchOptions): Promise<Launched> {
  const { id, network, command, directory, environment } = options;
  const [program = '', ...args] = launchArgv(id, network, command);
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      cwd: directory,
      env: Object.fromEntries(environment.map((entry) => split(entry))),
      stdio: ['ignore', 'ignore', 'inherit', 'pipe'],
      detached: true,
    });
    const pipe = child.stdio[3] as Duplex;
    const fail = (why: string): void => {
      clearTimeout(timer);
      child.kill('SIGKILL');
      pipe.destroy();
      reject(
        failedPrecondition(`the command cannot be started: ${why}`, 'The log of the agent may say more.'),
      );
    };
    const timer = setTimeout(() => fail('its namespaces were not created in time'), READY_WITHIN_MS);
    child.once('error', (error) => fail(`${program} in ${directory}: ${messageOf(error)}`));
    child.once('exit', () => fail('its namespaces could not be created'));
    pipe.on('error', () => undefined);
    let output = '';
    pipe.on('data', (chunk: Buffer) => {
      output += chunk.toString();
      if (output !== `${LAUNCH_READY}\n`) return;
      clearTimeout(timer);
      child.removeAllListeners('exit');
      child.unref();
      resolve({
        pid: child.pid ?? 0,
        go: (word) => pipe.end(launchWord(word)),
        giveUp: () => pipe.destroy(),
        onExit: (listener) => {
          if (child.exitCode !== null || child.signalCode !== null) listener();
          else child.once('exit', listener);
        },
      });
    });
  });
}

function split(entry: string): [string, string] {
  const at = entry.indexOf('=');
  return at < 0 ? [entry, ''] : [entry.slice(0, at), entry.slice(at + 1)];
}
