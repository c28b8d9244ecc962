// Explains a wrong call: what is wrong, and the help of the command that was meant.
import type { Command, CommanderError } from 'commander';

import { WeftError } from '../core/errors.js';
import { didYouMean } from '../daemon/suggest.js';
import { commandsOf } from './commands/help.js';
import { leadFor } from './other-words.js';

/** @param argv as commander has parsed it */
export function explainWrongCall(
  program: Command,
  argv: readonly string[],
  error: CommanderError,
): WeftError {
  const { command, rest } = commandIn(program, argv);
  const path = pathOf(command);
  const help = path.length === 0 ? 'See `weft help`.' : `See \`weft ${path.join(' ')} --help\`.`;
  if (error.code === 'commander.help')
    return path.length === 0
      ? wrong('a command is missing', 'See `weft help` and `weft COMMAND --help`.')
      : wrong(
          `a command is missing behind \`weft ${path.join(' ')}\``,
          `There are ${commandsOf(command)
            .map((one) => one.name())
            .join(', ')}. ${help}`,
        );
  const [cause = '', ...more] = error.message.replace(/^error: /, '').split('\n');
  const next = more
    .join(' ')
    .replace(/^\((.*)\)$/, '$1')
    .trim();
  // Its own check has said what is allowed.
  if (next !== '') return wrong(cause, next);
  const lead = leadFor([...path, ...rest]);
  switch (error.code) {
    case 'commander.unknownCommand': {
      const known = commandsOf(command).map((one) => one.name());
      const near = (rest[0] ?? '').length > 2 ? didYouMean(rest[0] ?? '', known, shownIn(path)) : '';
      return wrong(cause, lead ?? (near === '' ? help : `${near} ${help}`));
    }
    case 'commander.unknownOption': {
      const option = /'([^']+)'/.exec(cause)?.[1] ?? '';
      const known = command.options.flatMap(({ long }) => long ?? []);
      const near = didYouMean(option, known);
      return wrong(cause, near === '' ? help : `${near} ${help}`);
    }
    default:
      return wrong(cause, error.code === 'commander.excessArguments' && lead !== undefined ? lead : help);
  }
}

const wrong = (cause: string, next: string): WeftError => new WeftError('INVALID_ARGUMENT', cause, next);

const shownIn =
  (path: readonly string[]) =>
  (found: string): string =>
    `\`weft ${[...path, found].join(' ')}\``;

/** The command that the first words lead to, and the words behind them, without options. */
function commandIn(program: Command, argv: readonly string[]): { command: Command; rest: string[] } {
  let command = program;
  const rest = argv
    .slice(0, argv.includes('--') ? argv.indexOf('--') : undefined)
    .filter((word) => !word.startsWith('-'));
  for (;;) {
    const [word = ''] = rest;
    const child = command.commands.find((one) => one.name() === word || one.aliases().includes(word));
    if (child === undefined) return { command, rest };
    command = child;
    rest.shift();
  }
}

/** The words that lead to it, without the program's. */
export function pathOf(command: Command): string[] {
  return command.parent === null ? [] : [...pathOf(command.parent), command.name()];
}
