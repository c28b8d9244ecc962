// Output of commands: tables for people, JSON or YAML for programs.
//
// Results go to stdout and errors to stderr; with JSON or YAML an error goes to stdout as well.
import type Table3 from 'cli-table3';

import type { WeftError } from '../core/errors.js';
import { visible, visibleLines } from '../core/text.js';
import { coloured, wantsColour } from './colour.js';
import { seen } from './waiting.js';

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
  /** The value, where the items are a part of it. */
  whole?: (items: readonly object[]) => object;
  /** Lines below the table. */
  foot?: readonly string[];
}

type Cell = string | number;
/** By their headings. */
type Columns<T> = Readonly<Record<string, (item: T) => Cell>>;

/** A list, one row for each item. @param of `name`: what -q and -o name print */
export function listing<T>(
  items: readonly T[],
  of: Pick<Listing, 'whole' | 'foot'> & {
    shape: (item: T) => object;
    name: (item: T) => string;
    columns: Columns<T>;
    wide?: Columns<T>;
  },
): Result {
  const { shape, name, columns, wide = {}, ...rest } = of;
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
    listing: { head, wideHead: Object.keys(wide), rows, ...rest },
  };
}

export async function print({ value, text }: Result, format: Format): Promise<void> {
  // What others wrote into records must not reach the terminal as control sequences.
  const shown = visibleLines(format === 'table' ? await text() : await serialize(value, format));
  if (shown === '') return;
  seen();
  process.stdout.write(`${format === 'table' ? forPeople(shown) : shown}${shown.endsWith('\n') ? '' : '\n'}`);
}

function forPeople(text: string): string {
  const { env, stdout } = process;
  const readable = forTerminal(text, stdout.isTTY, env);
  return wantsColour(stdout.isTTY, env) ? coloured(readable) : readable;
}

async function serialize(value: unknown, format: 'json' | 'yaml'): Promise<string> {
  if (format === 'json') return JSON.stringify(value, undefined, 2);
  const { stringify } = await import('yaml');
  return stringify(value);
}

/** What happens meanwhile. */
export function printNote(text: string): void {
  seen();
  process.stderr.write(`weft: ${forTerminal(text, process.stderr.isTTY, process.env)}\n`);
}

/** Without the characters that a terminal of another charset than UTF-8 does not have. Unset is most often a container's. */
export function forTerminal(
  text: string,
  isTerminal: boolean,
  env: Readonly<Record<string, string | undefined>>,
): string {
  // POSIX.1-2017, 8.2: the first that is not empty counts.
  const locale = [env['LC_ALL'], env['LC_CTYPE'], env['LANG']].find(Boolean) ?? 'C.UTF-8';
  return isTerminal && !/utf-?8/i.test(locale) ? text.replaceAll('’', "'").replaceAll('…', '~') : text;
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

/**
 * Columns with upper-case headings and two spaces between them, as docker and kubectl print.
 * Where the terminal is too narrow for them, rows become blocks.
 * @param head may be empty
 * @param margin of the terminal's width, which is kept free
 */
export async function table(
  head: readonly string[],
  rows: readonly (readonly Cell[])[],
  margin = 0,
): Promise<string> {
  const cells = rows.map((row) => row.map((cell) => (cell === '' ? '-' : visible(String(cell)))));
  const columns = terminalWidth();
  const width = columns === undefined ? undefined : columns - margin;
  const fitting = fitted(head, cells, width);
  if (width !== undefined && head.length > 0 && widthOf(columnWidths(head, fitting)) > width)
    return cells.map((row) => block(row.map((cell, i) => [head[i] ?? '', cell]))).join('\n\n');
  const { default: Table } = await import('cli-table3');
  const made: Table3.Table = new Table({
    head: [...head],
    chars: { ...NO_BORDERS, 'left-mid': '', 'mid-mid': '', 'right-mid': '', middle: '  ' },
    style: { 'padding-left': 0, 'padding-right': 0, head: [], border: [] },
  });
  made.push(...fitting);
  return trimLines(made.toString());
}

/** In characters; undefined: there is no terminal. */
const terminalWidth = (): number | undefined => process.stdout.columns;

/** Narrower than this no column gets. */
const NARROWEST = 10;

/** Cuts what does not fit into the terminal, the widest columns first. @param width undefined: there is no terminal */
export function fitted(
  head: readonly string[],
  rows: readonly string[][],
  width: number | undefined,
): string[][] {
  const widths = columnWidths(head, rows);
  const least = (i: number): number => Math.max(NARROWEST, head[i]?.length ?? 0);
  while (width !== undefined && widthOf(widths) > width) {
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

const columnWidths = (head: readonly string[], rows: readonly string[][]): number[] =>
  (rows[0] ?? []).map((_, i) => Math.max(head[i]?.length ?? 0, ...rows.map((row) => row[i]?.length ?? 0)));

/** With two spaces between columns. */
const widthOf = (columns: readonly number[]): number => columns.reduce((sum, one) => sum + one + 2, -2);

/** Names and values below each other. */
export function block(
  pairs: readonly (readonly [name: string, value: string | number | undefined | null])[],
): string {
  const shown = pairs.filter(([, value]) => value !== undefined && value !== null && value !== '');
  const width = Math.max(...shown.map(([name]) => name.length)) + 1;
  return shown.map(([name, value]) => `${`${name}:`.padEnd(width)} ${visible(String(value))}`).join('\n');
}

const MARGIN = 2;

export const indent = (text: string): string => text.replace(/^(?=.)/gm, ' '.repeat(MARGIN));

/** A table below a heading. */
export const indentedTable = async (
  head: readonly string[],
  rows: readonly (readonly Cell[])[],
): Promise<string> => indent(await table(head, rows, MARGIN));

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

/** Leases are renewed an hour before their end, as by flannel. With less left than this, in milliseconds, that is late. */
const LATE_MS = 50 * 60_000;

/** `in 20m` for the end of what was not renewed in time; else empty. @param at RFC 3339 */
export const ending = (at: string | undefined | null, now = Date.now()): string =>
  at !== undefined && at !== null && Date.parse(at) - now < LATE_MS ? relative(at, now) : '';

function duration(seconds: number): string {
  if (seconds < 90) return `${seconds}s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)}m`;
  if (seconds < 172_800) return `${Math.round(seconds / 3600)}h`;
  return `${Math.round(seconds / 86_400)}d`;
}
