// The resolv.conf of a namespace, from the networks of its endpoints.
//
// Only endpoints with `dns` count, the oldest first.
import { messageOf } from '../../core/errors.js';
import type { Endpoint } from '../../core/records.js';
import type { Logger } from '../../daemon/log.js';
import type { NetnsResolvConf } from '../dns/index.js';

export interface EndpointResolvConfOptions {
  files: Pick<NetnsResolvConf, 'require' | 'set' | 'reset'>;
  /** Text of a resolv.conf for a container on these networks. */
  text: (networks: readonly string[]) => string;
  endpoints: () => readonly Endpoint[];
  log: Logger;
}

export class EndpointResolvConf {
  constructor(private readonly options: EndpointResolvConfOptions) {}

  /** @param target canonical. @throws WeftError INVALID_ARGUMENT if it has no resolv.conf that weft can set */
  require(target: string): void {
    this.options.files.require(target);
  }

  /**
   * Sets it for an endpoint's namespace as if the endpoint did not exist.
   * @param added the endpoint as it becomes; absent: it is removed
   * @throws WeftError FAILED_PRECONDITION if the file cannot be written
   */
  set({ id, target }: Endpoint, added?: Endpoint): void {
    const { files, text, endpoints } = this.options;
    const others = endpoints().filter((one) => one.dns === true && one.target === target && one.id !== id);
    const networks = [...others, ...(added === undefined ? [] : [added])]
      .sort((a, b) => a.createdAt.localeCompare(b.createdAt))
      .map(({ network }) => network);
    if (networks.length === 0) files.reset(target);
    else files.set(target, text(networks));
  }

  /** As `set`, where a failure must not stop the change: it is logged. */
  trySet(endpoint: Endpoint, added?: Endpoint): void {
    if (endpoint.dns !== true) return;
    try {
      this.set(endpoint, added);
    } catch (error) {
      this.options.log.warn('a resolv.conf could not be set', {
        target: endpoint.target,
        error: messageOf(error),
      });
    }
  }
}
