// "Did you mean …?": the known word that is nearest to one that is not known.

/** So many letters say which word was begun. */
const SOME_LETTERS = 3;

/** The candidate that a person most likely meant, or undefined where none is near. */
export function nearest(word: string, candidates: Iterable<string>): string | undefined {
  const wanted = plain(word);
  const all = [...candidates];
  // `stat` is the beginning of one word, and near another.
  const begun = all.filter((candidate) => plain(candidate).startsWith(wanted));
  if (wanted.length >= SOME_LETTERS && begun.length === 1) return begun[0];
  let best: { candidate: string; distance: number } | undefined;
  for (const candidate of all) {
    const distance = editDistance(wanted, plain(candidate));
    if (best === undefined || distance < best.distance) best = { candidate, distance };
  }
  // A third of the letters wrong is a slip; more is another word.
  return best !== undefined && best.distance <= Math.max(1, Math.floor(wanted.length / 3))
    ? best.candidate
    : undefined;
}

/** ` Did you mean X?` or nothing, to be put behind a sentence. */
export function didYouMean(
  word: string,
  candidates: Iterable<string>,
  show = (found: string): string => found,
): string {
  const found = nearest(word, candidates);
  return found === undefined ? '' : `Did you mean ${show(found)}?`;
}

// etcd_ca, etcdCa and ETCD-CA all mean etcd-ca.
const plain = (word: string): string => word.toLowerCase().replaceAll(/[^a-z0-9]/g, '');

/** Damerau's distance (insert, delete, replace, swap neighbours), restricted form. */
function editDistance(a: string, b: string): number {
  let beforeLast: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const cost = a[i - 1] === b[j - 1] ? 0 : 1;
      let distance = Math.min((last[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1, (last[j - 1] ?? 0) + cost);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        distance = Math.min(distance, (beforeLast[j - 2] ?? 0) + 1);
      }
      row.push(distance);
    }
    beforeLast = last;
    last = row;
  }
  return last[b.length] ?? a.length;
}
