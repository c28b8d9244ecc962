// Which pairs `weft connectivity test` tries, and its results for CI.
import { version } from '../daemon/version.js';

export interface Test {
  name: string;
  from: string;
  to: string;
  ok: boolean;
  /** Empty where it is ok. */
  why: string;
}

/** A ring, so that each is at both ends once, and half as many random pairs: all pairs of many nodes would take hours. */
export function chosenPairs<T>(all: readonly T[], random: () => number = Math.random): [T, T][] {
  const pairs = new Map<string, [T, T]>();
  const add = (from: number, to: number): void => {
    const [a, b] = [all[from], all[to]];
    if (a !== undefined && b !== undefined && from !== to) pairs.set(`${from} ${to}`, [a, b]);
  };
  for (let i = 0; i < all.length; i++) add(i, (i + 1) % all.length);
  for (let i = 0; i < all.length / 2; i++)
    add(Math.floor(random() * all.length), Math.floor(random() * all.length));
  return [...pairs.values()];
}

/** JUnit's XML, as CI systems read it. */
export function junit(tests: readonly Test[]): string {
  const cases = tests.map(({ name, from, to, ok, why }) => {
    const head = `  <testcase classname=${quoted(name)} name=${quoted(`${from} to ${to}`)}`;
    return ok ? `${head}/>` : `${head}><failure message=${quoted(why)}/></testcase>`;
  });
  const failures = tests.filter(({ ok }) => !ok).length;
  return [
    '<?xml version="1.0" encoding="UTF-8"?>',
    `<testsuite name=${quoted(`weft ${version} connectivity`)} tests="${tests.length}" failures="${failures}">`,
    ...cases,
    '</testsuite>',
    '',
  ].join('\n');
}

const ENTITIES: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };

/** Characters that XML 1.0 does not allow are left out. */
const quoted = (text: string): string =>
  `"${text.replaceAll(/[^\t\n\r\x20-\ud7ff\ue000-\ufffd]/g, '').replaceAll(/[&<>"]/g, (one) => ENTITIES[one] ?? '')}"`;
