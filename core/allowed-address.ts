// Allowed addresses of an endpoint: what it may send from beside its own.
import { IpNetwork } from './address.js';
import { invalidArgument } from './errors.js';

/** Checks what `--allowed-address` gives: prefixes, or single addresses. @throws WeftError INVALID_ARGUMENT */
export function parseAllowed(texts: readonly string[]): string[] {
  if (texts.length > MOST_ALLOWED)
    throw invalidArgument(
      `allowed-address: ${texts.length} are too many for one endpoint`,
      `At most ${MOST_ALLOWED} are allowed; give larger prefixes.`,
    );
  return [...new Set(texts.map(parseAllowedAddress))];
}

const MOST_ALLOWED = 64;

/** @throws WeftError INVALID_ARGUMENT */
export function parseAllowedAddress(text: string): string {
  const bits = text.includes(':') ? 128 : 32;
  return IpNetwork.parse(text.includes('/') ? text : `${text}/${bits}`, 'allowed-address').toString();
}
