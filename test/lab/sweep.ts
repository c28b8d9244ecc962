// Removes what labs left behind whose owner is no more, as `node build/test/lab/sweep.js`. Run before and after tests.
import { sweep } from './runs.js';

const swept = sweep();
if (swept.length > 0) console.log(`removed what killed runs had left: ${swept.join(', ')}`);
