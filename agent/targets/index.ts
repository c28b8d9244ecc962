// Targets: resolve the name of a container to its network namespace.
export { inSandbox } from './open.js';
export { canonicalForms, resolveTarget, type RunLookup, type Target } from './targets.js';
