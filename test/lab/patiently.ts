// Calls of weft's command line on a slow machine.
import type { Outcome } from './exec.js';
import { until } from './wait.js';

/**
 * A call of weft's command line, repeated where etcd did not answer it in time, as a user would: weft's own deadlines are not
 * stretched on a slow machine as those of tests are.
 */
export function patiently(what: string, call: () => Promise<Outcome>): Promise<Outcome> {
  return until(what, async () => {
    const outcome = await call();
    const { code, stdout, stderr } = outcome;
    // What the command line says with `-o json`, and without.
    if (code !== 0 && (stdout.includes('"UNAVAILABLE"') || stderr.includes('no answer in time')))
      throw new Error(stderr);
    return outcome;
  });
}
