// The five stages of the agent's start.
export { assemble, type Parts } from './assemble.js';
export { follow } from './follow.js';
export { identify, type Launch } from './identify.js';
export { cloudsOf, open, openAccess, underlaySettings, type KernelOf, type Opened } from './open.js';
export { restore } from './restore.js';
export { serve } from './serve.js';
