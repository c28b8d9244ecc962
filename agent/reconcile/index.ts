// The reconciler: makes the kernel match the records, and keeps it so.
export { Reconciler, sameSandbox, type SandboxRecord } from './reconciler.js';
