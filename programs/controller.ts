// `weft controller`.
export { main as run } from '../controller/main.js';
