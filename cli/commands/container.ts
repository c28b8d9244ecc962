// weft ps | stop | start | rm | logs | exec: containers of `weft run` on this host
import { spawn } from 'node:child_process';

import type { Command } from 'commander';

import { failedPrecondition, messageOf } from '../../core/errors.js';
import { enterArgv } from '../../core/launch.js';
import type { Container } from '../../proto/gen/weft/v1/runtime.js';
import { integer, name } from '../checks.js';
import { READ_MS, WRITE_MS, type Connector } from '../connect.js';
import { containerList, containerShape, NO_CONTAINER } from '../container-shapes.js';
import { checkCommand } from '../find-command.js';
import { ended, hasTerminal, Signals } from '../foreground.js';
import type { Action } from '../action.js';
import { lists } from '../lists.js';
import type { Result } from '../output.js';
import { showLog } from '../show-log.js';

const A_NAME = 'its name, or the beginning of its id';
const STOP_SECONDS = 10;

export function containerCommands(program: Command, action: Action): void {
  lists(program.command('ps'), containerShape(NO_CONTAINER))
    .description('list what weft runs on this host')
    .option('-a, --all', 'also what has exited')
    .action(
      action(async ({ connect }, _words, { all = false }: { all?: boolean }): Promise<Result> => {
        const { containers } = await connect.agent(
          'RuntimeService',
          (client) => client.listContainers,
          { all },
          READ_MS,
        );
        return containerList(containers);
      }),
    );

  program
    .command('stop')
    .description('end what weft runs: SIGTERM, and after a time SIGKILL')
    .argument('<container>', A_NAME, name('container'))
    .option('--time <seconds>', 'how long it may take', integer('time', 0, 86_400), STOP_SECONDS)
    .action(
      action(async ({ connect }, [container], { time }: { time: number }): Promise<Result> => {
        const gone = await connect.agent(
          'RuntimeService',
          (client) => client.stopContainer,
          { name: container, seconds: time },
          WRITE_MS + time * 1000,
        );
        return one(gone);
      }),
    );

  program
    .command('start')
    .description('start once more what has exited; it runs detached')
    .argument('<container>', A_NAME, name('container'))
    .action(
      action(async ({ connect }, [container]): Promise<Result> => {
        const request = { name: container };
        return one(
          await connect.agent('RuntimeService', (client) => client.startContainer, request, WRITE_MS),
        );
      }),
    );

  program
    .command('rm')
    .description('forget what has exited')
    .argument('<container>', A_NAME, name('container'))
    .option('--force', 'end it first, where it runs')
    .action(
      action(async ({ connect }, [container], { force = false }: { force?: boolean }): Promise<Result> => {
        const request = { name: container, force };
        return one(
          await connect.agent('RuntimeService', (client) => client.removeContainer, request, WRITE_MS),
        );
      }),
    );

  program
    .command('logs')
    .description('what a detached container has said')
    .argument('<container>', A_NAME, name('container'))
    .option('-f, --follow', 'go on while it runs')
    .action(
      action(
        async ({ connect }, [container], { follow = false }: { follow?: boolean }): Promise<undefined> => {
          const { log, name: full } = await inspect(connect, container);
          if (log === '') {
            throw failedPrecondition(
              `container ${full} was run in the foreground: what it said was not kept`,
              'Run it with -d for that.',
            );
          }
          const running = async (): Promise<boolean> =>
            ['running', 'stopping', 'restarting'].includes((await inspect(connect, full)).state);
          await showLog(log, follow ? running : () => Promise.resolve(false));
        },
      ),
    );

  program
    .command('exec')
    .description('run a command inside a running container')
    .argument('<container>', A_NAME, name('container'))
    .argument('<command...>', 'the command; write -- before it')
    .action(
      action(async ({ connect }, [container], _options: object, [, words]): Promise<undefined> => {
        const command = words as string[];
        checkCommand(command[0] ?? '');
        const { name: full, pid, state } = await inspect(connect, container);
        if (pid === undefined || state === 'exited') {
          throw failedPrecondition(
            `container ${full} does not run`,
            `Start it again first: weft start ${full}`,
          );
        }
        const terminal = hasTerminal();
        const signals = new Signals(terminal);
        const [program = '', ...args] = enterArgv(pid, process.cwd(), command);
        const child = spawn(program, args, { stdio: 'inherit', detached: !terminal });
        signals.handOver(child);
        const failed = new Promise<never>((_resolve, reject) => {
          child.once('error', (error) =>
            reject(
              failedPrecondition(`${program} cannot be started: ${messageOf(error)}`, 'Install util-linux.'),
            ),
          );
        });
        process.exitCode = await Promise.race([ended(child), failed]);
      }),
    );
}

function one(it: Container): Result {
  return { value: containerShape(it), text: () => it.name };
}

const inspect = (connect: Connector, container: string): Promise<Container> =>
  connect.agent('RuntimeService', (client) => client.getContainer, { name: container }, READ_MS);
