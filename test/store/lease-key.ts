// Beside the helpers, which load the client of etcd: tests of codecs do not need it.
import { Keys, type ParsedKey } from '../../store/keys.js';

/** The value of a lease key of network blue. */
export function leaseKey(text: string): ParsedKey & { kind: 'lease' } {
  const parsed = new Keys('/weft').parse(`/weft/networks/blue/subnets/${text}`);
  if (parsed.kind !== 'lease') throw new Error(JSON.stringify(parsed, (_, value: unknown) => String(value)));
  return parsed;
}
