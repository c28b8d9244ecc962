// Shell completion: thin scripts around `weft __complete`.
//
// Commands come from commander and names from the controller, so the scripts need no change with either.
import { readdirSync } from 'node:fs';

import { Argument, type Command } from 'commander';

import { eventObject } from '../../core/events.js';
import { RUN_MODES } from '../../core/run.js';
import { NETNS_DIRECTORY } from '../../core/target.js';
import { DEFAULT_ENGINE, engineUrl } from '../../daemon/kinds.js';
import type { Endpoint } from '../../proto/gen/weft/v1/types.js';
import type { Connector } from '../connect.js';
import { listOf } from '../context.js';
import { commandsOf, HELP } from './help.js';
import type { Action } from '../action.js';

const SCRIPTS = {
  // Not COMP_WORDS, which splits HOST:PORT into three words.
  bash: `_weft() {
  local line="\${COMP_LINE:0:COMP_POINT}" words IFS=$' \\t\\n'
  read -ra words <<<"$line"
  [[ $line != *[[:space:]] ]] || words+=('')
  IFS=$'\\n'
  COMPREPLY=( $(weft __complete -- "\${words[@]:1}" 2>/dev/null) )
  # Where a colon ends a word, as by default, what is up to the last one stays on the line.
  local last="\${words[-1]}"
  [[ $COMP_WORDBREAKS != *:* ]] || COMPREPLY=( "\${COMPREPLY[@]#"\${last%"\${last##*:}"}"}" )
}
complete -o default -F _weft weft
`,
  zsh: `#compdef weft
_weft() {
  local -a found
  found=( \${(f)"$(weft __complete -- "\${(@)words[2,CURRENT]}" 2>/dev/null)"} )
  compadd -a found
}
compdef _weft weft
`,
  fish: `complete -c weft -f -a '(weft __complete -- (commandline -opc)[2..-1] (commandline -ct) 2>/dev/null)'
`,
} as const;

/** The hidden command that the scripts call. */
export const COMPLETE = '__complete';

/** Milliseconds: completion must not delay the prompt. */
const ASK_MS = 1000;

/** Options that choose the daemon to ask; all of them take a value. */
const WHOM = /^--(controller|agent|tls-ca|tls-cert|tls-key)(=|$)/;

/** Adds the options that choose the daemon from the line under completion. @param argv `__complete -- WORDS…` */
export function askedAsTheLineWould(argv: readonly string[]): string[] {
  const words = argv.slice(argv.indexOf('--') + 1, -1);
  const whom = words.flatMap((word, i) => {
    if (!WHOM.test(word)) return [];
    const value = words[i + 1];
    return word.includes('=') ? [word] : value === undefined ? [] : [word, value];
  });
  return [COMPLETE, ...whom, ...argv.slice(1)];
}

export function completionCommands(program: Command, action: Action): void {
  program
    .command('completion')
    .description('print a script that completes words in your shell')
    .addArgument(new Argument('<shell>', 'which shell').choices(Object.keys(SCRIPTS)))
    .addHelpText('after', '\nFor bash, in ~/.bashrc: source <(weft completion bash)')
    .action((shell: keyof typeof SCRIPTS) => {
      process.stdout.write(SCRIPTS[shell]);
    });

  program
    .command(COMPLETE, { hidden: true })
    .argument('[words...]')
    .action(
      action(async ({ connect }, _words, _options, [words]) => {
        const lines = await complete(program, listOf(words), connect);
        return { value: lines, text: () => lines.join('\n') };
      }),
    );
}

/** Candidates for the last word. */
export async function complete(
  program: Command,
  words: readonly string[],
  connect: Connector,
): Promise<string[]> {
  const before = words.slice(0, -1);
  const last = words.at(-1) ?? '';
  let command = program;
  const given: string[] = [];
  for (let i = 0; i < before.length; i++) {
    const word = before[i] ?? '';
    const option = word.startsWith('-')
      ? command.options.find((candidate) => candidate.long === word || candidate.short === word)
      : undefined;
    if (option !== undefined && (option.required || option.optional)) {
      if (i === before.length - 1)
        return matching(option.argChoices ?? (await optionNames(command, option.long ?? '', connect)), last);
      i++;
      continue;
    }
    if (word.startsWith('-')) continue;
    const child = command.commands.find(
      (candidate) => candidate.name() === word || candidate.aliases().includes(word),
    );
    if (child !== undefined) command = child;
    else given.push(word);
  }
  if (last.startsWith('-'))
    return matching(
      command.options.flatMap((option) => option.long ?? []),
      last,
    );
  if (command.name() === HELP && command.parent !== null)
    return complete(command.parent, [...given, last], connect);
  const children = commandsOf(command).map((child) => child.name());
  if (children.length > 0) return matching(children, last);
  const { registeredArguments: takes } = command;
  const argument = takes[given.length] ?? takes.findLast(({ variadic }) => variadic);
  if (argument?.argChoices !== undefined) return matching(argument.argChoices, last);
  return matching(await argumentNames(command, argument?.name() ?? '', connect), last);
}

const matching = (candidates: readonly string[], start: string): string[] =>
  candidates.filter((candidate) => candidate.startsWith(start)).toSorted();

