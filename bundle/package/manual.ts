// The manual pages, from the help texts: one for weft, one for each command with what is below it, one for each daemon.
import type { Command } from 'commander';

import { buildProgram } from '../../cli/main.js';
import { version } from '../../daemon/version.js';

export interface Page {
  /** File name, section included. */
  name: string;
  text: string;
}

const SECTION = 8;
/** Nothing is wrapped: that is man's work. */
const WIDE = 10_000;

/** @param daemonHelp what `weft DAEMON --help` prints @param date of the pages, as 2026-01-31 */
export function manualPages(daemonHelp: Readonly<Record<string, string>>, date: string): Page[] {
  const program = buildProgram();
  const commands = program.commands.filter((command) => !isHidden(program, command));
  return [
    pageOf(['weft'], program.description(), [bodyOf(program), seeAlso(commands)], date),
    ...commands.map((command) => {
      const words = ['weft', command.name()];
      const daemon = daemonHelp[command.name()];
      const body = daemon === undefined ? bodiesOf(command, words) : [formatHelp(daemon)];
      return pageOf(words, command.description(), body, date);
    }),
  ];
}

const isHidden = (program: Command, command: Command): boolean =>
  !program.createHelp().visibleCommands(program).includes(command);

function pageOf(words: readonly string[], about: string, body: readonly string[], date: string): Page {
  const name = words.join('-');
  const head = [
    `.TH ${name.toUpperCase()} ${SECTION} ${date} "weft ${version}"`,
    '.SH NAME',
    `${escaped(name)} \\- ${escaped(about.replace(/\.$/, ''))}`,
  ];
  return { name: `${name}.${SECTION}`, text: `${[...head, '.SH DESCRIPTION', ...body].join('\n')}\n` };
}

const seeAlso = (commands: readonly Command[]): string =>
  ['.SH SEE ALSO', commands.map((command) => `.BR weft-${command.name()} (${SECTION})`).join(',\n')].join(
    '\n',
  );

/** A command's, and those of its subcommands at any depth. */
function bodiesOf(command: Command, words: readonly string[]): string[] {
  const below = command.commands.filter((child) => !isHidden(command, child) && child.name() !== 'help');
  return [
    bodyOf(command),
    ...below.flatMap((child) => {
      const all = [...words, child.name()];
      return [`.SH ${escaped(all.join(' ').toUpperCase())}`, ...bodiesOf(child, all)];
    }),
  ];
}

function bodyOf(command: Command): string {
  command.configureHelp({ helpWidth: WIDE });
  return formatHelp(command.helpInformation());
}

/** Help as commander prints it: headings end with a colon, terms are indented, and what they mean is behind two spaces. */
export function formatHelp(help: string): string {
  return help
    .trim()
    .split('\n')
    .map((line) => {
      const usage = /^Usage: (.*)/.exec(line)?.[1];
      if (usage !== undefined) return `.SS Usage\n.B ${escaped(usage)}`;
      if (/^[A-Z][\w ]*:?$/.test(line)) return `.SS ${line.replace(/:$/, '')}`;
      const [, term, meaning] = /^ {2}(\S.*?)(?: {2,}(.*))?$/.exec(line) ?? [];
      if (term !== undefined) return `.TP\n.B ${escaped(term)}\n${escaped(meaning ?? '')}`;
      return line.trim() === '' ? '.P' : escaped(line.trim());
    })
    .join('\n');
}

/** What roff would read as its own. */
function escaped(text: string): string {
  const safe = text.replaceAll('\\', '\\e').replaceAll('-', '\\-').replaceAll('’', '\\(cq');
  return /^[.']/.test(safe) ? `\\&${safe}` : safe;
}
