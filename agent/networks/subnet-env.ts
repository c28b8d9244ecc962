// subnets/NETWORK.env: a node's subnet for scripts, with flannel's variables.
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';

import { containerMtu, gatewayIn, prefixIn, type Membership } from '../../core/compile.js';
import { FAMILIES, subnetIn } from '../../core/families.js';
import type { Family } from '../../core/address.js';
import { deleteFile, replaceFile } from '../../daemon/state-file.js';

export function subnetEnv(membership: Membership): string {
  const { network } = membership;
  const lines = FAMILIES.flatMap((family) => {
    const whole = subnetIn(network, family);
    const own = interfaceIn(membership, family);
    const prefix = family === 4 ? 'FLANNEL' : 'FLANNEL_IPV6';
    if (whole === undefined || own === undefined) return [];
    return [`${prefix}_NETWORK=${whole.toString()}`, `${prefix}_SUBNET=${own}`];
  });
  lines.push(
    `FLANNEL_MTU=${containerMtu(membership)}`,
    `FLANNEL_IPMASQ=${network.masquerade && !network.internal}`,
  );
  return `${lines.join('\n')}\n`;
}

/** The gateway with the containers' prefix length; without a gateway the node's own subnet. */
function interfaceIn(membership: Membership, family: Family): string | undefined {
  const prefix = prefixIn(membership, family);
  const gateway = gatewayIn(membership, family);
  if (gateway === undefined || prefix === undefined) return subnetIn(membership.lease, family)?.toString();
  return `${gateway.toString()}/${prefix.length}`;
}

const pathOf = (runDir: string, network: string): string => join(runDir, 'subnets', `${network}.env`);

export function writeSubnetEnv(runDir: string, membership: Membership): void {
  mkdirSync(join(runDir, 'subnets'), { recursive: true, mode: 0o755 });
  replaceFile(pathOf(runDir, membership.network.name), subnetEnv(membership), { mode: 0o644 });
}

export function deleteSubnetEnv(runDir: string, network: string): void {
  deleteFile(pathOf(runDir, network));
}
