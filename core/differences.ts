// Differences between something that is there and a request for it: a call that asks for the same again is no error. And
// whether something is the same as before.

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

/** Whether the items are the very same, in this order. */
export const areSame = (now: readonly unknown[], before: readonly unknown[] | undefined): boolean =>
  now.length === before?.length && now.every((one, i) => one === before[i]);
