// Records that the controller's tests put into a store.
import { IpAddress, IpNetwork } from '../../core/address.js';
import { networkOf } from '../../core/drivers/index.js';
import type { Network } from '../../core/network.js';
import type { Endpoint, NodeRecord } from '../../core/records.js';
import type { FakeStore } from '../fakes/store.js';

export function node(name: string, publicIp: string, more: Partial<NodeRecord> = {}): NodeRecord {
  return {
    name,
    instance: `i-${name}`,
    publicIp,
    version: '0.1.0',
    startedAt: '2026-01-01T00:00:00.000Z',
    ...more,
  };
}

export function endpoint(id: string, network: string, on: string, more: Partial<Endpoint> = {}): Endpoint {
  return {
    id,
    name: `c-${id}`,
    explicitName: false,
    network,
    node: on,
    target: `netns:/run/netns/${id}`,
    sandbox: { path: `/run/netns/${id}`, cookie: '1', bootId: 'b' },
    ifname: 'eth0',
    hostIfname: `wfep${id.slice(0, 11)}`,
    mac: '02:00:00:00:00:01',
    ip: '10.100.5.2/24',
    defaultRoute: true,
    aliases: [],
    publish: [],
    manager: 'weft',
    createdAt: '2026-01-01T00:00:00.000Z',
    ...more,
  };
}

export function lease(
  store: FakeStore,
  network: string,
  subnet: string,
  on: string | undefined,
  publicIp: string,
) {
  return store.putLease({
    network,
    subnet: IpNetwork.parse(subnet),
    publicIp: IpAddress.parse(publicIp),
    backendType: 'vxlan',
    data: { type: 'vxlan', 4: { vni: 4096, mac: '02:00:00:00:00:aa' } },
    ...(on === undefined ? {} : { node: on, instance: `i-${on}` }),
    reservation: false,
  });
}

/** A clock that the test advances. */
export class FakeClock {
  #elapsed = 0;
  #start = Date.parse('2026-01-01T12:00:00Z');
  readonly #timers = new Set<{ at: number; call: () => void }>();

  now(): number {
    return this.#start + this.#elapsed;
  }

  elapsed(): number {
    return this.#elapsed;
  }

  /** Sets the wall clock; no time passes. */
  set(byMs: number): void {
    this.#start += byMs;
  }

  after(ms: number, call: () => void): () => void {
    const timer = { at: this.#elapsed + ms, call };
    this.#timers.add(timer);
    return () => this.#timers.delete(timer);
  }

  pass(ms: number): void {
    const until = this.#elapsed + ms;
    for (;;) {
      const [next] = [...this.#timers].filter(({ at }) => at <= until).toSorted((a, b) => a.at - b.at);
      if (next === undefined) break;
      this.#timers.delete(next);
      this.#elapsed = next.at;
      next.call();
    }
    this.#elapsed = until;
  }
}

/** A network as it is in etcd, with this VNI: the store does not allocate one. */
export const networkWith = (name: string, subnet: string, vni: number): Network =>
  networkOf({ name, subnet: IpNetwork.parse(subnet), vni });
