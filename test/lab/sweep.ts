// Removes labs whose owner has ended: `node build/test/lab/sweep.js`.
//
// Run before and after tests.
import { sweep } from './runs.js';

const swept = sweep();
if (swept.length > 0) console.log(`removed what killed runs had left: ${swept.join(', ')}`);
