// Shutdown of a daemon: on a signal its parts stop in reverse order, within five seconds.
//
// An uncaught exception is logged and ends the process: its state is unknown then.
import type { Logger } from './log.js';

export interface Shutdown {
  /** Aborted when the shutdown begins. */
  readonly signal: AbortSignal;
  /** Registers a part that has started. The last one started stops first. */
  add(name: string, stop: () => void | Promise<void>): void;
  /** Ends the daemon; the process exits with this code. */
  end(reason: string, code: number): void;
}

/** SIGTERM has five seconds; the rest is for the process to exit. */
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
        // The others are stopped all the same.
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
  process.on('uncaughtException', fatal('a fault in weft: an uncaught exception'));
  process.on('unhandledRejection', fatal('a fault in weft: an unhandled rejection'));
  return { signal: controller.signal, add: (name, stop) => void started.push({ name, stop }), end };
}
