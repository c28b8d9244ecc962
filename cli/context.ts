// What every command has: where to ask, how to print, and how long to wait. Options come from flags, then the environment.
import { connectorFor, type Connector } from './connect.js';
import type { GlobalOptions } from './global-options.js';
import { FORMATS, type Format } from './output.js';

export interface Context {
  format: Format;
  connect: Connector;
}

export const contextOf = (options: GlobalOptions, onAsk: () => void): Context => ({
  format: options.output ?? 'table',
  connect: connectorFor(options, onAsk),
});

/** The words of an argument that takes several. @param word as commander has it */
export const listOf = (word: unknown): string[] => (Array.isArray(word) ? word.map(String) : []);

/** The format that was asked for, of a call that may be wrong otherwise: its error goes where the caller reads. */
export function formatOf(argv: readonly string[]): Format {
  const all = argv.slice(0, argv.includes('--') ? argv.indexOf('--') : undefined);
  const at = all.findLastIndex((word) => /^(-o|--output)/.test(word));
  const word = all[at] ?? '';
  const value = word === '-o' || word === '--output' ? all[at + 1] : word.replace(/^(--output=|-o=?)/, '');
  return FORMATS.find((format) => format === value) ?? 'table';
}
