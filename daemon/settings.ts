// Settings of the daemons: one table for flags, environment, YAML file and --help.
//
// `--underlay-ip` is WEFT_UNDERLAY_IP in the environment and `underlay-ip` in the file; flag beats environment beats file.
// All values are checked before anything starts. An error names the value, its source and what is allowed.
import { Command, CommanderError, Option } from 'commander';

import { invalidArgument, WeftError } from '../core/errors.js';
import type { Kind } from './kinds.js';
import { readSettingsFile, type Given } from './settings-file.js';
import { flannelFlag } from './flannel-flags.js';
import { didYouMean } from './suggest.js';

export interface Setting<T> {
  readonly kind: Kind<T>;
  readonly help: string;
  /** As text; a function where it depends on the machine. */
  readonly fallback: string | (() => string) | undefined;
  /** What --help says the default is, where that is not `fallback` itself. */
  readonly shownDefault: string | undefined;
  /** Heading in --help. */
  readonly group: string | undefined;
  /** An action rather than a property: a flag alone, so that no file repeats it at every start. */
  readonly flagOnly: boolean;
  /** One letter that the flag may be written with, too. */
  readonly short: string | undefined;
}

interface Described {
  help: string;
  group?: string;
  shownDefault?: string;
  flagOnly?: boolean;
  short?: string;
}

/** A setting that always has a value. */
export function setting<T>(
  kind: Kind<T>,
  options: Described & { default: string | (() => string) },
): Setting<T> {
  return describe(kind, options, options.default);
}

/** An optional setting; its value is undefined where it is not given. */
export function optional<T>(kind: Kind<T>, options: Described): Setting<T | undefined> {
  return describe<T | undefined>(kind, options, undefined);
}

function describe<T>(kind: Kind<T>, options: Described, fallback: Setting<T>['fallback']): Setting<T> {
  const { help, group, shownDefault, flagOnly = false, short } = options;
  return { kind, help, group, shownDefault, flagOnly, short, fallback };
}

export type SettingsTable = Readonly<Record<string, Setting<unknown>>>;

type CamelCase<S extends string> = S extends `${infer Head}-${infer Tail}`
  ? `${Head}${Capitalize<CamelCase<Tail>>}`
  : S;
type ValueOf<S> = S extends Setting<infer T> ? T : never;

/** `{ 'underlay-ip': Setting<X> }` has the values `{ underlayIp: X }`. */
export type Values<T extends SettingsTable> = {
  readonly [K in keyof T & string as CamelCase<K>]: ValueOf<T[K]>;
};

/** The values of one table, out of those of a larger one. */
export function ownValues<T extends SettingsTable>(
  table: T,
  values: Readonly<Record<string, unknown>>,
): Values<T> {
  const own = Object.keys(table).map((key) => [camelCase(key), values[camelCase(key)]]);
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- built key by key from the table that the type is of
  return Object.fromEntries(own) as Values<T>;
}

/** Where a setting's value came from: `flag --x`, `environment WEFT_X`, `FILE: x at line N`, or undefined for its default. */
export type Origin = (key: string) => string | undefined;

/** Values as given, before any check. */
interface Declared {
  /** The subcommand of `weft`. */
  readonly name: string;
  readonly summary: string;
  /** Read where it exists and --config names no other. */
  readonly defaultFile: string;
  readonly settings: SettingsTable;
}

export interface Program<T extends SettingsTable> extends Declared {
  readonly settings: T;
  /** Checks between settings. @throws WeftError INVALID_ARGUMENT */
  readonly check?: (values: Values<T>, origin: Origin) => void;
}

export type Loaded<T extends SettingsTable> =
  | { readonly kind: 'help'; readonly text: string }
  | {
      readonly kind: 'values';
      readonly values: Values<T>;
      readonly origin: Origin;
      readonly file: string | undefined;
    };

const PRECEDENCE =
  'A flag beats its environment variable, and that beats the file, whose keys are the flags without --.';

export const environmentName = (key: string): string => `WEFT_${key.toUpperCase().replaceAll('-', '_')}`;

/**
 * @param argv the words behind `weft NAME`
 * @throws WeftError INVALID_ARGUMENT for an unknown flag or key or a bad value; see `settingsOrExit`
 */
export function loadSettings<T extends SettingsTable>(
  program: Program<T>,
  argv: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
): Loaded<T> {
  const flags = readFlags(program, argv);
  if (flags.help !== undefined) return { kind: 'help', text: flags.help };

  const environment = readEnvironment(program.settings, env);
  const named = flags.config ?? fromEnvironment('config', env);
  const file = readSettingsFile(program, named);
  const given = new Map([...file.given, ...environment, ...flags.given]);

  const values: Record<string, unknown> = {};
  for (const [key, { kind, fallback }] of Object.entries(program.settings)) {
    const found = given.get(key);
    const preset = typeof fallback === 'function' ? fallback() : fallback;
    const text = found?.text ?? preset;
    values[camelCase(key)] =
      text === undefined ? undefined : kind.parse(text, found?.where ?? `default of --${key}`);
  }
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- built key by key from the table that the type is of
  const typed = values as Values<T>;
  const origin: Origin = (key) => given.get(key)?.where;
  program.check?.(typed, origin);
  return { kind: 'values', values: typed, origin, file: file.path };
}

