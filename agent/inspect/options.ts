// What the answers to questions about this node are made from.
import type { EventLog } from '../../daemon/event-log.js';
import type { Status } from '../../proto/gen/weft/v1/types.js';
import type { Store } from '../../store/store.js';
import type { Endpoints } from '../endpoints/index.js';
import type { Problems } from '../health/index.js';
import type { Kernel } from '../kernel/index.js';
import type { Memberships } from '../networks/index.js';
import type { Attachments } from '../pipework/index.js';
import type { Reconciler } from '../reconcile/index.js';
import type { Sandboxes } from './sandboxes.js';

export interface InspectOptions {
  node: string;
  version: string;
  kernel: Kernel;
  store: Pick<Store, 'view' | 'state'>;
  memberships: Pick<Memberships, 'list' | 'get'>;
  endpoints: Pick<Endpoints, 'list' | 'get'>;
  attachments: Pick<Attachments, 'list'>;
  reconciler: Pick<Reconciler, 'preview'>;
  problems: Pick<Problems, 'all'>;
  sandboxes: Sandboxes;
  status: () => Promise<Status>;
  /** As given; secrets are taken out before they leave the host. */
  settings: object;
  events: Pick<EventLog, 'after'>;
  /** In Prometheus' format. */
  metrics: () => Promise<string>;
}
