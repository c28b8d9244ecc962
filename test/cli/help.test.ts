// `weft help`, and `help` below every group.
import test from 'ava';
import { CommanderError, type Command } from 'commander';

import { buildProgram } from '../../cli/main.js';
import { run, runHere } from './fakes.js';

/** The path of every command that help lists, groups included. */
const paths = (command: Command, before: readonly string[] = []): string[][] =>
  command
    .createHelp()
    .visibleCommands(command)
    .flatMap((child) => {
      const path = [...before, child.name()];
      return [path, ...paths(child, path)];
    });

/** The output of a command line, run in this process. */
async function printed(line: readonly string[]): Promise<string> {
  let text = '';
  const listen = (command: Command): void => {
    command.configureOutput({ writeOut: (more) => (text += more) });
    command.commands.forEach(listen);
  };
  const program = buildProgram();
  listen(program);
  try {
    await program.parseAsync([...line], { from: 'user' });
  } catch (error) {
    if (!(error instanceof CommanderError) || error.exitCode !== 0) throw error;
  }
  return text;
}

test('every command’s help is reached from the program and from each of its groups', async (t) => {
  const all = paths(buildProgram());
  t.true(all.length > 40);
  for (const path of all) {
    const own = await printed([...path, '--help']);
    t.regex(own, new RegExp(`^Usage: weft ${path.join(' ')}\\b`));
    for (let group = 0; group < path.length; group++) {
      const line = [...path.slice(0, group), 'help', ...path.slice(group)];
      t.is(await printed(line), own, line.join(' '));
    }
  }
  t.is(await printed(['help']), await printed(['--help']));
});

for (const [line, cause, next] of [
  ['help nosuch', 'weft has no command "nosuch"', 'See `weft help`.'],
  ['help netwrk', 'weft has no command "netwrk"', 'Did you mean `weft help network`?'],
  ['help network crate', 'weft network has no command "crate"', 'Did you mean `weft help network create`?'],
  ['network help crate', 'weft network has no command "crate"', 'Did you mean `weft help network create`?'],
  ['help status x', '"x" is too much: weft status has no commands of its own', 'See `weft help status`.'],
  ['help __complete', 'weft has no command "__complete"', 'See `weft help`.'],
] as const) {
  test.serial(`weft ${line}: refused, with the next step`, async (t) => {
    const ran = await runHere(line.split(' '));
    t.is(ran.code, 2);
    t.is(ran.stdout, '');
    t.is(ran.stderr, `weft: help: ${cause}\n      ${next}\n`);
  });
}

test('the words after help are completed', async (t) => {
  const offered = async (...words: string[]): Promise<string[]> =>
    (await run(['__complete', '--', ...words])).stdout.split('\n').filter(Boolean);
  t.deepEqual(await offered('help', 'netw'), ['network']);
  t.deepEqual(await offered('help', 'network', 'cr'), ['create']);
  t.deepEqual(await offered('network', 'help', 'cr'), ['create']);
});
