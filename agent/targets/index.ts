// Targets: resolve the name of a container to its network namespace.
export { inSandbox } from './open.js';
export { canonicalForms } from '../../core/target.js';
export { resolveTarget, type RunLookup, type Target } from './targets.js';
