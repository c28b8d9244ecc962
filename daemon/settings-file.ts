// The YAML file of a daemon's settings: each value as written, with its line.
import { readFileSync } from 'node:fs';

import { isAlias, isMap, isScalar, isSeq, LineCounter, parseDocument, type Document } from 'yaml';

import { invalidArgument, messageOf } from '../core/errors.js';
import { errnoOf } from './errno.js';
import type { Kind } from './kinds.js';
import { didYouMean } from './suggest.js';

/** A value as text, before it is checked. */
export interface Given {
  text: string;
  /** Where it came from: `flag --x`, `environment WEFT_X`, `FILE: x at line N`. */
  where: string;
}

type KnownSettings = Readonly<Record<string, { readonly kind: Kind<unknown>; readonly flagOnly: boolean }>>;

/**
 * @param named the file of --config; absent: the default file, where it exists
 * @throws WeftError INVALID_ARGUMENT naming the file, the key and its line
 */
export function readSettingsFile(
  { defaultFile, settings }: { defaultFile: string; settings: KnownSettings },
  named: Given | undefined,
): { path: string | undefined; given: Map<string, Given> } {
  const path = named?.text ?? defaultFile;
  let text: string;
  try {
    text = decode(readFileSync(path));
  } catch (error) {
    const code = errnoOf(error);
    if (named === undefined && (code === 'ENOENT' || code === 'ENOTDIR'))
      return { path: undefined, given: new Map() };
    const why = code === 'ENOENT' ? 'there is no such file' : messageOf(error);
    throw invalidArgument(
      `${named?.where ?? 'default of --config'}: ${path}: ${why}`,
      'Name a YAML file that can be read.',
      {
        cause: error,
      },
    );
  }
  return { path, given: readYaml(path, text, settings) };
}

/** A byte order mark says which encoding it is, and is no part of the text (YAML 1.2.2 §5.2). */
function decode(bytes: Uint8Array): string {
  const [first, second] = bytes;
  const encoding =
    first === 0xff && second === 0xfe ? 'utf-16le' : first === 0xfe && second === 0xff ? 'utf-16be' : 'utf-8';
  return new TextDecoder(encoding).decode(bytes);
}

function readYaml(path: string, text: string, settings: KnownSettings): Map<string, Given> {
  const lines = new LineCounter();
  const document = parse(path, text, lines);
  const line = (offset: number | undefined): number => lines.linePos(offset ?? 0).line;
  const [broken] = document.errors;
  if (broken !== undefined) {
    throw invalidArgument(
      `${path}: line ${line(broken.pos[0])}: not YAML: ${tooDeep(broken) ?? broken.message}`,
      'Write one "key: value" on each line.',
    );
  }
  const given = new Map<string, Given>();
  if (document.contents === null || (isScalar(document.contents) && document.contents.value === null))
    return given;
  if (!isMap(document.contents))
    throw invalidArgument(`${path}: is not a list of "key: value"`, 'Write one setting on each line.');

  const known = Object.keys(settings).filter((key) => settings[key]?.flagOnly !== true);
  for (const { key: keyNode, value } of document.contents.items) {
    const key = isScalar(keyNode) ? String(keyNode.value) : '';
    const where = `${path}: ${key} at line ${line(isScalar(keyNode) ? keyNode.range?.[0] : 0)}`;
    const declared = known.includes(key) ? settings[key] : undefined;
    if (declared === undefined) {
      const hint = didYouMean(key, known);
      throw invalidArgument(`${where}: not known`, hint === '' ? `Known are: ${known.join(', ')}.` : hint);
    }
    given.set(key, { text: textOf(value, declared.kind, document, where), where });
  }
  return given;
}

/** @throws WeftError INVALID_ARGUMENT where the nesting is too deep: the parser reports that, or throws RangeError */
function parse(path: string, text: string, lineCounter: LineCounter): Document.Parsed {
  try {
    return parseDocument(text, { lineCounter, prettyErrors: false });
  } catch (error) {
    throw invalidArgument(
      `${path}: not YAML: ${tooDeep(error) ?? messageOf(error)}`,
      'Write one "key: value" on each line.',
      { cause: error },
    );
  }
}

const tooDeep = (error: unknown): string | undefined =>
  /call stack/i.test(messageOf(error)) ? 'it is nested too deeply' : undefined;

function textOf(value: unknown, kind: Kind<unknown>, document: Document, where: string): string {
  const node = isAlias(value) ? value.resolve(document) : value;
  if (isScalar(node) && node.value !== null) {
    // The text as written, so that a number keeps its digits.
    return typeof node.value === 'string' ? node.value : (node.source ?? JSON.stringify(node.value));
  }
  if (isSeq(node) && kind.list)
    return node.items.map((item) => textOf(item, { ...kind, list: false }, document, where)).join(',');
  const found = isSeq(node) ? 'a list' : isMap(node) ? 'a map' : 'nothing';
  throw invalidArgument(
    `${where}: the value is ${found}`,
    `Write it as ${kind.placeholder === '' ? 'true or false' : kind.placeholder}.`,
  );
}
