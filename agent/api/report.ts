// What a controller shows of this node: health, networks, problems and warnings.
//
// Nothing in it grows with the cluster, and nothing changes by itself: a report is sent when something has changed. It is
// never larger than a controller keeps.
import { MOST_OF_REPORT } from '../../daemon/grpc.js';
import { Problem, Status, StatusNetwork } from '../../proto/gen/weft/v1/types.js';

interface Codec<T> {
  encode(message: T): { finish(): Uint8Array };
}

const sizeOf = <T>(codec: Codec<T>, message: T): number => codec.encode(message).finish().length;

/** Bytes of an element's key and length in its list, and of the problem that says what is left out. */
const FRAME = 8;
const NOTE = 1024;

/** As much of it as fits, networks first. @param most bytes */
export function reportOf(status: Status, most = MOST_OF_REPORT): Status {
  const { health, node, policies } = status;
  const capabilities = node?.capabilities ?? [];
  const bare = Status.fromPartial({
    health,
    ...(node && { node: { name: node.name, capabilities } }),
    ...(policies && { policies }),
  });
  let left = most - NOTE - sizeOf(Status, bare);
  const taken = <T>(codec: Codec<T>, list: readonly T[]): T[] =>
    list.filter((one) => {
      const size = sizeOf(codec, one) + FRAME;
      if (size > left) return false;
      left -= size;
      return true;
    });
  const shown = status.networks.map(({ name, mtu }) => StatusNetwork.fromPartial({ name, mtu }));
  const networks = taken(StatusNetwork, shown);
  const problems = taken(Problem, status.problems);
  const warnings = taken(Problem, status.warnings);
  const missing = [
    count(status.networks.length - networks.length, 'networks'),
    count(status.problems.length - problems.length, 'problems'),
  ].filter((text) => text !== '');
  if (missing.length > 0)
    problems.push(
      Problem.fromPartial({
        what: 'the report of this node',
        why: `has no room for ${missing.join(' and ')}`,
        fix: 'See weft status on the node itself.',
      }),
    );
  return { ...bare, networks, problems, warnings };
}

const count = (missing: number, what: string): string => (missing === 0 ? '' : `${missing} more ${what}`);
