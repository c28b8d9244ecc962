// The context of a command: whom to ask and how to print.
import { connectorFor, type Connector } from './connect.js';
import type { GlobalOptions } from './global-options.js';
import { FORMATS, type Format } from './output.js';

export interface Context {
  format: Format;
  connect: Connector;
}

/** @param isGiven whether the controller's address was given */
export const contextOf = (options: GlobalOptions, isGiven: boolean, onAsk: () => void): Context => ({
  format: FORMATS.find((format) => format === options.output) ?? 'table',
  connect: connectorFor(options, isGiven, onAsk),
});

/** The values of an argument that may repeat. @param word as commander passes it */
export const listOf = (word: unknown): string[] => (Array.isArray(word) ? word.map(String) : []);

/** The output format of a call that may not parse: its error is printed in that format. */
export function formatOf(argv: readonly string[]): Format {
  const all = argv.slice(0, argv.includes('--') ? argv.indexOf('--') : undefined);
  const at = all.findLastIndex((word) => /^(-o|--output)/.test(word));
  const word = all[at] ?? '';
  const value = word === '-o' || word === '--output' ? all[at + 1] : word.replace(/^(--output=|-o=?)/, '');
  return FORMATS.find((format) => format === value) ?? 'table';
}
