// Labels of endpoints: what a container is, in the words of the program that made it.
//
// K8S_POD_NAMESPACE=web. A key looks like a word; a value is any line of text.

import { invalidArgument } from './errors.js';

export type Labels = Readonly<Record<string, string>>;

const KEY = /^[A-Za-z0-9](?:[A-Za-z0-9_./-]{0,126}[A-Za-z0-9])?$/;
/** Characters; Kubernetes' names have up to 253. */
const MAX_VALUE = 256;
/** Of one endpoint: its record stays small. */
export const MAX_LABELS = 64;

export const isLabelKey = (key: string): boolean => KEY.test(key);

/** One line of text that a terminal shows as it is. */
export const isLabelValue = (value: string): boolean =>
  value.length <= MAX_VALUE && !/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u.test(value);

/** Checks labels that a person gives. @throws WeftError INVALID_ARGUMENT */
export function checkLabels(labels: Labels): Labels {
  const entries = Object.entries(labels);
  if (entries.length > MAX_LABELS)
    throw invalidArgument(
      `label: ${entries.length} are too many for one endpoint`,
      `At most ${MAX_LABELS} are allowed.`,
    );
  for (const [key, value] of entries) {
    parseLabelKey(key);
    if (!isLabelValue(value))
      throw invalidArgument(
        `label: the value of ${key} cannot be one`,
        `It is one line of at most ${MAX_VALUE} characters.`,
      );
  }
  return labels;
}

/** @throws WeftError INVALID_ARGUMENT */
export function parseLabelKey(key: string): string {
  if (isLabelKey(key)) return key;
  throw invalidArgument(
    `label: "${key}" is no key`,
    'A key has letters, digits, and . _ / - between them, and at most 128 characters.',
  );
}

/** What is no label is left out. */
export const labelsIn = (all: Readonly<Record<string, string>>): Labels =>
  Object.fromEntries(
    Object.entries(all)
      .filter(([key, value]) => isLabelKey(key) && isLabelValue(value))
      .slice(0, MAX_LABELS),
  );

/** A label as it is written: KEY=VALUE. @throws WeftError INVALID_ARGUMENT */
export function parseLabel(text: string): [key: string, value: string] {
  const at = text.indexOf('=');
  if (at < 0) throw invalidArgument(`label: "${text}" is none`, 'Write it as KEY=VALUE.');
  const label: [string, string] = [text.slice(0, at), text.slice(at + 1)];
  checkLabels(Object.fromEntries([label]));
  return label;
}
