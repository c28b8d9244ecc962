// What weft asks of a cloud, whichever it is.
import type { CloudMember, CloudNetwork, CloudStep, CloudTable } from '../core/cloud.js';

export interface CloudApi {
  /**
   * This machine as a next hop.
   * @throws WeftError also where the network cannot be routed here, as when the cloud has its prefix
   */
  hop(member: CloudMember): Promise<string>;
  /** Makes this machine forward packets of other addresses. @param hop as `hop` has it @throws WeftError where it cannot be */
  forward(hop: string): Promise<void>;
  /**
   * The tables of a network with their routes inside of it. Those that it names, or else: `own`, that of this machine's subnet;
   * `all`, every one of this machine's VPC.
   * @throws WeftError
   */
  tables(network: CloudNetwork, scope: 'own' | 'all', ip?: CloudMember['ip']): Promise<CloudTable[]>;
  /** @throws WeftError ABORTED where the table has changed meanwhile: it is to be read again */
  apply(step: CloudStep): Promise<void>;
}

/** What a client of a cloud is given. */
export interface CloudOptions {
  signal: AbortSignal;
  environment: Readonly<Record<string, string | undefined>>;
  /** The Compute API where it is not Google's own. */
  gceEndpoint?: string | undefined;
  /** For tests. */
  backoffMs?: number;
}
