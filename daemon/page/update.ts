// What the page's server tells its browsers: messages of the services, in lists, as JSON.
import type { Event } from '../../proto/gen/weft/v1/events.js';
import type { Endpoint, Network, Node, Status } from '../../proto/gen/weft/v1/types.js';

/** What is watched, and how it comes. */
export interface Watched {
  node: Node;
  network: Network;
  endpoint: Endpoint;
}
export type WatchedKind = keyof Watched;

/** Rates of a network over all nodes that answered. */
export interface TrafficPoint {
  /** Milliseconds since 1970. */
  at: number;
  network: string;
  /** A second, sent by the nodes. */
  bytes: number;
  /** Packets a second. */
  drops: number;
  /** Nodes that did not answer. */
  missing: number;
}

type WatchUpdate = {
  [K in WatchedKind]:
    | { kind: K; put: Watched[K][]; gone: string[] }
    /** All objects follow. What is not among them until `synced` is gone. */
    | { kind: 'begin' | 'synced'; of: K };
}[WatchedKind];

export type Update =
  | WatchUpdate
  | { kind: 'status'; status: Status }
  /** The newest ones, in order of time; `begin` as with the others. */
  | { kind: 'event'; put: Event[] }
  | { kind: 'traffic'; put: TrafficPoint[] }
  /** What comes by this is not live. @see Failure */
  | { kind: 'lost'; of: Feed; failure: Failure }
  | { kind: 'found'; of: Feed };

/** What can be lost by itself. */
export type Feed = WatchedKind | 'status' | 'event' | 'traffic';

export interface Failure {
  /** gRPC's name. */
  code: string;
  message: string;
  /** What to do. */
  next: string | null;
}

/** By name for nodes and networks, by id for endpoints: DELETE carries no more. */
export const keyOf: { [K in WatchedKind]: (object: Watched[K]) => string } = {
  node: ({ name }) => name,
  network: ({ name }) => name,
  endpoint: ({ id }) => id,
};
