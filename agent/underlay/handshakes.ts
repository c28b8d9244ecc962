// Ages of the WireGuard handshakes with other nodes.
//
// Nodes that exchange packets renew theirs every two minutes; an older one belongs to a peer that does not answer, or is not
// spoken to.
import { describeLease } from '../../core/backends/index.js';
import type { Membership } from '../../core/compile.js';
import { isEncrypted } from '../../core/network.js';
import type { Lease } from '../../core/records.js';
import type { Kernel } from '../kernel/index.js';

/** In seconds, by the peer's public address; its youngest one in any network. Absent: there was none. */
export function handshakeAges(
  memberships: readonly Membership[],
  leasesOf: (network: string) => Iterable<Lease>,
  kernel: Pick<Kernel, 'handshakes'>,
  now = Date.now(),
): Map<string, number> {
  const ages = new Map<string, number>();
  const encrypted = memberships.filter(({ network }) => isEncrypted(network));
  if (encrypted.length === 0) return ages;
  const times = kernel.handshakes();
  for (const { network } of encrypted) {
    for (const lease of leasesOf(network.name)) {
      const at = times.get(describeLease(lease).publicKey ?? '');
      if (at === undefined) continue;
      const ip = lease.publicIp.toString();
      ages.set(ip, Math.min(ages.get(ip) ?? Infinity, Math.max(0, (now - at) / 1000)));
    }
  }
  return ages;
}
