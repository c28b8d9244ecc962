// Moves a network to another backend while its containers run.
//
// Three writes of the config: the new backend beside the old one, so that every node makes its devices and publishes its data;
// the two change places, by which all nodes flip; the old one goes. Before the second and the third every living node has
// followed. All that a move needs is in the config and the leases: any controller, and a later call, takes it up where it is. A
// move to the backend in force ends one that has not flipped.
import { setTimeout as pause } from 'node:timers/promises';

import { backendIn } from '../core/backends/index.js';
import { isBackend, type BackendType } from '../core/backends/types.js';
import { isBridged, networkOf } from '../core/drivers/index.js';
import { failedPrecondition, invalidArgument } from '../core/errors.js';
import { securityOf, type Network, type OverlayNetwork } from '../core/network.js';
import type { UpdateNetworkRequest } from '../proto/gen/weft/v1/controller.js';
import type { Move } from '../proto/gen/weft/v1/types.js';
import type { Store, StoredLease } from '../store/store.js';
import { unknownNetwork } from './unknown-network.js';

export interface MoveOptions {
  store: Store;
  /** @throws WeftError FAILED_PRECONDITION where no node can carry it */
  checkCapability: (network: Network) => void;
  /** How long one call waits for nodes, in milliseconds. */
  waitMs?: number;
  signal: AbortSignal;
}

export type MoveRequest = Pick<
  UpdateNetworkRequest,
  'name' | 'backend' | 'directRouting' | 'backendOptions' | 'force'
>;

const WAIT_MS = 5000;
const LOOK_MS = 50;

/** Takes the move as far as the nodes allow. @throws WeftError INVALID_ARGUMENT, FAILED_PRECONDITION, ALREADY_EXISTS */
export async function moveBackend(request: MoveRequest, options: MoveOptions): Promise<void> {
  const { store } = options;
  const { name, backend: to = '' } = request;
  if (!isBackend(to))
    throw invalidArgument(`backend: "${to}" is not served`, 'See weft network create --help.');
  const before = overlayOf(store, name);
  const there = [before, before.beside].find((one) => one?.backend === to);
  if (there !== undefined) checkOptions(there, request);
  if (before.beside === undefined) {
    if (before.backend === to) return;
    const wanted = targetOf(before, to, request);
    checkFlannelds(store, name, request);
    options.checkCapability(wanted);
    await store.updateNetwork(name, { move: { prepare: wanted } });
  } else if (![before.backend, before.beside.backend].includes(to)) {
    throw failedPrecondition(
      `network ${name} is moving between ${before.backend} and ${before.beside.backend}`,
      'Finish that with one of the two as --backend first.',
    );
  }
  const next = overlayOf(store, name).beside;
  if (next?.backend === to) {
    if (!(await follow(name, hasBeside, options))) return;
    await store.updateNetwork(name, { move: { flip: next } });
  }
  if (await follow(name, isInForce, options)) await store.updateNetwork(name, { move: 'end' });
}

/** The state of a move; undefined: there is none. */
export const moveOf = (store: Store, network: Network): Move | undefined =>
  isBridged(network) || network.beside === undefined
    ? undefined
    : {
        beside: network.beside.backend,
        waitingFor: waitingFor(
          store,
          network,
          (lease) => isInForce(lease, network) && hasBeside(lease, network),
        ),
      };

type Condition = (lease: StoredLease, network: OverlayNetwork) => boolean;

const hasBeside: Condition = ({ beside }, network) => beside?.backendType === network.beside?.backend;
const isInForce: Condition = ({ backendType }, network) => backendType === network.backend;

const leasesOf = (store: Store, network: string): StoredLease[] => [
  ...(store.view.leases.get(network)?.values() ?? []),
];

/** Living nodes whose lease is not so yet. One that is away follows when it returns. */
const waitingFor = (store: Store, network: OverlayNetwork, condition: Condition): string[] =>
  leasesOf(store, network.name).flatMap((lease) =>
    lease.node !== undefined && store.view.alive.has(lease.node) && !condition(lease, network)
      ? [lease.node]
      : [],
  );

/** Waits for the living nodes. @returns whether all have followed in time */
async function follow(name: string, condition: Condition, options: MoveOptions): Promise<boolean> {
  const { store, waitMs = WAIT_MS, signal } = options;
  const until = performance.now() + waitMs;
  while (waitingFor(store, overlayOf(store, name), condition).length > 0) {
    if (performance.now() > until) return false;
    await pause(LOOK_MS, undefined, { signal });
  }
  return true;
}

/** @throws WeftError NOT_FOUND, FAILED_PRECONDITION */
function overlayOf(store: Store, name: string): OverlayNetwork {
  const network = store.view.networks.get(name);
  if (network === undefined) throw unknownNetwork(store, name);
  if (!isBridged(network)) return network;
  throw failedPrecondition(
    `network ${name} has no backend: its driver is ${network.driver}`,
    'Only overlays have one.',
  );
}

/** The network with the other backend. @throws WeftError INVALID_ARGUMENT */
function targetOf(network: OverlayNetwork, backend: BackendType, request: MoveRequest): OverlayNetwork {
  const { name, subnet, subnet6, hostPrefix, hostPrefix6, internal, masquerade, mtu, madeBy } = network;
  const target = networkOf({
    ...{ name, subnet, hostPrefix, internal, masquerade, backend },
    ...(subnet6 !== undefined && { subnet6 }),
    ...(hostPrefix6 !== undefined && { hostPrefix6 }),
    ...(mtu !== undefined && { mtu }),
    ...(madeBy !== undefined && { madeBy }),
    ...securityOf(network),
    ...(request.directRouting && { directRouting: true }),
    ...(Object.keys(request.backendOptions).length > 0 && { backendOptions: request.backendOptions }),
  }) as OverlayNetwork;
  const { range, range6, routes } = network;
  return { ...target, range, ...(range6 && { range6 }), ...(routes && { routes }) };
}

/**
 * Options change with the backend alone: two devices of one backend cannot stand beside each other.
 * @throws WeftError FAILED_PRECONDITION for one that the backend does not have like this
 */
function checkOptions(network: OverlayNetwork, request: MoveRequest): void {
  const wordsOf = (of: OverlayNetwork): Record<string, unknown> => ({
    ...backendIn(of).config.encode(of),
  });
  const has = wordsOf(network);
  const given = [...Object.keys(request.backendOptions), ...(request.directRouting ? ['DirectRouting'] : [])];
  if (given.length === 0) return;
  const wanted = Object.entries(wordsOf(targetOf(network, network.backend, request)));
  const other = wanted.find(
    ([word, value]) => given.some((one) => one.toLowerCase() === word.toLowerCase()) && has[word] !== value,
  );
  if (other === undefined) return;
  // Not the value: a PSK is one.
  throw failedPrecondition(
    `network ${network.name}: ${other[0]} of its backend ${network.backend} is another one, and does not change in place`,
    'Move the network to another backend, and back with the new option.',
  );
}

/** @throws WeftError FAILED_PRECONDITION where a flanneld would be left behind */
function checkFlannelds(store: Store, name: string, { force }: MoveRequest): void {
  const flanneld = leasesOf(store, name).find(
    ({ node, publicIp }) => node === undefined && publicIp.value !== 0n,
  );
  if (flanneld === undefined || force) return;
  throw failedPrecondition(
    `network ${name}: the flanneld at ${flanneld.publicIp.toString()} reads its config once, at its start, and would stay with the old backend`,
    'Move that host over to weft first, or give --force and restart flanneld afterwards.',
  );
}
