// `weft leave`: undoes `weft init` and `weft join`.
//
// The node goes first, while its cluster still answers; what was written goes last, so that an interrupted leave can be repeated.
import { execFile } from 'node:child_process';
import { lstatSync, rmSync } from 'node:fs';

import { failedPrecondition, messageOf, unavailable } from '../../core/errors.js';
import { shownAuthority } from '../../daemon/authority-probe.js';
import { IdentityFolder } from '../../daemon/identity-folder.js';
import type { ClientTls } from '../../daemon/tls.js';
import { ownCommand } from '../../daemon/version.js';
import { connectorFor, READ_MS, WRITE_MS } from '../connect.js';
import type { Result } from '../output.js';
import { notSilently } from '../waiting.js';
import { say } from './health.js';
import { ADMIN_LINK, AGENT_STATE, CONTROLLER_STATE, SetupHost, type SetupOptions } from './host.js';
import { UNITS } from './units.js';

export interface LeaveOptions extends SetupOptions {
  /** Although other nodes need this host, or the cluster does not answer. */
  force: boolean;
}

/** Longer than `weft agent --cleanup` waits for etcd. */
const CLEANUP_MS = 60_000;

export async function leave(options: LeaveOptions): Promise<Result> {
  const host = await SetupHost.open(options);
  const { files, systemd } = host;
  const { kind } = files;
  if (kind === undefined)
    return {
      value: { left: false, kept: [] },
      text: () => 'Neither weft init nor weft join has set this host up: there is nothing to undo.',
    };
  const units = UNITS.filter((unit) => host.hasUnit(unit));
  if (kind === 'init' && !options.force) await checkAlone(host, options);
  if (systemd !== undefined && units.includes('weft-agent')) await systemd.disable('weft-agent');
  // Files below another root are of a host that does not run.
  if (options.root === '/') await leaveCluster(host, options);
  if (systemd !== undefined) {
    if (units.includes('weft-controller')) await systemd.disable('weft-controller');
    for (const unit of units) await systemd.clean(unit);
  }
  if (kind === 'init' && options.root === '/') await checkStopped(host);
  for (const path of [`${AGENT_STATE}/identity`, CONTROLLER_STATE, '/etc/weft/controller'])
    rmSync(files.at(path), { recursive: true, force: true });
  if (isLink(files.at(ADMIN_LINK))) rmSync(files.at(ADMIN_LINK));
  const kept = files.delete();
  if (systemd !== undefined) await systemd.reload();
  return {
    value: { left: true, kept },
    text: () =>
      [
        'This host has left.',
        ...kept.map((path) => `${path} stays: it was changed since weft wrote it.`),
      ].join('\n'),
  };
}

/** @throws WeftError FAILED_PRECONDITION where other nodes are in the cluster of this host, or it cannot be asked */
async function checkAlone(host: SetupHost, options: LeaveOptions): Promise<void> {
  if (!host.files.has(CONTROLLER_STATE)) return;
  const connect = connectorFor(
    { ...options, controller: await host.controllerAddress() },
    true,
    () => undefined,
  );
  const force = 'With --force it leaves all the same, and the cluster ends: its networks, CA and tokens.';
  const own = await host.nodeName();
  const { nodes } = await connect
    .controller('NodeService', (client) => client.listNodes, {}, READ_MS)
    .catch((error: unknown) => {
      throw failedPrecondition(
        `whether other nodes need the controller of this host is not known: ${messageOf(error)}`,
        force,
        { cause: error },
      );
    });
  const others = nodes.map(({ name }) => name).filter((name) => name !== own);
  if (others.length === 0) return;
  const named = others.slice(0, 10).join(', ');
  throw failedPrecondition(
    `this host has the cluster's controller, etcd and CA, and ${others.length} other nodes are in it: ${named}`,
    `Let them leave first (weft leave on each). ${force}`,
  );
}

/** @throws WeftError FAILED_PRECONDITION where somebody runs the controller by hand */
async function checkStopped(host: SetupHost): Promise<void> {
  const address = await host.controllerAddress();
  const shown = await notSilently(`the controller at ${address}`, () => shownAuthority(address));
  if (shown.kind === 'unreachable') return;
  throw failedPrecondition(
    `the controller of this host still runs, at ${address}`,
    'Stop it. Then: weft leave --force',
  );
}

/** @throws WeftError UNAVAILABLE where the cluster does not answer, unless it is forced */
async function leaveCluster(host: SetupHost, options: LeaveOptions): Promise<void> {
  const folder = new IdentityFolder(`${AGENT_STATE}/identity`, 'node');
  // Without a certificate its agent has never begun.
  if (!folder.exists) return;
  // The clean-up deletes it.
  const { tls } = folder.read();
  const attempt = async (what: string, work: () => Promise<void>): Promise<void> => {
    try {
      await work();
    } catch (error) {
      const why = `${what}: ${messageOf(error)}`;
      if (!options.force)
        throw unavailable(
          why,
          `Repeat weft leave when the cluster answers. With --force this host leaves now; then, elsewhere: weft node rm ${await host.nodeName()}`,
          { cause: error },
        );
      say(why);
    }
  };
  await attempt('this node could not be cleaned up', () => notSilently('the clean-up of this node', cleanUp));
  await attempt('its certificate could not be given up', () =>
    notSilently('the controller', () => surrender(host, tls)),
  );
}

/** Takes away what weft made on this node, and its records. */
function cleanUp(): Promise<void> {
  const [program = '', ...words] = ownCommand();
  // Settings of the caller's environment are not the service's.
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('WEFT_')));
  return new Promise((resolve, reject) => {
    execFile(
      program,
      [...words, 'agent', '--cleanup', '--log-level', 'warn'],
      { env, timeout: CLEANUP_MS },
      (error, _stdout, stderr) => {
        if (error === null) resolve();
        else reject(new Error(stderr.trim().split('\n').at(-1) || messageOf(error)));
      },
    );
  });
}

async function surrender(host: SetupHost, tls: ClientTls): Promise<void> {
  const controllers = (await host.setting('weft-agent', 'controller'))?.split(',') ?? [];
  let failure = new Error('no controller is set');
  const { ask } = await import('../services.js');
  for (const address of controllers) {
    try {
      await ask({
        service: 'IdentityService',
        method: (client) => client.surrenderCertificate,
        request: {},
        at: { address, tls },
        peer: `the controller at ${address}`,
        deadlineMs: WRITE_MS,
        next: 'See that it runs.',
      });
      return;
    } catch (error) {
      failure = error instanceof Error ? error : new Error(String(error));
    }
  }
  throw failure;
}

function isLink(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink() === true;
}