/** As `loadSettings`, for a main: prints the help and exits 0, or the error and exits 2. */
export function settingsOrExit<T extends SettingsTable>(
  program: Program<T>,
  argv: readonly string[],
  env: Readonly<Record<string, string | undefined>> = process.env,
): Extract<Loaded<T>, { kind: 'values' }> {
  try {
    const loaded = loadSettings(program, argv, env);
    if (loaded.kind === 'values') return loaded;
    process.stdout.write(loaded.text);
    return process.exit(0);
  } catch (error) {
    if (!(error instanceof WeftError)) throw error;
    process.stderr.write(
      `weft ${program.name}: ${error.message}\n${error.next === undefined ? '' : `${error.next}\n`}`,
    );
    return process.exit(2);
  }
}

function readFlags(
  program: Declared,
  argv: readonly string[],
): { help?: string; config?: Given; given: Map<string, Given> } {
  const { settings } = program;
  const given = new Map<string, Given>();
  const command = describeCommand(program);
  for (const [key, { kind }] of Object.entries(settings)) {
    command.on(`option:${key}`, (text: string | null) => {
      const before = kind.list ? given.get(key)?.text : undefined;
      const value = text ?? 'true';
      given.set(key, { text: before === undefined ? value : `${before},${value}`, where: `flag --${key}` });
    });
  }
  try {
    command.parse([...argv], { from: 'user' });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    if (error.code === 'commander.helpDisplayed')
      return { help: `${command.helpInformation()}\n${PRECEDENCE}\n`, given };
    throw explainFlagError(program, error);
  }
  const [stray] = command.args;
  if (stray !== undefined) {
    const known = Object.keys(settings).includes(stray.replace(/=.*/, ''));
    throw invalidArgument(
      `argument "${stray}": weft ${program.name} takes flags alone`,
      known ? `Did you mean --${stray}?` : `See weft ${program.name} --help.`,
    );
  }
  const config = command.opts<{ config?: string }>().config;
  return config === undefined ? { given } : { given, config: { text: config, where: 'flag --config' } };
}

function describeCommand({ name, summary, defaultFile, settings }: Declared): Command {
  const command = new Command(`weft ${name}`)
    .description(summary)
    .usage('[flags]')
    .exitOverride()
    // settingsOrExit prints errors, its caller prints help.
    .configureOutput({ writeOut: () => undefined, writeErr: () => undefined })
    .allowExcessArguments(true)
    .configureHelp({ helpWidth: 110 })
    .optionsGroup('General')
    .addOption(
      new Option('--config <FILE>', `settings in YAML (default ${defaultFile} where it exists; WEFT_CONFIG)`),
    )
    .helpOption('-h, --help', 'show this');
  for (const [key, setting] of Object.entries(settings)) {
    const { kind, help, group = 'General', fallback, shownDefault, flagOnly, short } = setting;
    const shown = shownDefault ?? (typeof fallback === 'string' ? fallback : undefined);
    const notes = [
      ...(shown === undefined || kind.placeholder === '' ? [] : [`default ${shown}`]),
      ...(flagOnly ? [] : [environmentName(key)]),
    ].join('; ');
    const option = new Option(
      `${short === undefined ? '' : `-${short}, `}--${key}${kind.placeholder === '' ? '' : ` <${kind.placeholder}>`}`,
      notes === '' ? help : `${help} (${notes})`,
    );
    command.addOption(option.helpGroup(group));
  }
  return command;
}

function explainFlagError({ name, settings }: Declared, error: CommanderError): WeftError {
  const flag = /'(?:-\w, )?(-[^' =]*)/.exec(error.message)?.[1] ?? '';
  const known = [...Object.keys(settings), 'config', 'help'];
  if (error.code === 'commander.unknownOption') {
    if (known.includes(flag.slice(2))) {
      return invalidArgument(`flag ${flag}: takes no value`, `Write ${flag} alone, or leave it out.`);
    }
    const hint = flannelFlag(flag) ?? didYouMean(flag, known, (key) => `--${key}`);
    return invalidArgument(
      `flag ${flag}: not known`,
      hint === '' ? `weft ${name} --help shows what there is.` : hint,
    );
  }
  if (error.code === 'commander.optionMissingArgument') {
    const placeholder = settings[flag.slice(2)]?.kind.placeholder ?? 'FILE';
    return invalidArgument(`flag ${flag}: has no value`, `Write it as ${flag} ${placeholder}.`);
  }
  return invalidArgument(error.message.replace(/^error: /, ''), `weft ${name} --help shows what there is.`);
}

// Only known names count: other WEFT_* variables belong to other commands.
function readEnvironment(
  settings: SettingsTable,
  env: Readonly<Record<string, string | undefined>>,
): Map<string, Given> {
  const given = new Map<string, Given>();
  for (const [key, { flagOnly }] of Object.entries(settings)) {
    const found = flagOnly ? undefined : fromEnvironment(key, env);
    if (found !== undefined) given.set(key, found);
  }
  return given;
}

// An empty variable counts as unset, as in unit files and shells.
function fromEnvironment(key: string, env: Readonly<Record<string, string | undefined>>): Given | undefined {
  const name = environmentName(key);
  const text = env[name];
  return text === undefined || text === '' ? undefined : { text, where: `environment ${name}` };
}

const camelCase = (key: string): string =>
  key.replaceAll(/-([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());
