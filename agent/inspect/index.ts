// Questions about this node, as `weft check`, `ping`, `top` and their like ask them.
export { inspector } from './inspector.js';
export type { InspectOptions } from './options.js';
export { Sandboxes } from './sandboxes.js';
export { trafficOf } from './traffic.js';
export { measureTraffic } from './traffic-metrics.js';
