// The command line: builds the commands, runs one, prints its result or error.
import { Command, CommanderError } from 'commander';

import { messageOf, WeftError } from '../core/errors.js';
import { checkTls } from '../daemon/tls.js';
import { version } from '../daemon/version.js';
import { bundleCommand } from './commands/bundle.js';
import { captureCommand } from './commands/capture.js';
import { checkCommand } from './commands/check.js';
import { cniCommands, netavarkCommands } from './commands/cni.js';
import { askedAsTheLineWould, COMPLETE, completionCommands } from './commands/completion.js';
import { connectivityCommands } from './commands/connectivity.js';
import { diffCommand } from './commands/diff.js';
import { dnsCommands } from './commands/dns.js';
import { containerCommands } from './commands/container.js';
import { endpointCommands } from './commands/endpoint.js';
import { eventsCommand } from './commands/events.js';
import { exposeCommands } from './commands/expose.js';
import { authorityCommands } from './commands/authority.js';
import { setupCommands } from './commands/setup.js';
import { tokenCommands } from './commands/token.js';
import { ipamCommands } from './commands/ipam.js';
import { helpCommands } from './commands/help.js';
import { inspectCommand } from './commands/inspect.js';
import { networkCommands } from './commands/network.js';
import { nodeCommands } from './commands/node.js';
import { pingCommand } from './commands/ping.js';
import { pipeworkCommand } from './commands/pipework.js';
import { policyCommands } from './commands/policy.js';
import { portCommands } from './commands/port.js';
import { runCommand } from './commands/run.js';
import { statusCommand } from './commands/status.js';
import { traceCommand } from './commands/trace.js';
import { topCommand } from './commands/top.js';
import { uiCommand } from './commands/ui.js';
import { versionCommand } from './commands/version.js';
import type { Action } from './action.js';
import { contextOf, formatOf } from './context.js';
import { ExitError } from './exit.js';
import { listenForInterrupts } from './foreground.js';
import {
  globalOptions,
  listOptions,
  optionsLast,
  showOptions,
  type GlobalOptions,
} from './global-options.js';
import { fieldsOf } from './lists.js';
import { printError } from './output.js';
import { present } from './present.js';
import { repeated } from './repeat.js';
import { explainWrongCall, pathOf } from './wrong-call.js';

export async function main(given: readonly string[]): Promise<void> {
  const argv = given[0] === COMPLETE ? askedAsTheLineWould(given) : optionsLast(given);
  quietEnds();
  dropEmptyVariables();
  const format = formatOf(argv);
  const program = buildProgram();
  try {
    if (argv.length === 0) program.help();
    await program.parseAsync(argv, { from: 'user' });
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return;
    await printError(
      asWeftError(program, argv, error),
      format,
      argv.includes('debug') && argv.some((word) => word.startsWith('--log-level')),
    );
    // pipework has one exit status for every error, and scripts check for it.
    const wrongCall = argv[0] === 'pipework' ? 1 : 2;
    process.exitCode =
      error instanceof ExitError
        ? error.exitCode
        : error instanceof CommanderError || isUsage(error)
          ? wrongCall
          : 1;
  }
}

/** Wrong calls that the command itself detected. */
const isUsage = (error: unknown): boolean =>
  error instanceof WeftError && error.code === 'INVALID_ARGUMENT' && local.has(error);
const local = new WeakSet<WeftError>();

function asWeftError(program: Command, argv: readonly string[], error: unknown): WeftError {
  if (error instanceof WeftError) return error;
  if (error instanceof CommanderError) return explainWrongCall(program, argv, error);
  return new WeftError(
    'INTERNAL',
    `a fault in weft: ${messageOf(error)}`,
    'With --log-level debug there is more.',
    { cause: error },
  );
}

