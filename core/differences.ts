// Differences between something that is there and a request for it: a call that asks for the same again is no error.

/** What a property is called, what is asked for, what is there; undefined: none. */
export type Comparison = readonly [
  what: string,
  asked: string | number | undefined,
  is: string | number | undefined,
];

export const differencesOf = (pairs: readonly Comparison[]): string[] =>
  pairs.flatMap(([what, asked, is]) =>
    asked === is ? [] : [`${what} is ${is ?? 'none'}, not ${asked ?? 'none'}`],
  );
