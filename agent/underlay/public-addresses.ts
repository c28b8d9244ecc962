// Warns where --public-ip and the underlay addresses are not of the same families.
import type { Family } from '../../core/address.js';
import type { Underlay } from '../../core/compile.js';
import { addressIn, FAMILIES } from '../../core/families.js';
import type { Problem } from '../health/index.js';

export function publicAddressWarning(underlay: Underlay): Problem | undefined {
  return FAMILIES.map((family) => warningOf(underlay, family)).find((warning) => warning !== undefined);
}

function warningOf(underlay: Underlay, family: Family): Problem | undefined {
  const { nat } = underlay;
  if (nat === undefined) return undefined;
  const own = addressIn(underlay, family)?.toString();
  const given = addressIn(nat, family)?.toString();
  const all = [nat.ip, nat.ip6].flatMap((ip) => ip?.toString() ?? []);
  const placeholder = family === 4 ? 'IP' : 'IP6';
  const flag = (ip: string): string => `--public-ip ${(family === 4 ? [ip, ...all] : [...all, ip]).join()}`;
  if (own !== undefined && given === undefined)
    return {
      what: `--public-ip ${all.join()}`,
      why: `it has no IPv${family} address, so other nodes are told this host's own, ${own}; where they do not reach that, IPv${family} does not arrive here`,
      fix: `Give the IPv${family} address that other nodes send to, too: ${flag(placeholder)}. Where that is ${own} itself, ${flag(own)} says so.`,
    };
  if (own === undefined && given !== undefined)
    return {
      what: `--public-ip ${all.join()}`,
      why: `this host has no IPv${family} address on the underlay for ${given}, so other nodes are not told it, and IPv${family} does not arrive here`,
      fix: `Give this host an IPv${family} address (where --underlay-ip is set, name it there, too), or leave out ${given}.`,
    };
  return undefined;
}
