// What the reconciler is given, and whom it tells.
import type { PolicySource } from './firewall-target.js';
import type { Logger } from '../../daemon/log.js';
import type { AgentMetrics, Problems } from '../health/index.js';
import type { Kernel } from '../kernel/index.js';
import type { CloudRoutesOptions } from './cloud-routes.js';
import type { Repaired } from './drift.js';
import type { SandboxKey } from './record-key.js';
import type { Observers } from './target.js';

export interface ReconcilerOptions {
  kernel: Kernel;
  log: Logger;
  metrics: AgentMetrics;
  problems: Problems;
  /** A container's namespace is absent: its record should be deleted. */
  onSandboxGone: (record: SandboxKey) => void;
  /** Containers' ends that were prepared on the node have been moved inside. */
  onMovedIn?: (names: readonly string[]) => void;
  /** Addresses, links or routes changed that the underlay may depend on. */
  onUnderlay: () => void;
  /** A route changed that is not weft's. */
  onRoutes?: () => void;
  onRepaired?: Repaired;
  observers?: Observers;
  compareEveryMs?: number;
  policies?: PolicySource;
  clouds?: CloudRoutesOptions['clouds'];
  /** What a network has in a cloud leads to this node from now on. */
  onCloudRoutes?: CloudRoutesOptions['onSettled'];
}
