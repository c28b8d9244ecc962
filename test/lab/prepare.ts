// What backends need beside the hosts of a lab: a cloud.
import type { Cluster } from './cluster.js';

export interface Prepared {
  /** The controller's and the agents'. */
  flags?: readonly string[];
  /** Ends it, before the lab. */
  stop?: () => Promise<void>;
}

export type Prepare = (lab: Cluster, hosts: readonly string[]) => Promise<Prepared>;

export interface Cloud {
  /** Of agents and controllers. */
  readonly flags: readonly string[];
  /** A line for each route that leads to a host. */
  shown(): Promise<string[]>;
  /** The underlay's router takes over what the cloud's routes say. */
  forward(): Promise<void>;
  /** The router follows the routes, until the returned function has been called and has settled. */
  follow(): () => Promise<void>;
}

export type StartCloud = (lab: Cluster, hosts: readonly string[]) => Promise<Cloud>;

/** A cloud whose routes the router follows. */
export const inCloud =
  (start: StartCloud): Prepare =>
  async (lab, hosts) => {
    const cloud = await start(lab, hosts);
    return { flags: cloud.flags, stop: cloud.follow() };
  };
