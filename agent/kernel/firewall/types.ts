// What both firewall drivers share: the report that tells drift from what was newly asked for, and the few words that
// a driver may log.
import type { Firewall, FirewallPort } from '../../../core/firewall.js';
import type { FirewallDriver, FirewallReport } from '../kernel.js';

export interface DriverReport extends FirewallReport {
  /**
   * What was written because it was asked for: at the first call everything that was missing, later what the desired
   * state has gained or lost. `repaired` holds only drift, that is, what differed from what this driver had put there.
   */
  applied: string[];
}

export interface NodeFirewallDriver extends FirewallDriver {
  /** @throws WeftError FAILED_PRECONDITION where the kernel or a tool refuses the rules */
  ensure(desired: Firewall): Promise<DriverReport>;
  changePorts(
    desired: Firewall,
    added: readonly FirewallPort[],
    removed: readonly FirewallPort[],
  ): Promise<DriverReport>;
}

export interface FirewallLog {
  debug(message: string, fields?: Record<string, unknown>): void;
}

export type Problem = FirewallReport['problems'][number];

/** Sorts the words of a comparison into drift and what was asked for. */
export function sortWords(
  changes: readonly string[],
  drift: readonly string[],
): { repaired: string[]; applied: string[] } {
  const known = new Set(drift);
  return { repaired: [...drift], applied: changes.filter((change) => !known.has(change)) };
}
