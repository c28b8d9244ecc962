// Attachments of containers by CNI: ADD, DEL, CHECK, STATUS, GC.
//
// An attachment is an endpoint under the key (network's configuration, container, interface), which the agent keeps: DEL needs
// nothing else, at any time and any number of times. Calls about one attachment run one after the other.
import { WeftError } from '../../core/errors.js';
import { KeyedMutex } from '../../core/keyed-mutex.js';
import type { PluginHost } from '../../daemon/plugin-host.js';
import { attachSandbox, queueOf } from '../attach-sandbox.js';
import type { ChainedMac } from './chained-mac.js';
import { CniError, CODE } from './errors.js';
import type { CniRequest } from './request.js';
import { resultOf } from './result.js';
import { checkRanges, isUnlisted, keyOf, networkOf, status } from './network.js';
import { wishesOf } from './wishes.js';

export class Attachments {
  readonly #locks = new KeyedMutex();

  constructor(
    private readonly host: PluginHost,
    private readonly chainedMac: ChainedMac,
  ) {}

  /** @throws CniError, WeftError, or the signal's reason; then the container has nothing of it */
  add(request: CniRequest, signal: AbortSignal): Promise<object> {
    return this.#locks.run(queueOf(keyOf(request.id)), () => this.#add(request, signal));
  }

  async #add(request: CniRequest, signal: AbortSignal): Promise<object> {
    const { conf, id, netns } = request;
    const network = networkOf(request);
    const wishes = wishesOf(request);
    const { ranges, dns: _dns, ...asked } = wishes;
    try {
      return await attachSandbox(
        this.host,
        {
          ...{ key: keyOf(id), network, sandbox: netns, ifname: id.ifname, ...asked },
          defaultRoute: conf.defaultRoute ?? true,
        },
        signal,
        (endpoint, view) => {
          checkRanges(ranges, this.host.networks.get(network));
          void this.chainedMac.follow(endpoint);
          return resultOf(request, endpoint, view, wishes);
        },
      );
    } catch (error) {
      const isKnown = this.host.networks.list().some(({ name }) => name === network);
      if (isKnown && error instanceof WeftError && error.code === 'NOT_FOUND')
        throw new CniError(CODE.namespace, error.message, error.next, { cause: error });
      throw error;
    }
  }

  /** An attachment that does not exist is no error. @throws WeftError if it cannot be removed now */
  delete({ id }: CniRequest): Promise<void> {
    return this.#locks.run(queueOf(keyOf(id)), async () => {
      const endpoint = this.host.endpoints.find(keyOf(id));
      if (endpoint !== undefined) await this.host.endpoints.disconnect(endpoint.id);
    });
  }

  /** Puts right what it can. @throws CniError if the container lacks something all the same */
  check(request: CniRequest): Promise<void> {
    return this.#locks.run(queueOf(keyOf(request.id)), async () => {
      const { endpoints } = this.host;
      const { id, conf } = request;
      const endpoint = endpoints.find(keyOf(id));
      const what = `${id.ifname} of container ${id.containerId}`;
      if (endpoint === undefined || endpoints.isAlive(endpoint.id) === false) {
        throw new CniError(
          CODE.unknownContainer,
          `${what} is not attached to network ${networkOf(request)}`,
          'Start the container again.',
        );
      }
      const told = (conf.prevResult?.ips ?? []).map(({ address }) => address);
      if (conf.prevResult !== undefined && !told.includes(endpoint.ip)) {
        throw new CniError(
          CODE.refused,
          `${what} has ${endpoint.ip}, which is not in the result that the runtime has`,
          'Start the container again.',
        );
      }
      await this.chainedMac.take(endpoint, conf.prevResult);
      const missing = await endpoints.repair(endpoint.id);
      if (missing.length === 0) return;
      throw new CniError(CODE.refused, `${what} lacks ${missing.join(', ')}`, 'See weft status.');
    });
  }

  status(request: CniRequest): Promise<void> {
    return status(this.host, request);
  }

  /** Removes what the runtime does not list and whose container is gone. */
  async collect({ conf }: CniRequest): Promise<void> {
    const { endpoints } = this.host;
    for (const { id, foreignKey } of endpoints.list())
      if (isUnlisted(conf, foreignKey) && endpoints.isAlive(id) === false) await endpoints.disconnect(id);
  }
}
