// Several objects of one `inspect`.
import type { Result } from './output.js';

/** One object, or a list of several, as docker prints them. */
export async function inspectAll(
  words: readonly string[],
  one: (word: string) => Promise<Result>,
): Promise<Result> {
  const results: Result[] = [];
  for (const word of words) results.push(await one(word));
  const [only, ...others] = results;
  if (only !== undefined && others.length === 0) return only;
  return {
    value: results.map(({ value }) => value),
    text: async () => {
      const texts: string[] = [];
      for (const { text } of results) texts.push(await text());
      return texts.join('\n\n');
    },
  };
}
