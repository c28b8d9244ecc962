// Names that options give, of what must be there: a list of something that is not would only be empty.
import { unknownName } from '../daemon/unknown.js';

/**
 * Those that are named; all where none is.
 * @throws WeftError NOT_FOUND for a name that none has
 */
export function chosen<T extends { name: string }>(
  kind: 'network' | 'node',
  all: readonly T[],
  names: readonly string[] | undefined,
): readonly T[] {
  if (names === undefined) return all;
  return names.map((name) => {
    const found = all.find((one) => one.name === name);
    if (found === undefined)
      throw unknownName(
        kind,
        name,
        all.map((one) => one.name),
      );
    return found;
  });
}
