// Filters of lists, as docker's: --filter KEY=VALUE, several of one key for any of them.
import { invalidArgument } from '../core/errors.js';

/** One of the labels of an object, by docker's word. */
const LABEL = 'label';

export interface Filter {
  /** As the object has it. */
  key: string;
  value: string;
}

/** @param fields of what is listed @throws WeftError INVALID_ARGUMENT */
export function parseFilter(text: string, fields: readonly string[]): Filter {
  const [, key, value] = /^([A-Za-z][\w-]*)=(.*)$/s.exec(text) ?? [];
  if (key === undefined || value === undefined)
    throw invalidArgument(`filter: "${text}" is not KEY=VALUE`, 'Write it as --filter name=web.');
  const keys = fields.map((field) => (field === 'labels' ? LABEL : field));
  const known = keys.find((one) => one.toLowerCase() === key.toLowerCase());
  if (known === undefined)
    throw invalidArgument(`filter: there is no ${key}`, `Filter by ${keys.join(', ')}.`);
  return { key: known, value };
}

/** Whether an object passes: one value of each key must fit. */
export function passes(object: object, filters: readonly Filter[]): boolean {
  const byKey = new Map<string, string[]>();
  for (const { key, value } of filters) byKey.set(key, [...(byKey.get(key) ?? []), value]);
  return [...byKey].every(([key, values]) => values.some((value) => fits(object, key, value)));
}

function fits(object: object, key: string, wanted: string): boolean {
  if (key === LABEL && 'labels' in object) return hasLabel(object.labels as Record<string, string>, wanted);
  const value = (object as Record<string, unknown>)[key] ?? '';
  if (Array.isArray(value)) return value.map(String).includes(wanted);
  const text = typeof value === 'string' ? value : JSON.stringify(value);
  // As docker has it: a part of a name, the beginning of an id.
  if (key === 'name') return text.includes(wanted);
  return key === 'id' ? text.startsWith(wanted) : text === wanted || text.split('/')[0] === wanted;
}

function hasLabel(labels: Readonly<Record<string, string>>, wanted: string): boolean {
  const at = wanted.indexOf('=');
  return at < 0 ? Object.hasOwn(labels, wanted) : labels[wanted.slice(0, at)] === wanted.slice(at + 1);
}
