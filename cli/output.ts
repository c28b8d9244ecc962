// Output of commands: tables for people, JSON or YAML for programs.
//
// Results go to stdout and errors to stderr; with JSON or YAML an error goes to stdout as well.
import type Table3 from 'cli-table3';

import type { WeftError } from '../core/errors.js';
import { visible, visibleLines } from '../core/text.js';
import { coloured, wantsColour } from './colour.js';
import { wipe } from './waiting.js';

export const FORMATS = ['table', 'json', 'yaml'] as const;
export type Format = (typeof FORMATS)[number];

/** A value, with a text for people that is made only where it is needed. */
export interface Result {
  value: unknown;
  text: () => string | Promise<string>;
  /** Of a list: what can be filtered, and shown in other columns. */
  listing?: Listing;
}

export interface Listing {
  head: readonly string[];
  /** Of the columns that -o wide adds. */
  wideHead: readonly string[];
  rows: readonly { shape: object; name: string; cells: readonly Cell[]; wide: readonly Cell[] }[];
}

type Cell = string | number;
/** By their headings. */
type Columns<T> = Readonly<Record<string, (item: T) => Cell>>;

/** A list, one row for each item. @param of `name`: what -q and -o name print */
export function listing<T>(
  items: readonly T[],
  of: { shape: (item: T) => object; name: (item: T) => string; columns: Columns<T>; wide?: Columns<T> },
): Result {
  const { shape, name, columns, wide = {} } = of;
  const cellsOf = (item: T, all: Columns<T>): Cell[] => Object.values(all).map((cell) => cell(item));
  const rows = items.map((item) => ({
    ...{ shape: shape(item), name: name(item) },
    ...{ cells: cellsOf(item, columns), wide: cellsOf(item, wide) },
  }));
  const head = Object.keys(columns);
  return {
    value: rows.map((row) => row.shape),
    text: () =>
      table(
        head,
        rows.map(({ cells }) => cells),
      ),
    listing: { head, wideHead: Object.keys(wide), rows },
  };
}

export async function print({ value, text }: Result, format: Format): Promise<void> {
  // What others wrote into records must not reach the terminal as control sequences.
  const shown = visibleLines(format === 'table' ? await text() : await serialize(value, format));
  if (shown === '') return;
  const isColoured = format === 'table' && wantsColour(process.stdout.isTTY, process.env);
  const painted = isColoured ? coloured(shown) : shown;
  process.stdout.write(shown.endsWith('\n') ? painted : `${painted}\n`);
}

async function serialize(value: unknown, format: 'json' | 'yaml'): Promise<string> {
  if (format === 'json') return JSON.stringify(value, undefined, 2);
  const { stringify } = await import('yaml');
  return stringify(value);
}

/** What happens meanwhile. */
export function printNote(text: string): void {
  wipe();
  process.stderr.write(`weft: ${text}\n`);
}

/** Something that does not keep a command from being done. */
export const printWarning = (text: string): void => printNote(`warning: ${text}`);

/** One or two lines: the cause, and what to do next. */
export async function printError(error: WeftError, format: Format, withStack: boolean): Promise<void> {
  const next = error.next === undefined ? '' : `\n      ${error.next}`;
  printNote(`${error.message}${next}`);
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

/** Columns with upper-case headings and two spaces between them, as docker and kubectl print. @param head may be empty */
export async function table(
  head: readonly string[],
  rows: readonly (readonly Cell[])[],
  width = process.stdout.columns,
): Promise<string> {
  const { default: Table } = await import('cli-table3');
  const made: Table3.Table = new Table({
    head: [...head],
    chars: { ...NO_BORDERS, 'left-mid': '', 'mid-mid': '', 'right-mid': '', middle: '  ' },
    style: { 'padding-left': 0, 'padding-right': 0, head: [], border: [] },
  });
  const cells = rows.map((row) => row.map((cell) => (cell === '' ? '-' : visible(String(cell)))));
  made.push(...fitted(head, cells, width));
  return trimLines(made.toString());
}

/** Narrower than this no column gets. */
const NARROWEST = 10;

/** Cuts what does not fit into the terminal, the widest columns first. @param width undefined: there is no terminal */
export function fitted(
  head: readonly string[],
  rows: readonly string[][],
  width: number | undefined,
): string[][] {
  const widths = (rows[0] ?? []).map((_, i) =>
    Math.max(head[i]?.length ?? 0, ...rows.map((row) => row[i]?.length ?? 0)),
  );
  const total = (): number => widths.reduce((sum, one) => sum + one + 2, -2);
  const least = (i: number): number => Math.max(NARROWEST, head[i]?.length ?? 0);
  while (width !== undefined && total() > width) {
    const widest = widths.reduce(
      (best, one, i) => (one - least(i) > (widths[best] ?? 0) - least(best) ? i : best),
      0,
    );
    if ((widths[widest] ?? 0) <= least(widest)) break;
    widths[widest] = (widths[widest] ?? 0) - 1;
  }
  return rows.map((row) =>
    row.map((cell, i) => (cell.length > (widths[i] ?? 0) ? `${cell.slice(0, (widths[i] ?? 1) - 1)}…` : cell)),
  );
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
