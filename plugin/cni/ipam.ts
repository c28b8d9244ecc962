// Addresses for other plugins: `"ipam": {"type": "weft"}` below bridge, macvlan or ipvlan.
//
// An address of the node's subnet, unique in the cluster, reserved under the attachment's key until DEL, or until the container
// is gone. The interface and its routes are the other plugin's.
import { parseInterface } from '../../core/address.js';
import { FAMILIES, subnetIn } from '../../core/families.js';
import { failedPrecondition, messageOf, notFound } from '../../core/errors.js';
import { KeyedMutex } from '../../core/keyed-mutex.js';
import type { NodeSubnets, PluginHost, Reservation } from '../../daemon/plugin-host.js';
import { queueOf } from '../attach-sandbox.js';
import { CniError, CODE } from './errors.js';
import { checkRanges, isUnlisted, keyOf, networkOf, status } from './network.js';
import type { AttachmentId, CniRequest } from './request.js';
import { addressWishesOf } from './wishes.js';

/** How often addresses of containers that are gone are looked for. */
const SWEEP_MS = 10_000;

export class Ipam {
  readonly #locks = new KeyedMutex();
  readonly #timer: NodeJS.Timeout;

  constructor(private readonly host: PluginHost) {
    this.#timer = setInterval(() => this.#sweep(), SWEEP_MS);
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  /** @throws CniError, WeftError; then nothing is reserved */
  add(request: CniRequest, signal: AbortSignal): Promise<object> {
    return this.#locks.run(queueOf(keyOf(request.id)), async () => {
      signal.throwIfAborted();
      const { networks, addresses } = this.host;
      const { id, conf, netns } = request;
      const network = networkOf(request);
      const node = networks.get(network) ?? (await networks.join(network));
      checkBridge(conf.type, node);
      const { ip, ip6, ranges } = addressWishesOf(request);
      checkRanges(ranges, node);
      const before = this.#of(id);
      const isSame = before.some((one) => addresses.isAlive(one) === true && one.sandbox?.path === netns);
      if (isSame) return resultOf(request, before, node);
      for (const one of before) this.#release(one);
      try {
        for (const family of FAMILIES) {
          if (subnetIn(node, family) === undefined) continue;
          const asked = family === 4 ? ip : ip6;
          await addresses.reserve({
            ...{ network, family, key: keyOf(id), sandbox: netns },
            ...(asked && { asked }),
          });
        }
        signal.throwIfAborted();
        return resultOf(request, this.#of(id), node);
      } catch (error) {
        for (const one of this.#of(id)) this.#release(one);
        throw error;
      }
    });
  }

  /** Addresses that are not reserved are no error. */
  delete({ id }: CniRequest): Promise<void> {
    return this.#locks.run(queueOf(keyOf(id)), () => {
      for (const one of this.#of(id)) this.#release(one);
      return Promise.resolve();
    });
  }

  /** @throws CniError if the container has no address, or another one than the runtime knows */
  check({ id, conf }: CniRequest): Promise<void> {
    const told = (conf.prevResult?.ips ?? []).map(({ address = '' }) => address.split('/')[0]);
    const has = this.#of(id).map(({ ip }) => parseInterface(ip).address.toString());
    const isRight = has.length > 0 && (conf.prevResult === undefined || has.every((ip) => told.includes(ip)));
    if (isRight) return Promise.resolve();
    return Promise.reject(
      new CniError(
        CODE.unknownContainer,
        `${id.ifname} of container ${id.containerId} has ${has.join(' and ') || 'no address'} of weft's`,
        'Start the container again.',
      ),
    );
  }

  status(request: CniRequest): Promise<void> {
    return status(this.host, request);
  }

  collect({ conf }: CniRequest): Promise<void> {
    this.#sweep((one) => isUnlisted(conf, one.foreignKey));
    return Promise.resolve();
  }

  #of({ network, containerId, ifname }: AttachmentId): Reservation[] {
    return this.host.addresses
      .list()
      .filter(
        ({ foreignKey: key }) =>
          key?.manager === 'cni' &&
          key.network === network &&
          key.containerId === containerId &&
          key.ifname === ifname,
      );
  }

  #release({ network, ip }: Reservation): void {
    this.host.addresses.release(network, parseInterface(ip).address.toString());
  }

  #sweep(isMeant: (one: Reservation) => boolean = () => true): void {
    const { addresses, log } = this.host;
    try {
      for (const one of addresses.list()) {
        if (!isMeant(one) || addresses.isAlive(one) !== false) continue;
        log.info('released the address of a container that ended', { network: one.network, ip: one.ip });
        this.#release(one);
      }
    } catch (error) {
      log.warn('addresses could not be looked through', { error: messageOf(error) });
    }
  }
}

/** CNI's bridge has the subnet's first address, as weft's bridge would. */
function checkBridge(type: string | undefined, { network, subnetOnly }: NodeSubnets): void {
  if (type !== 'bridge' || subnetOnly) return;
  throw failedPrecondition(
    `network ${network.name} has a bridge of weft's on this node, and two bridges cannot have one gateway`,
    `Start the agent with --subnet-only ${network.name}, or use weft as the plugin in the place of bridge.`,
  );
}

function resultOf(
  { version, conf }: CniRequest,
  reserved: readonly Reservation[],
  node: NodeSubnets,
): object {
  if (reserved.length === 0) throw notFound(`this node is not on network ${node.network.name} any more`);
  const sides = reserved.map(({ ip }) => {
    const { family } = parseInterface(ip).address;
    const [own, whole] = [subnetIn(node, family), subnetIn(node.network, family)];
    const gateway = [node.gateway, node.gateway6].find((one) => one?.family === family);
    const via = gateway?.toString() ?? '';
    const isWhole = own !== undefined && whole?.equals(own) === true;
    const hasDefault = !node.network.internal && (conf.defaultRoute ?? true);
    return {
      ip: { ...(version === '0.4.0' && { version: String(family) }), address: ip, gateway: via },
      routes: [
        ...(isWhole || whole === undefined ? [] : [{ dst: whole.toString(), gw: via }]),
        ...(hasDefault ? [{ dst: family === 6 ? '::/0' : '0.0.0.0/0', gw: via }] : []),
      ],
    };
  });
  return {
    cniVersion: version,
    ips: sides.map(({ ip }) => ip),
    routes: sides.flatMap(({ routes }) => routes),
    dns: {},
  };
}
