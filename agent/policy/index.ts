// Policies on this node: who may speak to its containers.
export { Policies, type PoliciesOptions } from './policies.js';
