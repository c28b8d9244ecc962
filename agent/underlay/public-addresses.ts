// Warns where --public-ip and the underlay addresses are not of the same families.
import type { Underlay } from '../../core/compile.js';
import type { Problem } from '../health/index.js';

export function publicAddressWarning({ ip6: local, nat }: Underlay): Problem | undefined {
  if (nat === undefined) return undefined;
  const [ip, own, given] = [nat.ip, local, nat.ip6].map((address) => address?.toString());
  if (own !== undefined && given === undefined)
    return {
      what: `--public-ip ${ip}`,
      why: `it has no IPv6 address, so other nodes are told this host's own, ${own}; where they do not reach that, IPv6 of dual-stack networks does not arrive here`,
      fix: `Give the IPv6 address that other nodes send to, too: --public-ip ${ip},IP6. Where that is ${own} itself, --public-ip ${ip},${own} says so.`,
    };
  if (own === undefined && given !== undefined)
    return {
      what: `--public-ip ${ip},${given}`,
      why: `this host has no IPv6 address on the underlay for ${given}, so other nodes are not told it, and IPv6 of dual-stack networks does not arrive here`,
      fix: `Give this host an IPv6 address (where --underlay-ip is set, name it there, too), or leave out ${given}.`,
    };
  return undefined;
}
