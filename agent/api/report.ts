// The node's status as a report to the controller, which takes no larger one than it keeps.
//
// What the controller shows comes first: networks, then problems. Peers, of which it knows by itself, are left out first.
import { MOST_OF_REPORT } from '../../daemon/grpc.js';
import { Peer, Problem, Status, StatusNetwork } from '../../proto/gen/weft/v1/types.js';

interface Codec<T> {
  encode(message: T): { finish(): Uint8Array };
}

const sizeOf = <T>(codec: Codec<T>, message: T): number => codec.encode(message).finish().length;

/** Bytes of an element's key and length in its list, and of the problem that says what is left out. */
const FRAME = 8;
const NOTE = 1024;

/** The status itself, where it is no larger; else as much of it as fits. @param most bytes */
export function reportOf(status: Status, most = MOST_OF_REPORT): Status {
  if (sizeOf(Status, status) <= most) return status;
  const bare = { ...status, networks: [], problems: [], warnings: [], peers: [] };
  let left = most - NOTE - sizeOf(Status, bare);
  const taken = <T>(codec: Codec<T>, list: readonly T[]): T[] =>
    list.filter((one) => {
      const size = sizeOf(codec, one) + FRAME;
      if (size > left) return false;
      left -= size;
      return true;
    });
  const networks = taken(StatusNetwork, status.networks);
  const problems = taken(Problem, status.problems);
  const warnings = taken(Problem, status.warnings);
  const missing = [
    count(status.networks.length - networks.length, 'networks'),
    count(status.problems.length - problems.length, 'problems'),
  ].filter((text) => text !== '');
  if (missing.length > 0)
    problems.push({
      what: 'the report of this node',
      why: `has no room for ${missing.join(' and ')}`,
      fix: 'See weft status on the node itself.',
    });
  return { ...bare, networks, problems, warnings, peers: taken(Peer, status.peers) };
}

const count = (missing: number, what: string): string => (missing === 0 ? '' : `${missing} more ${what}`);
