// Opens TARGETs with its own privileges, and prints each result as JSON.
import { closeFd } from '../../agent/kernel/libc.js';
import { openNetns } from '../../agent/kernel/namespaces.js';
import { resolveTarget } from '../../agent/targets/index.js';
import { WeftError } from '../../core/errors.js';

const [engine = '', ...targets] = process.argv.slice(2);

async function outcome(target: string): Promise<object> {
  try {
    const { fd, socket } = openNetns((await resolveTarget(target, { socketPath: engine })).path);
    socket.close();
    closeFd(fd);
    return { code: 'OK', message: '', next: '' };
  } catch (error) {
    if (!(error instanceof WeftError)) return { code: 'a fault', message: String(error), next: '' };
    const { code, message, next = '' } = error;
    return { code, message, next };
  }
}

for (const target of targets) process.stdout.write(`${JSON.stringify(await outcome(target))}\n`);
