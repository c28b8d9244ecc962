// The page that shows a cluster (docs/ui.md): its server, for `weft ui` and for a controller's --ui.
export { PageServer, type PageOptions } from './server.js';
export { Source } from './source.js';
