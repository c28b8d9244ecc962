// weft help [command...], and the same below every group: the help of the command that the words lead to.
// Commander's own help command looks at one word alone: `weft help network create` showed the help of the group.
import { CommanderError, type Command } from 'commander';

import { didYouMean } from '../../daemon/suggest.js';
import { listOf } from '../context.js';

export const HELP = 'help';

/** Adds it to the program and to every group, after all other commands. */
export function helpCommands(group: Command): void {
  for (const child of group.commands) if (child.commands.length > 0) helpCommands(child);
  group.helpCommand(false);
  group
    .command(HELP)
    .description('show what a command does')
    .argument('[command...]', 'the words of the command')
    .action((words: unknown) => commandAt(group, listOf(words)).help());
}

/** Commands below this one, as its help lists them. */
export const commandsOf = (command: Command): readonly Command[] =>
  command.createHelp().visibleCommands(command);

/** The command below `group` that these words lead to. @throws CommanderError for a word that is none */
function commandAt(group: Command, words: readonly string[]): Command {
  let command = group;
  for (const word of words) {
    const children = commandsOf(command);
    const child = children.find((one) => one.name() === word || one.aliases().includes(word));
    if (child === undefined) throw unknown(command, word, children);
    command = child;
  }
  return command;
}

function unknown(command: Command, word: string, children: readonly Command[]): CommanderError {
  const path = pathOf(command);
  const hint = didYouMean(
    word,
    children.map((one) => one.name()),
    (found) => `\`weft help ${[...path, found].join(' ')}\``,
  );
  const line = ['weft', ...path].join(' ');
  return new CommanderError(
    1,
    'weft.unknownCommand',
    children.length === 0
      ? `help: "${word}" is too much: ${line} has no commands of its own\nSee \`weft help ${path.join(' ')}\`.`
      : `help: ${line} has no command "${word}"\n${hint === '' ? `See \`${['weft', 'help', ...path].join(' ')}\`.` : hint}`,
  );
}

function pathOf(command: Command): string[] {
  return command.parent === null ? [] : [...pathOf(command.parent), command.name()];
}
