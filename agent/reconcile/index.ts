// The reconciler: makes its targets match the records, permanently.
export { deleteCloudRoutes } from './cloud-target.js';
export { isGone, sameSandbox, type SandboxRecord } from './container-target.js';
export type { Repaired } from './drift.js';
export { Look } from './look.js';
export type { Preview } from './preview.js';
export { type RecordKey, RecordMap, type SandboxKey } from './record-key.js';
export { type RecordChanges, Reconciler } from './reconciler.js';
export type { Observers } from './target.js';
