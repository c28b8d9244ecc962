// What both firewall drivers share: the report and its logger.
//
// The report tells drift from newly desired changes.
import type { Firewall, FirewallChange, FirewallItem } from '../../../core/firewall.js';
import type { FirewallDriver, FirewallReport } from '../kernel.js';

export interface DriverReport extends FirewallReport {
  /**
   * Changes to the desired state: at the first call everything that was missing, later what the desired state gained or lost.
   * `repaired` holds only drift, that is, differences from what this driver had applied.
   */
  applied: string[];
}

export interface NodeFirewallDriver extends FirewallDriver {
  /** @throws WeftError FAILED_PRECONDITION where the kernel or a tool rejects the rules */
  ensure(desired: Firewall, news?: FirewallChange): Promise<DriverReport>;
  changeItems(
    desired: Firewall,
    added: readonly FirewallItem[],
    removed: readonly FirewallItem[],
  ): Promise<DriverReport>;
}

export interface FirewallLog {
  debug(message: string, fields?: Record<string, unknown>): void;
}

export type Problem = FirewallReport['problems'][number];

/** Sorts the descriptions of a comparison into drift and desired changes. */
export function sortWords(
  changes: readonly string[],
  drift: readonly string[],
): { repaired: string[]; applied: string[] } {
  const known = new Set(drift);
  return { repaired: [...drift], applied: changes.filter((change) => !known.has(change)) };
}
