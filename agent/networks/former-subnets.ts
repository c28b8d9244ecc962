// Subnets of networks that this node has left, for the next time that it joins one of that prefix.
//
// Somebody may have written the gateway's address down. The network itself may be a new one: Docker's goes with its last host.
import type { Membership } from '../../core/compile.js';
import { addressingOf } from '../../core/drivers/index.js';
import { messageOf } from '../../core/errors.js';
import type { Network } from '../../core/network.js';
import type { Logger } from '../../daemon/log.js';
import type { State } from '../state/index.js';
import type { PreviousSubnet } from './subnet-leases.js';

/** A failure costs the old subnet, and nothing else. */
export function keepFormerSubnets(
  { state, log }: { state: State; log: Logger },
  { network, lease }: Membership,
): void {
  if (addressingOf(network) !== 'subnets') return;
  const pairs = [
    [network.subnet, lease.subnet],
    [network.subnet6, lease.subnet6],
  ] as const;
  try {
    for (const [whole, subnet] of pairs)
      if (whole !== undefined && subnet !== undefined) state.saveFormerSubnet(whole, subnet);
  } catch (error) {
    const about = { network: network.name, error: messageOf(error) };
    log.warn('the subnet of a network that this node leaves could not be saved', about);
  }
}

export function formerSubnets(
  state: Pick<State, 'formerSubnet'>,
  { subnet, subnet6 }: Network,
): PreviousSubnet | undefined {
  const former = state.formerSubnet(subnet);
  const former6 = subnet6 && state.formerSubnet(subnet6);
  return former && { subnet: former, ...(former6 !== undefined && { subnet6: former6 }) };
}
