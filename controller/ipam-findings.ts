// Where etcd, the nodes and the containers disagree about addresses. Pure: it is given what each of them says.
import type { Endpoint } from '../core/records.js';
import type { LocalEndpoint } from '../proto/gen/weft/v1/inspection.js';
import type { StoredLease, View } from '../store/store.js';

/** What releases a finding: a record of etcd, or an endpoint of a node. */
export type Release =
  | { do: 'delete-endpoint'; network: string; id: string }
  | { do: 'detach'; node: string; network: string; target: string }
  | { do: 'delete-claim'; network: string; ip: string; endpoint: string }
  | { do: 'release-lease'; lease: StoredLease };

export interface Finding {
  /** The same in every look. */
  id: string;
  kind: string;
  network: string;
  address: string;
  node: string;
  why: string;
  /** Absent: nothing is to be released. */
  release?: Release;
}

export interface Seen {
  view: Pick<View, 'networks' | 'endpoints' | 'claims' | 'leases' | 'nodes' | 'alive'>;
  /** By node: those that could be asked. */
  local: ReadonlyMap<string, readonly LocalEndpoint[]>;
  /** When a subnet's lease ends, milliseconds since 1970; undefined: never, or unknown. */
  ends: (lease: StoredLease) => number | undefined;
  now: number;
}

/** Leases are renewed an hour ahead (flannel does, too). */
const ENDING_MS = 30 * 60_000;

export const findingsOf = (seen: Seen): Finding[] =>
  [
    ...recordedEndpoints(seen),
    ...unrecorded(seen),
    ...claims(seen),
    ...leases(seen),
    ...duplicates(seen),
  ].toSorted((a, b) => (a.id < b.id ? -1 : a.id > b.id ? 1 : 0));

function* allEndpoints({ view }: Seen): Iterable<Endpoint> {
  for (const endpoints of view.endpoints.values()) yield* endpoints.values();
}

const addressOf = ({ ip, ip6 = '' }: { ip: string; ip6?: string | undefined }): string =>
  ip === '' ? ip6 : ip;

const isUnknown = ({ view }: Seen, node: string): boolean => !view.nodes.has(node) && !view.alive.has(node);

function recordedEndpoints(seen: Seen): Finding[] {
  return [...allEndpoints(seen)].flatMap((endpoint): Finding[] => {
    const { id, name, network, node } = endpoint;
    const about = { network, address: addressOf(endpoint), node };
    const key = `${network}/${id.slice(0, 12)}`;
    if (isUnknown(seen, node))
      return [
        {
          ...about,
          id: `endpoint-of-no-node/${key}`,
          kind: 'endpoint-of-no-node',
          why: `endpoint ${name} is of node ${node}, which is not in the cluster`,
          release: { do: 'delete-endpoint', network, id },
        },
      ];
    const local = seen.local.get(node);
    const there = local?.find((one) => one.id === id);
    if (local === undefined || there?.isThere === true) return [];
    return [
      {
        ...about,
        id: `endpoint-without-container/${key}`,
        kind: 'endpoint-without-container',
        why:
          there === undefined
            ? `node ${node} has no endpoint ${name}`
            : `the container of endpoint ${name}, ${there.target}, is gone`,
        release:
          there === undefined
            ? { do: 'delete-endpoint', network, id }
            : { do: 'detach', node, network, target: there.target },
      },
    ];
  });
}

function unrecorded({ local, view }: Seen): Finding[] {
  return [...local].flatMap(([node, endpoints]) =>
    endpoints
      .filter(({ network, id }) => view.endpoints.get(network)?.has(id) !== true)
      .map((one) => ({
        id: `container-without-endpoint/${one.network}/${one.id.slice(0, 12)}`,
        kind: 'container-without-endpoint',
        network: one.network,
        address: addressOf(one),
        node,
        why: `node ${node} has endpoint ${one.name}, and etcd does not; the node writes it again`,
      })),
  );
}

function claims(seen: Seen): Finding[] {
  return [...seen.view.claims].flatMap(([network, found]) =>
    [...found.values()].flatMap((claim): Finding[] => {
      const { ip, node, endpoint } = claim;
      if (!isUnknown(seen, node)) return [];
      return [
        {
          id: `claim-of-no-node/${network}/${ip.toString()}`,
          kind: 'claim-of-no-node',
          ...{ network, node, address: ip.toString() },
          why: `node ${node} has claimed it, and is not in the cluster`,
          release: { do: 'delete-claim', network, ip: ip.toString(), endpoint },
        },
      ];
    }),
  );
}

function leases(seen: Seen): Finding[] {
  return [...seen.view.leases].flatMap(([network, found]) =>
    [...found.values()].flatMap((lease): Finding[] => {
      const { node } = lease;
      const subnet = lease.subnet.toString();
      const about = { network, address: subnet, node: node ?? '' };
      if (node !== undefined && !lease.reservation && isUnknown(seen, node))
        return [
          {
            ...about,
            id: `lease-of-no-node/${network}/${subnet}`,
            kind: 'lease-of-no-node',
            why: `it is of node ${node}, which is not in the cluster`,
            release: { do: 'release-lease', lease },
          },
        ];
      const left = (seen.ends(lease) ?? Infinity) - seen.now;
      if (left > ENDING_MS) return [];
      return [
        {
          ...about,
          id: `lease-ending/${network}/${subnet}`,
          kind: 'lease-ending',
          why: `its lease ends in ${Math.max(0, Math.round(left / 60_000))} min and was not renewed: see whether ${node === undefined ? `the flanneld at ${lease.publicIp.toString()}` : `the agent of ${node}`} runs`,
        },
      ];
    }),
  );
}

function duplicates(seen: Seen): Finding[] {
  const users = new Map<string, Endpoint[]>();
  for (const endpoint of allEndpoints(seen))
    for (const text of [endpoint.ip, endpoint.ip6 ?? '']) {
      if (text === '') continue;
      const key = JSON.stringify([endpoint.network, text.split('/')[0], endpoint.vlan]);
      users.set(key, [...(users.get(key) ?? []), endpoint]);
    }
  return [...users].flatMap(([key, endpoints]) => {
    const [first, ...others] = endpoints;
    if (first === undefined || others.length === 0) return [];
    const [network, address] = JSON.parse(key) as [string, string];
    const named = endpoints.map(({ name, node }) => `${name} on ${node}`).join(' and ');
    return [
      {
        id: `duplicate/${network}/${address}`,
        kind: 'duplicate',
        ...{ network, address, node: first.node },
        why: `${named} have it: detach all but one`,
      },
    ];
  });
}
