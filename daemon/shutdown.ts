// How a daemon ends: on a signal everything that was started is stopped in reverse order, within five seconds; what nobody
// caught is logged with its cause and ends the process, since its state is not known any more.
import type { Logger } from './log.js';

export interface Shutdown {
  /** Aborted as soon as the daemon begins to end. */
  readonly signal: AbortSignal;
  /** Registers what has been started; last started is first stopped. */
  add(name: string, stop: () => void | Promise<void>): void;
  /** Ends the daemon; the process exits with this code. */
  end(reason: string, code: number): void;
}

/** The contract gives SIGTERM five seconds; the rest is for the process to go. */
const STOP_WITHIN_MS = 4500;

/** Installs the handlers; once in a process. */
export function installShutdown(log: Logger): Shutdown {
  const started: { name: string; stop: () => void | Promise<void> }[] = [];
  const controller = new AbortController();

  const stopAll = async (): Promise<void> => {
    for (const { name, stop } of started.toReversed()) {
      try {
        await stop();
      } catch (error) {
        // Taking down tries everything.
        log.error('could not be stopped', { part: name, error });
      }
    }
  };
  const end = (reason: string, code: number): void => {
    if (controller.signal.aborted) return;
    log.info('ending', { reason });
    controller.abort(new Error(`ending: ${reason}`));
    setTimeout(() => {
      log.error('not everything could be stopped in time');
      process.exit(code === 0 ? 1 : code);
    }, STOP_WITHIN_MS).unref();
    void stopAll().then(() => process.exit(code));
  };
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.on(signal, () => {
      if (controller.signal.aborted) process.exit(1);
      end(signal, 0);
    });
  }
  const fatal = (kind: string) => (error: unknown) => {
    log.error(kind, { error, stack: error instanceof Error ? error.stack : undefined });
    process.exit(1);
  };
  process.on('uncaughtException', fatal('a fault in weft: an exception that nobody caught'));
  process.on('unhandledRejection', fatal('a fault in weft: a rejection that nobody handled'));
  return { signal: controller.signal, add: (name, stop) => void started.push({ name, stop }), end };
}
