// The five stages of the agent's start.
export { assemble } from './assemble.js';
export { follow } from './follow.js';
export { identify, type Launch } from './identify.js';
export { cloudsOf, open, openAccess, underlaySettings } from './open.js';
export { restore } from './restore.js';
export { serve } from './serve.js';
