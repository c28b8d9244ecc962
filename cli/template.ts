// Templates of --format, as docker's: {{.Name}}, {{json .}}, {{join .Aliases ", "}}, and `table {{.Name}}\t{{.State}}`.
//
// Of Go's templates they have fields and a few functions; anything else is refused before anything is asked.
import { invalidArgument, type WeftError } from '../core/errors.js';

const FUNCTIONS = ['json', 'join', 'upper', 'lower', 'len', 'index', 'println'] as const;
type Name = (typeof FUNCTIONS)[number];

type Word = { field: readonly string[] } | { text: string };

type Part = string | { call: Name | undefined; words: readonly Word[] };

export interface Template {
  /** Its columns are lined up below headings. */
  isTable: boolean;
  head: string;
  /** One line. @throws WeftError INVALID_ARGUMENT for a field that the object does not have */
  line: (value: unknown) => string;
}

const NEXT =
  'Fields are those of -o json, such as {{.name}}; functions: json, join, upper, lower, len, index.';

/** @throws WeftError INVALID_ARGUMENT */
export function parseTemplate(text: string): Template {
  const isTable = /^table\s/.test(text);
  const body = unescaped(isTable ? text.replace(/^table\s+/, '') : text);
  const parts = body.split(/(\{\{.*?\}\})/s).map((part): Part => {
    if (!/^\{\{.*\}\}$/s.test(part)) {
      if (part.includes('{{') || part.includes('}}')) throw wrong(`"${part}" is not closed`);
      return part;
    }
    return action(part.slice(2, -2).replaceAll(/^-|-$/g, '').trim());
  });
  return {
    isTable,
    head: parts.map((part) => (typeof part === 'string' ? part : headOf(part))).join(''),
    line: (value) => parts.map((part) => (typeof part === 'string' ? part : shown(part, value))).join(''),
  };
}

const wrong = (why: string): WeftError => invalidArgument(`format: ${why}`, NEXT);

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

/** Docker's fields begin with a capital: the case does not matter. */
function fieldOf(value: unknown, path: readonly string[]): unknown {
  let at = value;
  for (const name of path) {
    if (typeof at !== 'object' || at === null) return undefined;
    const key = Object.keys(at).find((one) => one.toLowerCase() === name.toLowerCase());
    if (key === undefined && !Array.isArray(at) && Object.keys(at).length > 0)
      throw wrong(`there is no field ${name}; there are ${Object.keys(at).join(', ')}`);
    at = key === undefined ? undefined : (at as Record<string, unknown>)[key];
  }
  return at;
}

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
      return plain(fieldOf(first, [plain(second)]));
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
