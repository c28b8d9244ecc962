// Problems of the cluster, as the controller sees them.
import { IpAddress } from '../core/address.js';
import { prefixesOf } from '../core/network.js';
import { coversUnderlay, findOverlap } from '../core/overlap.js';
import type { Network } from '../core/records.js';
import type { Problem } from '../core/problem.js';
import { isTooOld, tooOld } from '../core/versions.js';
import type { Problem as ProblemMessage } from '../proto/gen/weft/v1/types.js';
import { DisplacedNodes } from '../store/displaced-nodes.js';
import type { Store } from '../store/store.js';
import { problemsOfNodes } from './node-problems.js';
import { enforcesNone } from './policy-gaps.js';
import type { Registry, ReportSource } from './registry.js';

/** A longer list of problems does not help. */
const MOST_OF_NODES = 100;
/** How long a restore of etcd is shown: it has no end by itself. */
const RESTORED_SHOWN_MS = 600_000;

const TOO_OLD: Problem = {
  what: 'policies',
  why: 'its agent knows none, and enforces none',
  fix: 'Update weft on the node.',
};

export class Problems {
  readonly #store: Store;
  readonly #registry: Registry;
  readonly #reports: ReportSource;
  readonly #displaced: DisplacedNodes;
  readonly #security: () => Problem[];
  #overlaps: Problem[] | undefined;

  constructor(options: {
    store: Store;
    registry: Registry;
    reports: ReportSource;
    security?: () => Problem[];
  }) {
    this.#security = options.security ?? (() => []);
    this.#store = options.store;
    this.#registry = options.registry;
    this.#reports = options.reports;
    this.#displaced = new DisplacedNodes(this.#store.view);
    this.#store.subscribe((changes) => {
      this.#displaced.handle(changes);
      // Each network against each other is too much work for every look, and seldom changes.
      if (changes.some(({ kind }) => kind === 'network' || kind === 'node')) this.#overlaps = undefined;
    });
  }

  all(): Problem[] {
    this.#overlaps ??= [...overlappingNetworks(this.#store), ...coveredNodes(this.#store)];
    return [
      ...this.#ofStore(),
      ...this.#security(),
      ...badRecords(this.#store),
      ...this.#overlaps,
      ...this.#displaced.problems(),
      ...this.#ofNodes(),
    ];
  }

  #ofStore(): Problem[] {
    const { connected, error, since, restored } = this.#store.state;
    if (connected && restored !== undefined && Date.now() < restored.getTime() + RESTORED_SHOWN_MS) {
      return [
        {
          what: 'etcd',
          why: `it was restored from an older copy, or emptied, at ${restored.toISOString()}; the nodes write back what is theirs`,
          fix: 'See whether anything is missing: weft network ls, weft node ls. This line goes after ten minutes.',
        },
      ];
    }
    if (connected) return [];
    const why = `not reached since ${since.toISOString()}${error === undefined ? '' : `: ${error}`}`;
    return [
      {
        what: 'etcd',
        why,
        fix: 'See that etcd runs. Until then nothing can be changed, and what is shown may be out of date.',
      },
    ];
  }

  #ofNodes(): Problem[] {
    const names = this.#registry.names();
    const isUp = (name: string): boolean => this.#registry.isUp(name);
    const down = names.filter((name) => !isUp(name) && !this.#displaced.isGone(name));
    const reported = names.filter(isUp).flatMap((node) => {
      const status = this.#reports.reportOf(node)?.status;
      const old = enforcesNone(this.#store, status) ? [TOO_OLD] : [];
      return [...(status?.problems ?? []).map(problemFrom), ...old].map((problem) => ({ node, problem }));
    });
    const old = names.filter(isUp).flatMap((name): Problem[] => {
      const { version = '' } = this.#store.view.nodes.get(name) ?? {};
      return isTooOld(version) ? [{ what: `node ${name}`, ...tooOld(version, 'that host') }] : [];
    });
    const problems = [...down.map((name) => this.#down(name)), ...old, ...problemsOfNodes(reported, isUp)];
    if (problems.length <= MOST_OF_NODES) return problems;
    const rest = problems.length - MOST_OF_NODES;
    return [
      ...problems.slice(0, MOST_OF_NODES),
      {
        what: 'nodes',
        why: `${rest} more problems of nodes`,
        fix: 'See weft node ls and weft node inspect NAME.',
      },
    ];
  }

  #down(name: string): Problem {
    const since = this.#registry.downSince(name);
    const why = this.#registry.whyDown(name);
    return {
      what: `node ${name}`,
      why: `is down${since === undefined ? '' : ` since ${since}`}${why === undefined ? '' : `: ${why}`}`,
      fix: `See weft status on it, and start or restart its agent; if it is gone for good, weft node rm ${name}.`,
    };
  }
}

/** Families in a report are numbers. */
const problemFrom = ({ broken, ...problem }: ProblemMessage): Problem => ({
  ...problem,
  broken: broken.map(({ family, ...path }) => ({ ...path, family: family === 6 ? 6 : 4 })),
});

function badRecords(store: Store): Problem[] {
  return [...store.view.bad.values()]
    .toSorted((a, b) => (a.key < b.key ? -1 : 1))
    .map(({ key, why }) => ({
      what: key,
      why,
      fix: 'Correct or delete this key in etcd; weft leaves it alone.',
    }));
}

// Only configs that were written by hand can overlap. Each pair is listed once.
function overlappingNetworks(store: Store): Problem[] {
  const earlier: Network[] = [];
  const problems: Problem[] = [];
  for (const network of [...store.view.networks.values()].toSorted((a, b) => (a.name < b.name ? -1 : 1))) {
    const other = findOverlap(network, earlier);
    earlier.push(network);
    if (other === undefined) continue;
    problems.push({
      what: `network ${network.name}`,
      why: `${prefixesOf(network).join(' and ')} overlaps network ${other.name} (${prefixesOf(other).join(' and ')})`,
      fix: 'Remove one of them, and create it again with another subnet.',
    });
  }
  return problems;
}

function coveredNodes(store: Store): Problem[] {
  const networks = [...store.view.networks.values()];
  return [...store.view.nodes.values()].flatMap(({ name, publicIp, publicIp6 }) =>
    [publicIp, publicIp6].flatMap((text): Problem[] => {
      const ip = text === undefined ? undefined : IpAddress.tryParse(text);
      const network = ip && networks.find((it) => coversUnderlay(it, ip));
      if (network === undefined) return [];
      return [
        {
          what: `network ${network.name}`,
          why: `${prefixesOf(network).join(' and ')} contains ${text}, the underlay address of node ${name}`,
          fix: 'Create the network again with a subnet that the hosts themselves do not use.',
        },
      ];
    }),
  );
}
