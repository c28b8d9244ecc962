// Output of commands: tables for people, JSON or YAML for programs.
//
// Results go to stdout and errors to stderr; with JSON or YAML an error goes to stdout as well.
import type Table3 from 'cli-table3';

import type { WeftError } from '../core/errors.js';
import { visible, visibleLines } from '../core/text.js';

export const FORMATS = ['table', 'json', 'yaml'] as const;
export type Format = (typeof FORMATS)[number];

/** A value, with a text for people that is made only where it is needed. */
export interface Result {
  value: unknown;
  text: () => string | Promise<string>;
}

export async function print({ value, text }: Result, format: Format): Promise<void> {
  // What others wrote into records must not reach the terminal as control sequences.
  const shown = visibleLines(format === 'table' ? await text() : await serialize(value, format));
  if (shown !== '') process.stdout.write(shown.endsWith('\n') ? shown : `${shown}\n`);
}

async function serialize(value: unknown, format: 'json' | 'yaml'): Promise<string> {
  if (format === 'json') return JSON.stringify(value, undefined, 2);
  const { stringify } = await import('yaml');
  return stringify(value);
}

/** Something that does not keep a command from being done. */
export const printWarning = (text: string): void => void process.stderr.write(`weft: warning: ${text}\n`);

/** One or two lines: the cause, and what to do next. */
export async function printError(error: WeftError, format: Format, withStack: boolean): Promise<void> {
  const next = error.next === undefined ? '' : `\n      ${error.next}`;
  process.stderr.write(`weft: ${error.message}${next}\n`);
  if (withStack)
    process.stderr.write(
      visibleLines(
        `${error.stack ?? ''}\n${error.cause instanceof Error ? (error.cause.stack ?? '') : ''}\n`,
      ),
    );
  if (format === 'table') return;
  const value = {
    error: {
      code: error.code,
      message: error.message,
      ...(error.next === undefined ? {} : { next: error.next }),
    },
  };
  process.stdout.write(`${(await serialize(value, format)).trimEnd()}\n`);
}

const NO_BORDERS = Object.fromEntries(
  ['top', 'bottom', 'mid', 'left', 'right'].flatMap((side) => [
    [side, ''],
    [`${side}-mid`, ''],
    [`${side}-left`, ''],
    [`${side}-right`, ''],
  ]),
);

/** Columns with upper-case headings and two spaces between them, as docker and kubectl print. */
export async function table(
  head: readonly string[],
  rows: readonly (readonly (string | number)[])[],
): Promise<string> {
  const { default: Table } = await import('cli-table3');
  const made: Table3.Table = new Table({
    head: [...head],
    chars: { ...NO_BORDERS, 'left-mid': '', 'mid-mid': '', 'right-mid': '', middle: '  ' },
    style: { 'padding-left': 0, 'padding-right': 0, head: [], border: [] },
  });
  for (const row of rows) made.push(row.map((cell) => (cell === '' ? '-' : visible(String(cell)))));
  return trimLines(made.toString());
}

/** Names and values below each other. */
export function block(
  pairs: readonly (readonly [name: string, value: string | number | undefined | null])[],
): string {
  const shown = pairs.filter(([, value]) => value !== undefined && value !== null && value !== '');
  const width = Math.max(...shown.map(([name]) => name.length)) + 1;
  return shown.map(([name, value]) => `${`${name}:`.padEnd(width)} ${visible(String(value))}`).join('\n');
}

export const indent = (text: string): string => text.replace(/^(?=.)/gm, '  ');

const trimLines = (text: string): string =>
  text
    .split('\n')
    .map((line) => line.trimEnd())
    .join('\n');

/** `5m ago`, `in 23h`. @param at RFC 3339 */
export function relative(at: string | undefined | null, now = Date.now()): string {
  if (at === undefined || at === null || at === '') return '';
  const seconds = Math.round((Date.parse(at) - now) / 1000);
  const span = duration(Math.abs(seconds));
  return seconds > 0 ? `in ${span}` : `${span} ago`;
}

function duration(seconds: number): string {
  if (seconds < 90) return `${seconds}s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)}m`;
  if (seconds < 172_800) return `${Math.round(seconds / 3600)}h`;
  return `${Math.round(seconds / 86_400)}d`;
}
