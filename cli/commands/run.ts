// weft run: a command in network namespaces of its own
import { spawn, type ChildProcess } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';

import { Option, type Command } from 'commander';

import { failedPrecondition, messageOf, permissionDenied } from '../../core/errors.js';
import {
  LAUNCH_EXIT,
  LAUNCH_FAILED,
  LAUNCH_PID,
  LAUNCH_READY,
  launchArgv,
  launchWord,
} from '../../core/launch.js';
import { checkRun, RESTART_POLICIES, type RestartPolicy, type RunNetwork } from '../../core/run.js';
import { newId } from '../../core/records.js';
import type { Container } from '../../proto/gen/weft/v1/runtime.js';
import { addAttachOptions, attachRequestOf, type AttachOptions } from '../attach-options.js';
import { READ_MS, WRITE_MS, type Connector } from '../connect.js';
import { checkCommand } from '../find-command.js';
import { ended, exitCodeOf, hasTerminal, Signals } from '../foreground.js';
import type { Action } from '../action.js';
import { runShape } from '../container-shapes.js';
import type { Result } from '../output.js';

interface RunOptions extends AttachOptions {
  network: string;
  detach?: boolean;
  rm?: boolean;
  restart: RestartPolicy;
}

export function runCommand(program: Command, action: Action): void {
  const run = program
    .command('run')
    .description('run a command in namespaces of its own, attached to a network')
    .argument('<command...>', 'the command; write -- before it')
    .option('--network <network>', 'a network, host, none or container:NAME', 'none')
    .option('-d, --detach', 'do not wait for it; its output goes to a file (weft logs)')
    .option('--rm', 'remember nothing of it once it has ended')
    .addOption(
      new Option('--restart <policy>', 'start it again when it ends, and when the host does')
        .choices([...RESTART_POLICIES])
        .default('no'),
    );
  addAttachOptions(run)
    .addHelpText(
      'after',
      `
Exit status: the command's; 128 + n where signal n ended it; 127 where it is not there, 126 where it cannot be
executed; 1 where weft could not start it. The options of attach are for --network NETWORK.

  weft run --network blue --name web -d -- python3 -m http.server 80
  weft run --network container:web --rm -- ss -ltn`,
    )
    .action(
      action(({ connect, format }, _words, options: RunOptions, [command]) =>
        runIt(
          connect,
          options,
          command as string[],
          run.getOptionValueSource('output') !== 'default' && format === 'table',
        ),
      ),
    );
}

async function runIt(
  connect: Connector,
  options: RunOptions,
  command: string[],
  asTable: boolean,
): Promise<Result | undefined> {
  const { restart } = options;
  const [detached, remove] = [options.detach === true, options.rm === true];
  const attach = attachRequestOf(options.network, '', options);
  const network = checkRun({ network: options.network, attach, detached, remove, restart });
  checkCommand(command[0] ?? '');
  if (process.geteuid?.() !== 0)
    throw permissionDenied('only root can make namespaces', 'Run the command as root.');

  const id = newId();
  const terminal = !detached && hasTerminal();
  const signals = new Signals(terminal);
  const waiting = await launch(id, network, command, { detached, terminal });
  let container: Container;
  try {
    container = await connect.agent(
      'RuntimeService',
      (client) => client.run,
      {
        id,
        network: options.network,
        attach,
        command,
        directory: process.cwd(),
        environment: Object.entries(process.env).map(([name, value = '']) => `${name}=${value}`),
        pid: waiting.child.pid ?? 0,
        detached,
        remove,
        restart,
      },
      WRITE_MS,
    );
  } catch (error) {
    waiting.giveUp();
    throw error;
  }
  const { received } = signals;
  if (received !== undefined || container.launch === undefined) {
    waiting.giveUp();
    await ended(waiting.child);
    await settle(connect, id);
    process.exitCode = received === undefined ? 1 : exitCodeOf(received);
    return undefined;
  }
  signals.handOver(waiting.child);
  await waiting.go(launchWord(container.launch));
  if (detached) {
    const pid = await alive(waiting.child, container);
    waiting.child.unref();
    return runShape({ ...container, pid }, { asTable });
  }
  process.exitCode = await ended(waiting.child);
  noteEnd(container.launch.folder, process.exitCode);
  await settle(connect, id);
  return undefined;
}

interface Waiting {
  child: ChildProcess;
  go(word: string): Promise<void>;
  giveUp(): void;
}

/** Starts the process that waits in its namespaces. @throws WeftError where it cannot start */
function launch(
  id: string,
  network: RunNetwork,
  command: readonly string[],
  { detached, terminal }: { detached: boolean; terminal: boolean },
): Promise<Waiting> {
  const [program = '', ...args] = launchArgv(id, network, command);
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      stdio: [detached ? 'ignore' : 'inherit', detached ? 'ignore' : 'inherit', 'inherit', 'pipe'],
      detached: detached || !terminal,
    });
    const pipe = child.stdio[3] as Duplex;
    const fail = (why: string): void => {
      pipe.destroy();
      reject(
        failedPrecondition(
          `the namespaces cannot be made: ${why}`,
          'See the line above; unshare(1) has the reasons.',
        ),
      );
    };
    const early = (): void => fail('unshare has ended');
    child.once('error', (error) => fail(messageOf(error))).once('exit', early);
    pipe.on('error', () => undefined);
    let said = '';
    pipe.on('data', (chunk: Buffer) => {
      said += chunk.toString();
      if (said !== `${LAUNCH_READY}\n`) return;
      child.removeListener('exit', early);
      resolve({
        child,
        go: (word) => new Promise((done) => pipe.end(word, done)),
        giveUp: () => {
          pipe.destroy();
          child.kill('SIGKILL');
        },
      });
    });
  });
}

/**
 * The command's own process, as soon as it exists; undefined where it has ended already.
 * @throws WeftError where it could not become the command
 */
async function alive(child: ChildProcess, { name, log, launch }: Container): Promise<number | undefined> {
  const path = join(launch?.folder ?? '', LAUNCH_PID);
  for (;;) {
    const pid = Number(textOf(path));
    if (pid > 0) return pid;
    if (child.exitCode === LAUNCH_FAILED) {
      throw failedPrecondition(
        `container ${name} could not be started: ${textOf(log).trim() || 'it ended before the command began'}`,
      );
    }
    if (child.exitCode !== null || child.signalCode !== null) return undefined;
    await delay(5);
  }
}

/** Empty where the process is gone. */
function textOf(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

/** Reports how it ended to the agent, later where the agent is away. */
function noteEnd(folder: string, code: number): void {
  try {
    writeFileSync(join(folder, LAUNCH_EXIT), `${code}\n`);
  } catch {
    // The agent noticed the end first. It has no exit status then; the caller has.
  }
}

/** Everything of it is removed when this settles; without an agent, when the agent is back. */
async function settle(connect: Connector, id: string): Promise<void> {
  try {
    await connect.agent('RuntimeService', (client) => client.settle, { name: id }, READ_MS);
  } catch {
    // The agent removes it when it is back.
  }
}
