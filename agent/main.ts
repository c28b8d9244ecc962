// The daemon of a node.
//
// It starts in five stages: open, assemble, restore, serve, follow (start/).
import { messageOf, WeftError } from '../core/errors.js';
import { createLogger } from '../daemon/log.js';
import type { Plugin } from '../daemon/plugin-host.js';
import { settingsOrExit } from '../daemon/settings.js';
import { installShutdown } from '../daemon/shutdown.js';
import { cleanup } from './cleanup.js';
import { checkPrivileges } from './kernel/index.js';
import { agentProgramWith, agentSettingsFrom } from './settings.js';
import { assemble, follow, open, openAccess, restore, serve, type Daemon } from './start/index.js';

/** `weft agent`. @param argv its arguments @param plugins mounted once the agent serves */
export async function main(argv: readonly string[], plugins: readonly Plugin[] = []): Promise<void> {
  const settings = agentSettingsFrom(settingsOrExit(agentProgramWith(plugins), argv).values);
  const log = createLogger({ level: settings.logLevel, format: settings.logFormat });
  const shutdown = installShutdown(log);
  // A caller's wider umask must not open the agent's files and sockets to others.
  process.umask(process.umask(0o077) | 0o022);
  try {
    checkPrivileges();
    const daemon = { settings, log, shutdown };
    await (settings.cleanup ? runCleanup(daemon) : run(daemon, plugins));
  } catch (error) {
    if (shutdown.signal.aborted) return;
    log.error('the agent cannot go on', { error: error instanceof WeftError ? error : messageOf(error) });
    if (!(error instanceof WeftError)) log.debug('where it happened', { error });
    shutdown.end('a failure', 1);
  }
}

async function run(daemon: Daemon, plugins: readonly Plugin[]): Promise<void> {
  const opened = await open(daemon);
  const parts = assemble(opened);
  await restore(opened, parts);
  const announcement = await serve(opened, parts, plugins);
  await follow(opened, parts, announcement);
}

async function runCleanup(daemon: Daemon): Promise<void> {
  const { settings, log, shutdown } = daemon;
  const { node, runDir, stateDir } = settings;
  const access = await openAccess(daemon);
  await cleanup({ ...access, log, node, runDir, stateDir, signal: shutdown.signal });
  shutdown.end('cleaned up', 0);
}
