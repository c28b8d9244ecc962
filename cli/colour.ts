// Colour for people at a terminal: of what is good, bad, or to be looked at.
//
// It is added to the finished text, after everything in it that came from elsewhere was made harmless.

/** ECMA-48, SGR. */
const CODE = { red: 31, green: 32, yellow: 33 } as const;

const WORDS: readonly [pattern: RegExp, colour: keyof typeof CODE][] = [
  [/(?<=^Health: +)ok$/gm, 'green'],
  [/(?<=^Health: +)degraded$/gm, 'yellow'],
  [/(?<=^Health: +)down$/gm, 'red'],
  [/^(?:Problems(?: of the cluster)?|Failed):$/gm, 'red'],
  [/^Warnings(?: of the cluster)?:$/gm, 'yellow'],
  // The third column of a table below a heading: of peers.
  [/(?<=^ {2}\S+ {2,}\S+ {2,})down(?= |$)/gm, 'red'],
  [/(?<=^Verdict: +)reached$/gm, 'green'],
  [/(?<=^Verdict: +)stopped(?= on \S+$|$)/gm, 'red'],
  [/(?<=^Verdict: +)unknown(?= on \S+$|$)/gm, 'yellow'],
];

/** https://no-color.org: any value but an empty one. */
export const wantsColour = (
  isTerminal: boolean,
  env: Readonly<Record<string, string | undefined>>,
): boolean => isTerminal && (env['NO_COLOR'] ?? '') === '' && env['TERM'] !== 'dumb';

export const coloured = (text: string): string =>
  WORDS.reduce(
    (done, [pattern, colour]) =>
      done.replaceAll(pattern, (word) => `\u001B[${CODE[colour]}m${word}\u001B[0m`),
    text,
  );
