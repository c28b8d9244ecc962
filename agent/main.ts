// The daemon of a node.
//
// It starts in five stages: open, assemble, restore, serve, follow (start/).
import { join } from 'node:path';

import { messageOf, WeftError } from '../core/errors.js';
import { visible, visibleLines } from '../core/text.js';
import { loadNativeParts } from '../daemon/executable.js';
import { createLogger } from '../daemon/log.js';
import type { Plugin } from '../daemon/plugin-host.js';
import { hideSecret } from '../daemon/process-title.js';
import { settingsOrExit } from '../daemon/settings.js';
import { installShutdown } from '../daemon/shutdown.js';
import { cleanup } from './cleanup.js';
import { dryRun, formatDryRun } from './dry-run/index.js';
import { checkPrivileges, lockNamespace } from './kernel/index.js';
import { configuredControl } from './networks/index.js';
import { agentProgramWith, agentSettingsFrom } from './settings.js';
import {
  assemble,
  cloudsOf,
  follow,
  identify,
  open,
  openAccess,
  restore,
  serve,
  underlaySettings,
  type Launch,
} from './start/index.js';
import { State } from './state/index.js';
import { findUnderlay } from './underlay/index.js';

/** `weft agent`. @param argv its arguments @param plugins mounted once the agent serves */
export async function main(argv: readonly string[], plugins: readonly Plugin[] = []): Promise<void> {
  const { values, origin } = settingsOrExit(agentProgramWith(plugins), argv);
  const settings = agentSettingsFrom(values, origin);
  hideSecret(values.token);
  // A dry run is asked by a person or a script, who get the steps and what limits them.
  const level = settings.dryRun && settings.logLevel !== 'debug' ? 'error' : settings.logLevel;
  const log = createLogger({ level, format: settings.logFormat });
  const shutdown = installShutdown(log);
  // A caller's wider umask must not open the agent's files and sockets to others.
  process.umask(process.umask(0o077) | 0o022);
  try {
    checkPrivileges();
    loadNativeParts(settings.stateDir);
    const launch = { settings, log, shutdown };
    await (settings.dryRun
      ? runDryRun(launch)
      : settings.cleanup
        ? runCleanup(launch)
        : run(launch, plugins));
  } catch (error) {
    if (shutdown.signal.aborted) return;
    if (settings.dryRun) {
      const next = error instanceof WeftError && error.next !== undefined ? `${error.next}\n` : '';
      process.stderr.write(`weft agent: ${messageOf(error)}\n${next}`);
      return shutdown.end('the dry run failed', 1);
    }
    log.error('the agent cannot go on', { error: error instanceof WeftError ? error : messageOf(error) });
    if (!(error instanceof WeftError)) log.debug('where it happened', { error });
    shutdown.end('a failure', 1);
  }
}

async function run(launch: Launch, plugins: readonly Plugin[]): Promise<void> {
  const { settings, shutdown } = launch;
  const unlock = await lockNamespace(
    `serves ${join(settings.runDir, 'agent.sock')}`,
    'A host has one agent, whatever its prefix and folders: stop that one first.',
  );
  shutdown.add('the lock', unlock);
  const opened = await open(launch);
  const parts = assemble(opened);
  await restore(opened, parts);
  await follow(opened, parts, await serve(opened, parts, plugins));
}

async function runDryRun(launch: Launch): Promise<void> {
  const daemon = await identify(launch);
  const { settings, shutdown } = daemon;
  const { node, stateDir, subnetOnly } = settings;
  const join = [...new Set([...settings.join, ...subnetOnly])];
  const { kernel, store } = await openAccess(daemon, { readOnly: true });
  const last = new State(stateDir, { readOnly: true }).underlay();
  const underlay = await findUnderlay(kernel, underlaySettings(settings), last);
  const { signal } = shutdown;
  const found = await dryRun({
    ...{ kernel, store, stateDir, node, join, subnetOnly, underlay, signal },
    clouds: cloudsOf(daemon),
    control: configuredControl(settings),
    maxConnections: settings.maxConnections,
    servesNames: settings.dns === 'on',
    onWait: () => process.stderr.write('weft agent: waiting for etcd\n'),
  });
  process.stderr.write(found.notes.map((note) => `weft agent: ${visible(note)}\n`).join(''));
  // A pipe takes it later than process.exit comes.
  await new Promise((resolve) =>
    process.stdout.write(visibleLines(formatDryRun(found, settings.output)), resolve),
  );
  shutdown.end('the dry run is over', found.isComplete ? 0 : 1);
}

async function runCleanup(launch: Launch): Promise<void> {
  const { settings, log, shutdown } = launch;
  const { node, runDir, stateDir } = settings;
  const unlock = await lockNamespace('cleans up', 'Stop it first, then clean up.');
  shutdown.add('the lock', unlock);
  const access = await openAccess(await identify(launch));
  const { signal } = shutdown;
  await cleanup({ ...access, clouds: cloudsOf(launch), log, node, runDir, stateDir, signal });
  shutdown.end('cleaned up', 0);
}
