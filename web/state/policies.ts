// Which policies concern an endpoint: a selector's terms all hold, and of several selectors one is enough.
import type { Policy } from '../../proto/gen/weft/v1/controller.js';
import type { Endpoint } from '../../proto/gen/weft/v1/types.js';
import { contains, rangeOf } from './prefix.js';

function holds(term: string, endpoint: Endpoint): boolean {
  const at = term.indexOf('=');
  const [key, value] = at < 0 ? [term, ''] : [term.slice(0, at), term.slice(at + 1)];
  if (at < 0) return key === 'any';
  if (key === 'name') return endpoint.name === value || endpoint.aliases.includes(value);
  if (key === 'network') return endpoint.network === value;
  if (key === 'node') return endpoint.node === value;
  if (key === 'cidr') {
    const outer = rangeOf(value);
    return [endpoint.ip, endpoint.ip6 ?? ''].some((address) => {
      const inner = rangeOf(address.replace(/\/\d+$/, ''));
      const isSameFamily = address.includes(':') === value.includes(':');
      return outer !== undefined && inner !== undefined && isSameFamily && contains(outer, inner);
    });
  }
  return Object.hasOwn(endpoint.labels, key) && endpoint.labels[key] === value;
}

const meant = (selectors: readonly string[], endpoint: Endpoint): boolean =>
  selectors.some((selector) => selector.split(',').every((term) => holds(term.trim(), endpoint)));

/** Those that let others in, and those that let it reach others. */
export function policiesOf(
  policies: readonly Policy[],
  endpoint: Endpoint,
): { to: Policy[]; from: Policy[] } {
  return {
    to: policies.filter(({ to }) => meant(to, endpoint)),
    from: policies.filter(({ from }) => meant(from, endpoint)),
  };
}
