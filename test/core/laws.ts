// Budget of the property tests: WEFT_LAWS=N runs each N times as often.

/** @param times in the unit lane, which three versions of Node.js run, each with other random input */
export const runs = (times: number): { numRuns: number } => ({
  numRuns: Math.ceil(times * Number(process.env['WEFT_LAWS'] ?? 1)),
});
