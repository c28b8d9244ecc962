// `weft agent --cleanup`: deletes what weft made on this node and in etcd.
//
// The node's own objects are deleted whether or not etcd answers.
import { existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';

import { failedPrecondition, messageOf, unavailable, WeftError } from '../core/errors.js';
import { compileCloud } from '../core/cloud.js';
import { plan } from '../core/plan.js';
import type { CloudName } from '../core/backends/types.js';
import { withDeadline } from '../core/deadline.js';
import type { Logger } from '../daemon/log.js';
import { answers } from '../daemon/unix-socket.js';
import type { Clouds } from '../cloud/index.js';
import type { Store } from '../store/store.js';
import { NetnsResolvConf } from './dns/index.js';
import type { Kernel } from './kernel/index.js';
import { clearContainers } from './runtime/index.js';
import { agentMetrics } from './health/index.js';
import { deleteCloudRoutes } from './reconcile/index.js';
import { instanceIn, STATE_FILES, State } from './state/index.js';

export interface CleanupOptions {
  kernel: Kernel;
  store: Store;
  clouds: Pick<Clouds, 'get'>;
  log: Logger;
  node: string;
  runDir: string;
  stateDir: string;
  signal: AbortSignal;
}

/** How long to wait for etcd. */
const STORE_MS = 5_000;

/**
 * @throws WeftError FAILED_PRECONDITION while the agent runs; UNAVAILABLE where the records in etcd could not be deleted, or
 * FAILED_PRECONDITION where the kernel refused a step; both after everything else was done
 */
export async function cleanup(options: CleanupOptions): Promise<void> {
  const { kernel, store, log, node, runDir, stateDir } = options;
  const socket = join(runDir, 'agent.sock');
  if (existsSync(socket) && (await answers(socket))) {
    throw failedPrecondition(`the agent is running: it serves at ${socket}`, 'Stop it first, then clean up.');
  }
  const ended = clearContainers(stateDir, runDir);
  if (ended > 0) log.info('ended the containers of weft run', { containers: ended });
  await kernel.firewall.remove();
  new NetnsResolvConf({ stateDir, log }).keepOnly([]);
  const { steps } = plan(await kernel.node.observe([]), [], { prune: true });
  const failures = await kernel.node.apply(steps);
  log.info('deleted the kernel objects of weft', { steps: steps.length - failures.length });

  await deleteRoutes(options);
  let storeError: unknown;
  try {
    await withDeadline(options.signal, STORE_MS, (signal) => store.synced(signal));
    await removeFromCluster(options);
  } catch (error) {
    if (!(error instanceof WeftError) || error.code !== 'NOT_FOUND') storeError = error;
  }
  rmSync(runDir, { recursive: true, force: true });
  if (storeError !== undefined) {
    throw unavailable(
      `this host is clean, but its records in etcd could not be deleted: ${messageOf(storeError)}`,
      `Run it again when etcd answers, or anywhere: weft node rm ${node}`,
      { cause: storeError },
    );
  }
  const others = ['docker', 'events', 'identity', 'lib', 'ports', 'wires', 'wire-places', 'resolv-conf'];
  for (const name of [...STATE_FILES, ...others]) {
    rmSync(join(stateDir, name), { recursive: true, force: true });
  }
  const [failure] = failures;
  if (failure !== undefined) {
    throw failedPrecondition(`the kernel kept something of weft's: ${failure.message}`, 'Run it again.');
  }
}

/** Another host may have this node's name; the records in etcd under that name then belong to that host. */
async function removeFromCluster({ store, log, node, stateDir }: CleanupOptions): Promise<void> {
  const instance = instanceIn(stateDir);
  const { alive, nodes } = store.view;
  const holder = alive.get(node) ?? nodes.get(node)?.instance;
  if (instance === undefined || holder !== instance) {
    log.warn('nothing was removed from etcd', {
      node,
      why:
        holder === undefined
          ? 'there is no such node'
          : instance === undefined
            ? 'the state directory does not say whether the node of that name is this one'
            : 'the node of that name is another host',
      ...(holder === undefined ? {} : { next: `If it is down for good: weft node rm ${node}.` }),
    });
    return;
  }
  // Force only past this agent's own life lease: one that appears meanwhile belongs to another agent.
  await store.removeNode(node, { force: alive.has(node) });
  log.info('released the subnets and endpoints of this node', { node });
}

/** Of clouds, in the networks of the state directory. What they refuse is left to the leader of the controllers. */
async function deleteRoutes({ clouds, log, stateDir }: CleanupOptions): Promise<void> {
  const state = new State(stateDir, { readOnly: true });
  const { ip, ip6 } = state.underlay();
  if (ip === undefined) return;
  const underlay = { ip, ...(ip6 !== undefined && { ip6 }) };
  const memberships = state.load().networks.map(({ network, lease }) => ({ network, lease, underlay }));
  const members = compileCloud(memberships, () => []);
  const options = { metrics: agentMetrics(), log, clouds: (name: CloudName) => clouds.get(name) };
  for (const { what, why, fix } of await deleteCloudRoutes(members, options))
    log.warn('routes of a cloud stay, until the leading controller deletes them', { what, why, fix });
}
