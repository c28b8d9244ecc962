// Filters of lists, as docker's: --filter KEY=VALUE, several of one key for any of them.
import { invalidArgument } from '../core/errors.js';

export interface Filter {
  key: string;
  value: string;
}

/** Collects a repeated --filter. @throws WeftError INVALID_ARGUMENT */
export function parseFilter(text: string): Filter {
  const [, key, value] = /^([A-Za-z][\w-]*)=(.*)$/s.exec(text) ?? [];
  if (key === undefined || value === undefined)
    throw invalidArgument(`filter: "${text}" is not KEY=VALUE`, 'Write it as --filter name=web.');
  return { key: key.toLowerCase(), value };
}

/** Whether an object passes: one value of each key must fit. @throws WeftError INVALID_ARGUMENT for a key that it has not */
export function passes(object: object, filters: readonly Filter[]): boolean {
  const byKey = new Map<string, string[]>();
  for (const { key, value } of filters) byKey.set(key, [...(byKey.get(key) ?? []), value]);
  return [...byKey].every(([key, values]) => values.some((value) => fits(object, key, value)));
}

function fits(object: object, key: string, wanted: string): boolean {
  if (key === 'label' && 'labels' in object) return hasLabel(object.labels as Record<string, string>, wanted);
  const name = Object.keys(object).find((one) => one.toLowerCase() === key);
  if (name === undefined)
    throw invalidArgument(`filter: there is no ${key}`, `Filter by ${Object.keys(object).join(', ')}.`);
  const value = (object as Record<string, unknown>)[name];
  if (Array.isArray(value)) return value.map(String).includes(wanted);
  const text = typeof value === 'string' ? value : value === null ? '' : JSON.stringify(value);
  // As docker has it: a part of a name, the beginning of an id.
  if (name === 'name') return text.includes(wanted);
  return name === 'id' ? text.startsWith(wanted) : text === wanted || text.split('/')[0] === wanted;
}

function hasLabel(labels: Readonly<Record<string, string>>, wanted: string): boolean {
  const at = wanted.indexOf('=');
  return at < 0 ? Object.hasOwn(labels, wanted) : labels[wanted.slice(0, at)] === wanted.slice(at + 1);
}
