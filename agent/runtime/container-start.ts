// Starts a container, the first time and every later one.
//
// Its process waits in its namespaces until it is attached, has its files and is recorded. A failed start is rolled back.
import { failedPrecondition, messageOf, WeftError } from '../../core/errors.js';
import { launchMark, type Launch } from '../../core/launch.js';
import type { Endpoint } from '../../core/records.js';
import { parseRunNetwork, runTarget } from '../../core/run.js';
import type { Logger } from '../../daemon/log.js';
import { allOrNothing, type Rollback } from '../../daemon/rollback.js';
import type { PreviousAddresses } from '../endpoints/index.js';
import { containerFiles, hostnameOf } from './container-files.js';
import type { ContainerNetworks } from './container-networks.js';
import type { ContainerRecord, ContainerState } from './container-state.js';
import { isAlive, processAt } from '../kernel/index.js';
import { commandOf } from './processes.js';
import type { RunRequest } from './run-request.js';

export interface ContainerStartsOptions {
  state: ContainerState;
  networks: ContainerNetworks;
  log: Logger;
  /** Finds the container whose network is shared. @throws WeftError NOT_FOUND */
  find: (name: string) => ContainerRecord;
}

export class ContainerStarts {
  /** Processes that wait for the response of run or start, by name. */
  readonly #starting = new Map<string, number>();

  constructor(private readonly options: ContainerStartsOptions) {}

  /** The process of a container that is being started. */
  pidOf(name: string): number | undefined {
    return this.#starting.get(name);
  }

  /** Checks that it is the caller's command, in the namespaces that its network mode requires. */
  async check({ pid, id, network }: RunRequest): Promise<NonNullable<ContainerRecord['process']>> {
    let onNode: boolean | undefined;
    try {
      onNode = await this.options.networks.isNode(`/proc/${pid}/ns/net`);
    } catch (error) {
      if (!(error instanceof WeftError) || error.code !== 'NOT_FOUND') throw error;
    }
    const process = processAt(pid);
    if (onNode === undefined || process === undefined || !commandOf(pid).includes(launchMark(id))) {
      throw failedPrecondition(
        `process ${pid} does not run the command of the request`,
        'Run weft on the host of the agent itself, not inside another container.',
      );
    }
    const own = network.kind === 'network' || network.kind === 'none';
    if (own === onNode) {
      throw failedPrecondition(
        own
          ? `process ${pid} has no network namespace of its own`
          : `process ${pid} is not in the network of this node's agent`,
        'Run weft where the agent runs.',
      );
    }
    return process;
  }

  /** Attaches a waiting process, writes its files and the record. A failure is rolled back. */
  async begin(record: ContainerRecord, process: NonNullable<ContainerRecord['process']>): Promise<Launch> {
    const { state, networks, log } = this.options;
    const network = parseRunNetwork(record.network);
    const joined = network.kind === 'container' ? shareable(this.options.find(network.name)) : undefined;
    const folder = state.makeFolder(record.id);
    this.#starting.set(record.name, process.pid);
    try {
      await allOrNothing(log, record.name, async (rollback) => {
        rollback.add(() => void delete record.process);
        rollback.add(() => state.clearFolder(record.id));
        const first = await this.#attach(record, rollback);
        if (network.kind === 'none') await networks.loopback(`/proc/${process.pid}/ns/net`);
        if (network.kind === 'network' || network.kind === 'none') {
          const resolvConf = network.kind === 'network' ? networks.resolvConf(network.name) : undefined;
          state.writeFiles(record.id, containerFiles(record.name, first, resolvConf));
        }
        if (joined !== undefined) state.shareFiles(record.id, joined.id);
        if (!isAlive(process))
          throw failedPrecondition(`container ${record.name}: the caller has given up`, 'Start it again.');
        record.process = process;
        state.save(record);
      });
    } finally {
      this.#starting.delete(record.name);
    }
    const own = network.kind === 'network' || network.kind === 'none';
    return {
      folder,
      hostname: own ? hostnameOf(record.name) : '',
      ...(record.detached ? { log: state.logOf(record.id) } : {}),
      ...(joined?.process === undefined ? {} : { join: joined.process.pid }),
    };
  }

  /** Attaches it to its networks. @returns the endpoint on the one that it runs on */
  async #attach({ name, attachments }: ContainerRecord, rollback: Rollback): Promise<Endpoint | undefined> {
    const { networks, log } = this.options;
    let first: Endpoint | undefined;
    for (const [index, attachment] of attachments.entries()) {
      try {
        const endpoint = await networks.attach(attachment.request, attachment);
        rollback.add(() => detach(networks, endpoint));
        first ??= endpoint;
        Object.assign(attachment, previousAddressesOf(endpoint));
      } catch (error) {
        // A network that it was attached to later may be deleted meanwhile; the one that it runs on must exist.
        if (index === 0) throw error;
        log.warn('a container could not be reattached', {
          container: name,
          network: attachment.request.network,
          error: messageOf(error),
        });
      }
    }
    return first;
  }
}

/** @throws WeftError where there is nothing to share */
function shareable(record: ContainerRecord): ContainerRecord {
  const mode = parseRunNetwork(record.network);
  if (record.process === undefined || !isAlive(record.process)) {
    throw failedPrecondition(
      `container ${record.name} does not run, and has no network to share`,
      `Start it again with \`weft start ${record.name}\`, or join another one.`,
    );
  }
  if (mode.kind === 'none') {
    throw failedPrecondition(
      `container ${record.name} has no network that could be shared: it runs with --network none`,
      'Join a container that is on a network, or give this one a network of its own.',
    );
  }
  return record;
}

export const endpointsOf = (networks: ContainerNetworks, name: string): Endpoint[] =>
  networks.endpoints().filter(({ target }) => target === runTarget(name));

export async function detachAll(networks: ContainerNetworks, name: string): Promise<void> {
  for (const endpoint of endpointsOf(networks, name)) await detach(networks, endpoint);
}

async function detach(networks: ContainerNetworks, { network, target }: Endpoint): Promise<void> {
  try {
    await networks.detach(network, target);
  } catch (error) {
    // Deleted with its namespace already.
    if (!(error instanceof WeftError) || error.code !== 'NOT_FOUND') throw error;
  }
}

export const previousAddressesOf = ({ id, ip, ip6 }: Endpoint): PreviousAddresses => ({
  endpoint: id,
  ip,
  ip6,
});
