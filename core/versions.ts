// Which releases work together in one cluster.

/** The oldest whose daemons work with those of this release; a release raises it to the one before itself at most. */
export const OLDEST_VERSION = '0.1.0';

/** Whether a daemon of this version is too old for this release. What is no version is not. */
export function isTooOld(version: string): boolean {
  const [its, oldest] = [version, OLDEST_VERSION].map((text) => /^(\d+)\.(\d+)\.(\d+)/.exec(text)?.slice(1));
  if (its === undefined || oldest === undefined) return false;
  const at = its.findIndex((part, i) => part !== oldest[i]);
  return at >= 0 && Number(its[at]) < Number(oldest[at]);
}

/** What is wrong with one that is too old, and what to do. @param where the host that it is on */
export const tooOld = (version: string, where: string): { why: string; fix: string } => ({
  why: `its weft is ${version}, and this release works with ${OLDEST_VERSION} and newer`,
  fix: `Install a newer weft on ${where}, one release after the other, and restart its daemons: containers keep their networks.`,
});
