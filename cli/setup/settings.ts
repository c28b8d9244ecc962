// Settings files of the daemons: their text, and what one that is there already says.
import { failedPrecondition, messageOf } from '../../core/errors.js';

/** By key, as in the file. */
export type Settings = Readonly<Record<string, string | readonly string[]>>;

export const CONTROLLER_YAML = '/etc/weft/controller.yaml';
export const AGENT_YAML = '/etc/weft/agent.yaml';

const lineOf = (key: string, value: string | readonly string[]): string =>
  typeof value === 'string' ? `${key}: ${value}` : `${key}: [${value.join(', ')}]`;

/** @param daemon `agent` or `controller` @param command the command that writes the file */
export function settingsText(daemon: string, command: string, settings: Settings): string {
  return [
    `# Settings of \`weft ${daemon}\`, written by \`weft ${command}\`. Every flag is a key: weft ${daemon} --help.`,
    `# After a change: systemctl restart weft-${daemon}`,
    ...Object.entries(settings).map(([key, value]) => lineOf(key, value)),
    '',
  ].join('\n');
}

/** Lines that the file lacks or contradicts; a list may have more items. @throws WeftError FAILED_PRECONDITION */
export async function missingIn(text: string, wanted: Settings, path: string): Promise<string[]> {
  const there = await parseSettings(text, path);
  return Object.entries(wanted).flatMap(([key, value]) => {
    const found = valuesOf(there[key]);
    const has =
      typeof value === 'string' ? found.join(',') === value : value.every((it) => found.includes(it));
    return has ? [] : [lineOf(key, value)];
  });
}

/** Whether there is no setting in it. @throws WeftError FAILED_PRECONDITION */
export const saysNothing = async (text: string, path: string): Promise<boolean> =>
  Object.keys(await parseSettings(text, path)).length === 0;

/** One value of a file as text; undefined where it is not in it. @throws WeftError FAILED_PRECONDITION */
export async function valueIn(
  text: string | undefined,
  key: string,
  path: string,
): Promise<string | undefined> {
  if (text === undefined) return undefined;
  const found = valuesOf((await parseSettings(text, path))[key]);
  return found.length === 0 ? undefined : found.join(',');
}

/** A list, or words with commas between them. */
function valuesOf(value: unknown): string[] {
  if (value === undefined || value === null) return [];
  const text = Array.isArray(value)
    ? value.join(',')
    : typeof value === 'string'
      ? value
      : JSON.stringify(value);
  return text.split(',').map((item) => item.trim());
}

async function parseSettings(text: string, path: string): Promise<Record<string, unknown>> {
  const { parse } = await import('yaml');
  try {
    const read: unknown = parse(text);
    if (read === null) return {};
    if (typeof read === 'object' && !Array.isArray(read)) return read as Record<string, unknown>;
    throw new Error('it is not a list of "key: value"');
  } catch (error) {
    throw failedPrecondition(
      `${path} cannot be read: ${messageOf(error).split('\n', 1)[0] ?? ''}`,
      'Write one "key: value" on each line.',
      { cause: error },
    );
  }
}
