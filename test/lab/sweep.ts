// Removes what test runs left behind whose owner was killed; scripts/test.sh calls it before and after.
import { sweep } from './runs.js';

for (const run of sweep()) process.stdout.write(`Removed what an interrupted run left behind: ${run}\n`);
