// Takes the lock of its network namespace, prints the result, and holds the lock until it is ended.
import { lockNamespace } from '../../agent/kernel/agent-lock.js';
import { messageOf } from '../../core/errors.js';

const [, , says = ''] = process.argv;
try {
  await lockNamespace(says, 'Stop it.');
  process.stdout.write('held\n');
  setInterval(() => undefined, 60_000);
} catch (error) {
  process.stdout.write(`${messageOf(error)}\n`);
}
