// Containers as commands show them: the record and current attachments.
import type { Launch } from '../../core/launch.js';
import type { Endpoint } from '../../core/records.js';
import type { ContainerNetworks } from './container-networks.js';
import { endpointsOf } from './container-start.js';
import type { ContainerRecord, ContainerState } from './container-state.js';
import type { ContainerPhase, Held } from './container-table.js';

/** A container with its endpoints. */
export interface ContainerView {
  record: ContainerRecord;
  phase: ContainerPhase | undefined;
  pid: number | undefined;
  log: string;
  endpoints: Endpoint[];
  launch?: Launch;
}

export function viewOf(
  { record, phase }: Held,
  state: ContainerState,
  networks: ContainerNetworks,
): ContainerView {
  return {
    record,
    phase,
    pid: record.process === undefined ? undefined : (state.commandPid(record.id) ?? record.process.pid),
    log: state.logOf(record.id),
    endpoints: endpointsOf(networks, record.name),
  };
}
