// How a result is printed: as the options of the call say.
import { invalidArgument } from '../core/errors.js';
import { passes } from './filter.js';
import type { GlobalOptions } from './global-options.js';
import { print, table, type Listing, type Result } from './output.js';
import { parseTemplate } from './template.js';

/** @throws WeftError INVALID_ARGUMENT for a filter or template that does not fit the result */
export async function present(result: Result, options: GlobalOptions): Promise<void> {
  const listing = result.listing && filtered(result.listing, options);
  const value = listing === undefined ? result.value : listing.rows.map(({ shape }) => shape);
  if (options.format !== undefined) {
    const text = await formatted(options.format, Array.isArray(value) ? value : [value]);
    return await print({ value, text: () => text }, 'table');
  }
  if (options.output === 'name' || (options.quiet === true && listing !== undefined)) {
    const names = listing === undefined ? [nameIn(value)] : listing.rows.map(({ name }) => name);
    return await print({ value, text: () => names.join('\n') }, 'table');
  }
  if (options.output === 'json' || options.output === 'yaml')
    return await print({ ...result, value }, options.output);
  const text = listing === undefined ? result.text : () => listingText(listing, options);
  await print({ value, text }, 'table');
}

const filtered = ({ rows, ...listing }: Listing, { filter = [] }: GlobalOptions): Listing => ({
  ...listing,
  rows: rows.filter(({ shape }) => passes(shape, filter)),
});

function listingText({ head, wideHead, rows }: Listing, { output, headers }: GlobalOptions): Promise<string> {
  const isWide = output === 'wide';
  const shown = rows.map(({ cells, wide }) => (isWide ? [...cells, ...wide] : cells));
  return table(headers === false ? [] : isWide ? [...head, ...wideHead] : head, shown);
}

async function formatted(text: string, values: readonly unknown[]): Promise<string> {
  const template = parseTemplate(text);
  const lines = values.map(template.line);
  if (!template.isTable) return lines.join('\n');
  return await table(
    template.head.split('\t'),
    lines.map((line) => line.split('\t')),
  );
}

function nameIn(value: unknown): string {
  const { name } = (value ?? {}) as { name?: unknown };
  if (typeof name === 'string') return name;
  throw invalidArgument('-o name: this has no name', 'Use -o json.');
}
