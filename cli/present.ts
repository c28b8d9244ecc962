// How a result is printed: as the options of the call say.
import { passes } from './filter.js';
import type { GlobalOptions } from './global-options.js';
import { print, table, type Listing, type Result } from './output.js';
import { parseTemplate } from './template.js';

/** @throws ExitError 2 for a template that does not fit the result */
export async function present(result: Result, options: GlobalOptions): Promise<void> {
  const listing = result.listing && filtered(result.listing, options);
  const items = listing?.rows.map(({ shape }) => shape);
  const value = items === undefined ? result.value : (listing?.whole?.(items) ?? items);
  if (options.format !== undefined) {
    const text = await formatted(options.format, items ?? (Array.isArray(value) ? value : [value]));
    return await print({ value, text: () => text }, 'table');
  }
  if (options.output === 'name' || (options.quiet === true && listing !== undefined)) {
    const names = listing?.rows.map(({ name }) => name) ?? namesIn(value);
    return await print({ value, text: names === undefined ? result.text : () => names.join('\n') }, 'table');
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

async function listingText(
  { head, wideHead, rows, foot = [] }: Listing,
  { output, headers }: GlobalOptions,
): Promise<string> {
  const isWide = output === 'wide';
  const shown = rows.map(({ cells, wide }) => (isWide ? [...cells, ...wide] : cells));
  const text = await table(headers === false ? [] : isWide ? [...head, ...wideHead] : head, shown);
  return [text, ...foot].join('\n');
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

/** Undefined where something has none. */
function namesIn(value: unknown): string[] | undefined {
  const all: unknown[] = Array.isArray(value) ? value : [value];
  const names = all.flatMap((one) =>
    typeof one === 'object' && one !== null && 'name' in one && typeof one.name === 'string' ? one.name : [],
  );
  return names.length < all.length ? undefined : names;
}
