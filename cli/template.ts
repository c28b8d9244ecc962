// Templates of --format, as docker's: {{.Name}}, {{json .}}, {{join .Aliases ", "}}, and `table {{.Name}}\t{{.State}}`.
//
// Of Go's templates they have fields and a few functions; anything else is refused before anything is asked.
import type { WeftError } from '../core/errors.js';
import { ExitError } from './exit.js';

const FUNCTIONS = ['json', 'join', 'upper', 'lower', 'len', 'index', 'println'] as const;
type Name = (typeof FUNCTIONS)[number];

type Word = { field: readonly string[] } | { text: string };

type Part = string | { call: Name | undefined; words: readonly Word[] };

export interface Template {
  /** Its columns are lined up below headings. */
  isTable: boolean;
  head: string;
  /** One line. @throws ExitError 2 for a field that the object does not have */
  line: (value: unknown) => string;
}

const SYNTAX =
  'Fields are those of -o json, such as {{.name}}; functions: json, join, upper, lower, len, index.';

/** @param fields of what is shown, where they are known before; @throws ExitError 2 */
export function parseTemplate(text: string, fields?: readonly string[]): Template {
  const isTable = /^table\s/.test(text);
  const body = unescaped(isTable ? text.replace(/^table\s+/, '') : text);
  const parts = body.split(/(\{\{.*?\}\})/s).map((part): Part => {
    if (!/^\{\{.*\}\}$/s.test(part)) {
      if (part.includes('{{') || part.includes('}}')) throw wrong(`"${part}" is not closed`);
      return part;
    }
    return action(part.slice(2, -2).replaceAll(/^-|-$/g, '').trim());
  });
  for (const part of parts)
    for (const word of typeof part === 'string' ? [] : part.words)
      if (fields !== undefined && 'field' in word && word.field[0] !== undefined)
        keyOf(word.field[0], fields);
  return {
    isTable,
    head: parts.map((part) => (typeof part === 'string' ? part : headOf(part))).join(''),
    line: (value) => parts.map((part) => (typeof part === 'string' ? part : shown(part, value))).join(''),
  };
}

/** A wrong call, also where what is shown had to be asked for to find it. */
const wrong = (why: string, next = SYNTAX): WeftError =>
  new ExitError('INVALID_ARGUMENT', 2, `format: ${why}`, next);

const unescaped = (text: string): string => text.replaceAll('\\t', '\t').replaceAll('\\n', '\n');

function action(text: string): Exclude<Part, string> {
  const words = text.match(/"(?:[^"\\]|\\.)*"|\S+/g) ?? [];
  const [first = '', ...rest] = words;
  const call = FUNCTIONS.find((name) => name === first);
  if (call === undefined && (rest.length > 0 || !first.startsWith('.')))
    throw wrong(`{{${text}}} is not understood`);
  return { call, words: (call === undefined ? words : rest).map(wordOf) };
}

function wordOf(text: string): Word {
  if (text.startsWith('"')) return { text: textIn(text) };
  if (text === '.') return { field: [] };
  if (/^(?:\.[A-Za-z0-9_-]+)+$/.test(text)) return { field: text.slice(1).split('.') };
  if (/^\d+$/.test(text)) return { text };
  throw wrong(`${text} is neither a field nor a text`);
}

function textIn(quoted: string): string {
  try {
    return JSON.parse(quoted) as string;
  } catch {
    throw wrong(`${quoted} is not a text`);
  }
}

const headOf = ({ words }: Exclude<Part, string>): string => {
  const [word] = words;
  return word !== undefined && 'field' in word ? (word.field.at(-1) ?? '').toUpperCase() : '';
};

/** Docker's fields begin with a capital: the case does not matter. @throws ExitError 2 for none of these */
function keyOf(name: string, keys: readonly string[]): string {
  const key = keys.find((one) => one.toLowerCase() === name.toLowerCase());
  if (key === undefined) throw wrong(`there is no field ${name}`, `Fields are ${keys.join(', ')}.`);
  return key;
}

function fieldOf(value: unknown, path: readonly string[]): unknown {
  let at = value;
  for (const [i, name] of path.entries()) {
    if (typeof at !== 'object' || at === null) return undefined;
    const keys = Object.keys(at);
    // Which labels an object has is its own matter, and an object may have nothing to tell.
    const isOpen = Array.isArray(at) || keys.length === 0 || /^labels$/i.test(path[i - 1] ?? '');
    at = memberOf(at, isOpen ? name : keyOf(name, keys));
  }
  return at;
}

const memberOf = (value: unknown, key: string): unknown =>
  typeof value === 'object' && value !== null && Object.hasOwn(value, key)
    ? (value as Record<string, unknown>)[key]
    : undefined;

function shown({ call, words }: Exclude<Part, string>, value: unknown): string {
  const [first, second] = words.map((word) => ('text' in word ? word.text : fieldOf(value, word.field)));
  switch (call) {
    case 'json':
      return JSON.stringify(first ?? null);
    case 'join':
      return Array.isArray(first) ? first.map(plain).join(plain(second)) : plain(first);
    case 'upper':
      return plain(first).toUpperCase();
    case 'lower':
      return plain(first).toLowerCase();
    case 'len':
      return String(
        typeof first === 'object' && first !== null ? Object.keys(first).length : plain(first).length,
      );
    case 'index':
      return plain(memberOf(first, plain(second)));
    case 'println':
      return `${plain(first)}\n`;
    case undefined:
      return plain(first);
  }
}

function plain(value: unknown): string {
  if (value === undefined || value === null) return '';
  return typeof value === 'string' ? value : JSON.stringify(value);
}