export function buildProgram(): Command {
  const program = new Command('weft')
    .description('Networks for containers across hosts.')
    .version(version, '-V, --version', 'print the version')
    .enablePositionalOptions(false)
    .showSuggestionAfterError(false)
    // At 80 columns the help of the program has less beside its longest command than what is wrapped by default.
    .configureHelp({ minWidthToWrap: 20 })
    .exitOverride()
    // main prints errors.
    .configureOutput({ writeErr: () => undefined });
  networkCommands(program, action);
  endpointCommands(program, action);
  portCommands(program, action);
  nodeCommands(program, action);
  pipeworkCommand(program, action);
  dnsCommands(program, action);
  policyCommands(program, action);
  statusCommand(program, action);
  traceCommand(program, action);
  eventsCommand(program, action);
  inspectCommand(program, action);
  checkCommand(program, action);
  pingCommand(program, action);
  topCommand(program, action);
  uiCommand(program, action);
  diffCommand(program, action);
  ipamCommands(program, action);
  connectivityCommands(program, action);
  captureCommand(program, action);
  bundleCommand(program, action);
  runCommand(program, action);
  containerCommands(program, action);
  exposeCommands(program, action);
  setupCommands(program, action);
  tokenCommands(program, action);
  authorityCommands(program, action);
  cniCommands(program, action);
  netavarkCommands(program, action);
  versionCommand(program, action);
  completionCommands(program, action);
  // bin/weft starts the daemons; they are listed here for help and completion.
  program.command('agent').description('the daemon of a node (weft agent --help)');
  program.command('controller').description('the daemon that serves the cluster (weft controller --help)');
  helpCommands(program);
  for (const command of leaves(program)) addGlobalOptions(command);
  return program;
}

/** The commands without subcommands. */
function leaves(command: Command): Command[] {
  return command.commands.flatMap((child) => (child.commands.length > 0 ? leaves(child) : [child]));
}

/** By the last words of their names. */
const SHOWS = new Set(['show', 'inspect', 'status', 'check', 'ping', 'top', 'diff', 'version']);

/** What they print has no name. */
const NAMELESS = new Set([
  ...['status', 'check', 'ping', 'top', 'diff', 'version', 'trace', 'events', 'capture', 'bundle'],
  ...['connectivity test', 'policy test', 'ipam check', 'ca show', 'ca init', 'ca rotate', 'ca issue'],
  ...['token create', 'login', 'init', 'join', 'leave', 'ui'],
]);

const DAEMONS_AND_SCRIPTS = new Set(['agent', 'controller', 'completion']);

function addGlobalOptions(command: Command): void {
  command.exitOverride().configureOutput({ writeErr: () => undefined });
  if (DAEMONS_AND_SCRIPTS.has(command.name())) return;
  const fields = fieldsOf(command);
  if (fields !== undefined) for (const option of listOptions(fields)) command.addOption(option);
  if (fields !== undefined || SHOWS.has(command.name()))
    for (const option of showOptions(fields)) command.addOption(option);
  command.optionsGroup('Everywhere:');
  for (const option of globalOptions(!NAMELESS.has(pathOf(command).join(' ')))) command.addOption(option);
}

const action: Action = (work) =>
  async function run(...args: unknown[]): Promise<void> {
    const command = args.at(-1) as Command;
    const options = command.opts<GlobalOptions>();
    let asked = false;
    const isGiven = command.getOptionValueSource('controller') !== 'default';
    const context = contextOf(options, isGiven, () => {
      asked = true;
    });
    try {
      const { tlsCa, tlsCert, tlsKey } = options;
      checkTls({ tlsCa, tlsCert, tlsKey }, () => undefined);
      const all = args.slice(0, -2);
      const [first = '', second = ''] = all.map((word) => (typeof word === 'string' ? word : ''));
      await repeated(options.watch, async () => {
        const result = await work(context, [first, second], options as never, all);
        if (result !== undefined) await present(result, options);
      });
    } catch (error) {
      // An error before any call was sent is a wrong call (exit 2).
      if (error instanceof WeftError && !asked) local.add(error);
      throw error;
    }
  };

/** An empty environment variable counts as unset, and WEFT_INSECURE=false as what it says, as for the daemons. */
function dropEmptyVariables(): void {
  if (/^(?:false|no|0)$/i.test(process.env['WEFT_INSECURE'] ?? '')) delete process.env['WEFT_INSECURE'];
  for (const [name, value] of Object.entries(process.env))
    if (name.startsWith('WEFT_') && value === '') delete process.env[name];
}

/** A closed pipe and Ctrl-C are no errors. */
function quietEnds(): void {
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(0);
    throw error;
  });
  listenForInterrupts();
}
