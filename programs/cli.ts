// All other commands of `weft`.
export { main as run } from '../cli/main.js';
