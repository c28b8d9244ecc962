// subnets/NETWORK.env: a node's subnet for scripts, with flannel's variables.
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';

import { containerMtu, gatewayIn, prefixIn, type Membership } from '../../core/compile.js';
import type { Family } from '../../core/address.js';
import { deleteFile, replaceFile } from '../../daemon/state-file.js';

export function subnetEnv(membership: Membership): string {
  const { network } = membership;
  const lines = [
    `FLANNEL_NETWORK=${network.subnet.toString()}`,
    `FLANNEL_SUBNET=${interfaceIn(membership, 4) ?? ''}`,
  ];
  const six = interfaceIn(membership, 6);
  if (network.subnet6 !== undefined && six !== undefined)
    lines.push(`FLANNEL_IPV6_NETWORK=${network.subnet6.toString()}`, `FLANNEL_IPV6_SUBNET=${six}`);
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
  if (gateway === undefined || prefix === undefined)
    return (family === 4 ? membership.lease.subnet : membership.lease.subnet6)?.toString();
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
