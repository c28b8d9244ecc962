// Capabilities that the agent requires, checked at start.
//
// Without one the kernel refuses some later operation, and the error would name that operation.
import { readFileSync } from 'node:fs';

import { permissionDenied } from '../../core/errors.js';

/** Bits of the capability sets in /proc/PID/status (linux/capability.h), and what each is needed for. */
const NEEDED = [
  { name: 'CAP_NET_ADMIN', bit: 12n, without: 'it could change no link, route or firewall rule' },
  { name: 'CAP_SYS_ADMIN', bit: 21n, without: 'it could not enter the network of a container' },
] as const;

/**
 * @param status text of /proc/self/status (proc(5))
 * @throws WeftError PERMISSION_DENIED that names the first missing capability
 */
export function checkPrivileges(status = readFileSync('/proc/self/status', 'utf8')): void {
  const [, mask] = /^CapEff:\s*([0-9a-f]+)$/m.exec(status) ?? [];
  if (mask === undefined) return;
  const held = BigInt(`0x${mask}`);
  const missing = NEEDED.find(({ bit }) => (held & (1n << bit)) === 0n);
  if (missing === undefined) return;
  const all = NEEDED.map(({ name }) => name);
  throw permissionDenied(
    `the agent has no ${missing.name}: ${missing.without}`,
    `Run it as root; where a unit or a container limits it, allow ${all.join(' and ')}.`,
  );
}
