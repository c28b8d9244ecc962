// The file that scripts and Docker set-ups read a node's subnet from, in the words of flannel's subnet.env.
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';

import { containerMtu, gatewayOf, type Membership } from '../core/compile.js';
import { replaceFile } from './state.js';

export function subnetEnv(membership: Membership): string {
  const { network, lease } = membership;
  const lines = [
    `FLANNEL_NETWORK=${network.subnet.toString()}`,
    `FLANNEL_SUBNET=${gatewayOf(lease.subnet).toString()}/${lease.subnet.length}`,
  ];
  if (network.subnet6 !== undefined && lease.subnet6 !== undefined) {
    lines.push(
      `FLANNEL_IPV6_NETWORK=${network.subnet6.toString()}`,
      `FLANNEL_IPV6_SUBNET=${gatewayOf(lease.subnet6).toString()}/${lease.subnet6.length}`,
    );
  }
  lines.push(
    `FLANNEL_MTU=${containerMtu(membership)}`,
    `FLANNEL_IPMASQ=${network.masquerade && !network.internal}`,
  );
  return `${lines.join('\n')}\n`;
}

const pathOf = (runDir: string, network: string): string => join(runDir, 'subnets', `${network}.env`);

export function writeSubnetEnv(runDir: string, membership: Membership): void {
  mkdirSync(join(runDir, 'subnets'), { recursive: true, mode: 0o755 });
  replaceFile(pathOf(runDir, membership.network.name), subnetEnv(membership), 0o644);
}

export function deleteSubnetEnv(runDir: string, network: string): void {
  rmSync(pathOf(runDir, network), { force: true });
}