async function optionNames(command: Command, option: string, connect: Connector): Promise<string[]> {
  if (option === '--network') {
    const networks = await namesOf('network', connect);
    if (command.name() !== 'run') return networks;
    const containers = (await namesOf('container', connect)).map((name) => `container:${name}`);
    return [...networks, ...RUN_MODES, ...containers];
  }
  if (option === '--for') return eventObjects(connect);
  if (option === '--node') return namesOf('node', connect);
  return [];
}

/** What people ask for most. */
async function eventObjects(connect: Connector): Promise<string[]> {
  const kinds = ['network', 'node'] as const;
  const names = await Promise.all(kinds.map((kind) => namesOf(kind, connect)));
  return kinds.flatMap((kind, i) => (names[i] ?? []).map((name) => eventObject(kind, name)));
}

/** Arguments that `find` looks up. */
const PLACES = new Set(['place', 'a', 'b', 'from', 'to']);

async function argumentNames(command: Command, argument: string, connect: Connector): Promise<string[]> {
  if (PLACES.has(argument)) {
    const group = command.parent?.name();
    const isEndpoint = command.name() === 'capture' || group === 'endpoint';
    const kinds: Parameters<typeof namesOf>[0][] = isEndpoint ? ['endpoint'] : ['endpoint', 'node'];
    if (command.name() === 'inspect' && !isEndpoint) kinds.push('network');
    return (await Promise.all(kinds.map((kind) => namesOf(kind, connect)))).flat();
  }
  if (argument === 'node') return namesOf('node', connect);
  if (argument === 'target') return targets(connect);
  if (argument === 'container') return namesOf('container', connect);
  if (argument === 'network') return namesOf('network', connect);
  const group = command.parent?.name();
  if (command.name() === 'create') return [];
  if (group === 'policy') return policyArguments(command.name(), connect);
  if (group === 'network' && command.name() === 'route') return namesOf('network', connect);
  if (group === 'port') return argument === 'endpoint' ? namesOf('endpoint', connect) : [];
  if (group === 'dns') return command.name() === 'add' || argument !== 'name' ? [] : namesOf('dns', connect);
  return group === 'network' || group === 'node' || group === 'endpoint' ? namesOf(group, connect) : [];
}

const endpointsOf = async (connect: Connector): Promise<Endpoint[]> =>
  (
    await connect.controller(
      'EndpointService',
      (client) => client.listEndpoints,
      { network: '', node: '' },
      ASK_MS,
    )
  ).endpoints;

/** Containers of this host that can be named without asking for them. */
async function targets(connect: Connector): Promise<string[]> {
  const [runs, ofDocker] = await Promise.all([namesOf('container', connect), dockerNames()]);
  return [
    ...namespaces(),
    ...runs.map((name) => `run:${name}`),
    // Both are TARGETs, and people begin either.
    ...ofDocker.flatMap((name) => [name, `docker:${name}`]),
  ];
}

function namespaces(): string[] {
  try {
    return readdirSync(NETNS_DIRECTORY);
  } catch {
    return [];
  }
}

/** Names of the containers that run, of the engine that an agent asks where it is told of no other. */
async function dockerNames(): Promise<string[]> {
  try {
    const { askEngine } = await import('../../daemon/engine.js');
    const engine = engineUrl.parse(process.env['WEFT_DOCKER'] ?? DEFAULT_ENGINE, 'WEFT_DOCKER');
    const { body } = await askEngine(engine, '/containers/json', ASK_MS);
    const containers = JSON.parse(body) as { Names: string[] }[];
    // Each has a slash before it; those of links have another one.
    return containers.flatMap(
      ({ Names: names }) => names.find((name) => name.lastIndexOf('/') === 0)?.slice(1) ?? [],
    );
  } catch {
    // Completion shows no errors.
    return [];
  }
}

async function policyArguments(command: string, connect: Connector): Promise<string[]> {
  if (command === 'inspect' || command === 'rm') return namesOf('policy', connect);
  if (command !== 'test') return [];
  return [...(await namesOf('endpoint', connect)), ...(await namesOf('node', connect)), 'host'];
}

async function namesOf(
  kind: 'network' | 'node' | 'endpoint' | 'dns' | 'container' | 'policy',
  connect: Connector,
): Promise<string[]> {
  try {
    switch (kind) {
      case 'network':
        return (
          await connect.controller('NetworkService', (client) => client.listNetworks, {}, ASK_MS)
        ).networks.map((it) => it.name);
      case 'node':
        return (await connect.controller('NodeService', (client) => client.listNodes, {}, ASK_MS)).nodes.map(
          (it) => it.name,
        );
      case 'endpoint':
        return (await endpointsOf(connect)).map((it) => it.name);
      case 'policy':
        return (
          await connect.controller('PolicyService', (client) => client.listPolicies, {}, ASK_MS)
        ).policies.map((it) => it.name);
      case 'dns':
        return [
          ...new Set(
            (
              await connect.agent('NameService', (client) => client.listNames, { network: '' }, ASK_MS)
            ).names.map((it) => it.name),
          ),
        ];
      case 'container':
        return (
          await connect.agent('RuntimeService', (client) => client.listContainers, { all: true }, ASK_MS)
        ).containers.map((it) => it.name);
    }
  } catch {
    // Completion shows no errors.
    return [];
  }
}
