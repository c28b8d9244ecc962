// The error of an agent that takes a call and does not answer it.
import { deadlineExceeded, type WeftError } from '../core/errors.js';

/** The kernel has taken the connection: the process is there. */
export const hangs = (peer: string): WeftError =>
  deadlineExceeded(
    `${peer} did not answer in time: it hangs, is stopped (SIGSTOP), or has much to do`,
    'Its log may say why. Where it stays so, restart it: traffic goes on meanwhile.',
  );
