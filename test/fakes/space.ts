// One network namespace of the fake kernel.
//
// Its links, the objects on them, and what Linux changes elsewhere when one of them changes. Each modelled consequence was
// observed on a real kernel.
import { IpAddress, parseInterface } from '../../core/address.js';
import {
  ipv6Enabled,
  itemKindOf,
  linkKindOf,
  objectKey,
  portKey,
  sysctlLink,
  TRANSIT_PREFIX,
  type Actual,
  type ActualObject,
  type ItemObject,
  type KernelObject,
  type LinkObject,
  type ObjectKey,
  type RemovableItem,
} from '../../core/objects/index.js';
import type { Step } from '../../core/plan.js';
import { otherOwner } from '../../agent/kernel/ownership.js';
import type { Listener, NamespaceRole } from '../../agent/kernel/kernel.js';
import { lineOf } from './lines.js';

/** The fake kernel's counterpart of an errno of Linux. */
export class Errno extends Error {
  constructor(
    readonly errno: string,
    message: string,
  ) {
    super(message);
  }
}

interface Link {
  /** A string is a kind that weft does not model. */
  object: LinkObject | string;
  name: string;
  owned: boolean;
  up: boolean;
  /** The other end of a veth pair. */
  other?: { space: FakeSpace; name: string };
}

/** Notifications to watchers. */
export interface SpaceListener {
  changed(key: ObjectKey, now: ActualObject | undefined): void;
  linkGone(name: string): void;
  lost(): void;
}

/** Of a new link; IPv6 is off on it, as on a hardened host and in Docker's containers. */
const LINK_SYSCTLS = {
  4: { send_redirects: '1', proxy_arp: '0', rp_filter: '0', route_localnet: '0' },
  6: { proxy_ndp: '0', accept_ra: '1', disable_ipv6: '1' },
};

export class FakeSpace {
  readonly links = new Map<string, Link>();
  readonly items = new Map<ObjectKey, { object: RemovableItem; owned: boolean }>();
  readonly sysctls = new Map<string, string>();
  listeners: Listener[] = [];
  /** Whether questions by UDP are answered. */
  answers: (ip: string, port: number) => boolean = () => true;
  readonly #written = new Set<string>();
  /** Open handles: a namespace lives as long as there is a path or a handle. */
  handles = 0;

  constructor(
    readonly role: NamespaceRole,
    private readonly listener?: SpaceListener,
  ) {
    this.sysctls.set('net/ipv4/ip_forward', '0').set('net/ipv6/conf/all/forwarding', '0');
    this.addLink({
      object: { kind: 'link', type: 'loopback', name: 'lo' },
      name: 'lo',
      owned: false,
      up: role === 'node',
    });
  }

  observe(sysctls: Iterable<string>): Actual {
    const objects = new Map<ObjectKey, ActualObject>();
    const unownedLinks = new Set<string>();
    const up = new Set<string>();
    for (const link of this.links.values()) {
      if (link.up) up.add(link.name);
      if (this.role === 'node' && link.name.startsWith(TRANSIT_PREFIX)) continue;
      if (!link.owned && link.name !== 'lo') unownedLinks.add(link.name);
      if (typeof link.object !== 'string')
        objects.set(objectKey(link.object), { object: this.#seen(link.object), owned: link.owned });
    }
    for (const [key, item] of this.items) objects.set(key, item);
    for (const path of sysctls) {
      const object: KernelObject = { kind: 'sysctl', path, value: this.sysctls.get(path) ?? '' };
      objects.set(objectKey(object), { object, owned: false });
    }
    return { objects, unownedLinks, up };
  }

  /** The name and address of a veth's other end are not visible across namespaces. */
  #seen(object: LinkObject): LinkObject {
    if (object.type !== 'veth') return object;
    const { vlan: _vlan, ...rest } = object;
    const seen = { ...rest, peer: { name: '', mac: '' } };
    return this.#tellsVlans(object.master) ? { ...seen, vlan: object.vlan ?? 0 } : seen;
  }

  #tellsVlans(bridge: string): boolean {
    const object = this.links.get(bridge)?.object;
    return typeof object === 'object' && object.type === 'bridge' && object.vlans === true;
  }

  /** @throws Errno */
  run(step: Step, peerSpace: FakeSpace | undefined): void {
    const other = otherOwner(step, (name) => {
      const link = this.links.get(name);
      return link === undefined ? undefined : { owned: link.owned, marked: link.owned };
    });
    if (other !== undefined) {
      if (step.do === 'delete') return;
      throw new Errno('EEXIST', `${other} exists already, and weft did not make it`);
    }
    switch (step.do) {
      case 'create-link':
        return this.#create(step.link, peerSpace);
      case 'change-link':
        return this.change(step.link.name, step.link);
      case 'delete-link':
        return this.removeLink(step.name);
      case 'put':
        this.#checkIpv6(step.object);
        return this.put(step.object, step.replace, true);
      case 'delete': {
        const found = this.items.get(objectKey(step.object));
        // As in Linux, an object is not found by a destination or a mark that does not match.
        const same =
          found?.object.kind !== 'fdb' ||
          (step.object.kind === 'fdb' && found.object.dst === step.object.dst);
        if (found?.owned === true && same) this.removeItem(objectKey(step.object));
      }
    }
  }

  #checkIpv6(object: ItemObject): void {
    if (object.kind !== 'address' || !object.address.includes(':')) return;
    if (this.sysctls.get(ipv6Enabled(object.link).path) === '1')
      throw new Errno('EACCES', `IPv6 is off on ${object.link}`);
  }

  #create(object: LinkObject, peerSpace: FakeSpace | undefined): void {
    const { name } = object;
    if (object.type === 'peer' || object.type === 'loopback') {
      throw new Errno('EOPNOTSUPP', `a ${object.type} is not created by itself`);
    }
    if (this.links.has(name)) throw new Errno('EEXIST', `link ${name} is there already`);
    if (object.type === 'vxlan') {
      const twin = [...this.links.values()].find(
        ({ object: other }) =>
          typeof other !== 'string' &&
          other.type === 'vxlan' &&
          other.vni === object.vni &&
          other.port === object.port &&
          other.local.includes(':') === object.local.includes(':'),
      );
      if (twin !== undefined)
        throw new Errno('EEXIST', 'A VXLAN device with the specified VNI already exists.');
    }
    if (object.type === 'vlan' && !this.links.has(object.base))
      throw new Errno('ENODEV', `there is no link ${object.base}`);
    if (object.type !== 'veth') return this.addLink({ object, name, owned: true, up: true });
    if (!this.links.has(object.master)) throw new Errno('ENODEV', `there is no link ${object.master}`);
    if (object.vlan !== undefined && !this.#tellsVlans(object.master))
      throw new Errno('EOPNOTSUPP', `${object.master} does not tell VLANs apart`);
    const inside = object.peer.onNode === true ? this : peerSpace;
    if (inside === undefined) throw new Errno('EINVAL', `${name}: no namespace for its other end`);
    if (inside.links.has(object.peer.name)) {
      throw new Errno('EEXIST', `link ${object.peer.name} is there already in the container`);
    }
    const peer: LinkObject = {
      kind: 'link',
      type: 'peer',
      name: object.peer.name,
      mac: object.peer.mac,
      mtu: object.mtu,
    };
    const other = { space: this, name };
    inside.addLink({ object: peer, name: peer.name, owned: true, up: false, other });
    this.addLink({ object, name, owned: true, up: true, other: { space: inside, name: peer.name } });
  }

  addLink(link: Link): void {
    this.links.set(link.name, link);
    for (const family of [4, 6] as const) {
      const conf = `net/ipv${family}/conf/${link.name}`;
      const forwarding = family === 4 ? 'net/ipv4/ip_forward' : 'net/ipv6/conf/all/forwarding';
      this.sysctls.set(`${conf}/forwarding`, this.sysctls.get(forwarding) ?? '0');
      this.sysctls.set(`net/ipv${family}/neigh/${link.name}/proxy_delay`, '80');
      for (const [key, value] of Object.entries(LINK_SYSCTLS[family]))
        this.sysctls.set(`${conf}/${key}`, value);
    }
    this.#tellLink(link);
  }

  /** Changes attributes and, by default, brings the link up. */
  change(name: string, changes: Partial<LinkObject>, up = true): void {
    const link = this.links.get(name);
    if (link === undefined) throw new Errno('ENODEV', `there is no link ${name}`);
    const before = link.object;
    if (typeof before !== 'string') {
      if (changes.type !== undefined && changes.type !== before.type)
        throw new Errno('EOPNOTSUPP', `${name} is a ${before.type}`);
      if ('master' in changes && changes.master !== '' && !this.links.has(changes.master ?? '')) {
        throw new Errno('ENODEV', `there is no link ${changes.master ?? ''}`);
      }
      // A veth's other end is in another namespace, out of reach.
      const kept = before.type === 'veth' ? { peer: before.peer } : {};
      // A whole link that does not mention an attribute does not have it.
      if (before.type === 'veth' && 'peer' in changes && !('hairpin' in changes)) {
        Object.assign(kept, { hairpin: false });
      }
      link.object = { ...before, ...changes, ...kept } as LinkObject;
      // neigh_changeaddr: a new MAC address makes the kernel forget the link's neighbours, permanent ones too.
      if ('mac' in before && 'mac' in link.object && before.mac !== link.object.mac)
        this.#drop(name, ['neighbour']);
      // br_del_if: a port that leaves its bridge takes its entries along.
      if (before.type === 'veth' && 'master' in link.object && before.master !== link.object.master)
        this.#drop(name, ['port-mac']);
    }
    if (link.up && !up) {
      this.#drop(name, ['route', 'neighbour', 'proxy']);
      for (const [key, { object }] of this.items) {
        if (object.kind === 'address' && object.link === name && object.address.includes(':'))
          this.removeItem(key);
      }
    }
    link.up = up;
    this.#tellLink(link);
  }

  /** Removes a link with its addresses, routes, neighbours and entries, its sysctls, and a veth's other end. */
  removeLink(name: string): void {
    const link = this.links.get(name);
    if (link === undefined) return;
    this.links.delete(name);
    for (const [key, { object }] of this.items) {
      const kind = itemKindOf(object);
      if (kind.link?.(object) === name || kind.bridge?.(object) === name) this.items.delete(key);
    }
    for (const { object, name: device } of [...this.links.values()])
      if (typeof object !== 'string' && linkKindOf(object).link?.(object) === name) this.removeLink(device);
    for (const port of this.links.values()) {
      if (typeof port.object !== 'string' && port.object.type === 'veth' && port.object.master === name) {
        const { vlan: _vlan, ...rest } = port.object;
        port.object = { ...rest, master: '' };
        this.#tellLink(port);
      }
    }
    for (const path of this.sysctls.keys()) {
      if (sysctlLink(path) !== name) continue;
      this.sysctls.delete(path);
      this.#written.delete(path);
    }
    this.listener?.linkGone(name);
    link.other?.space.removeLink(link.other.name);
  }

  /** @throws Errno */
  put(object: ItemObject, replace: boolean, owned: boolean): void {
    if (object.kind === 'sysctl') return this.#write(object.path, object.value);
    const isUnreachable = object.kind === 'route' && object.unreachable === true;
    const link = this.links.get(isUnreachable ? 'lo' : object.link);
    if (link === undefined) throw new Errno('ENODEV', `there is no link ${object.link}`);
    const key = objectKey(object);
    const found = this.items.get(key);
    if (found !== undefined && !replace && found.owned !== owned)
      throw new Errno('EEXIST', `${key} is there already`);
    if (object.kind === 'fdb' && (typeof link.object === 'string' || link.object.type !== 'vxlan')) {
      throw new Errno('EOPNOTSUPP', `${object.link} is no vxlan`);
    }
    if (
      object.kind === 'port-mac' &&
      (typeof link.object === 'string' || link.object.type !== 'veth' || link.object.master !== object.bridge)
    )
      throw new Errno('EINVAL', `${object.link} is no port of ${object.bridge}`);
    if (
      object.kind.startsWith('wireguard-') &&
      (typeof link.object === 'string' || link.object.type !== 'wireguard')
    )
      throw new Errno('EOPNOTSUPP', `${object.link} is no wireguard device`);
    // WGPEER_F_UPDATE_ONLY.
    if (object.kind === 'wireguard-prefix' && !this.#hasPeer(object)) return;
    if (object.kind === 'port' && !this.links.has(object.master))
      throw new Errno('ENODEV', `there is no link ${object.master}`);
    if (object.kind === 'vlan') {
      const port = this.items.get(portKey(object.link))?.object;
      const on = object.link === object.bridge || (port?.kind === 'port' && port.master === object.bridge);
      if (!on || !this.#tellsVlans(object.bridge))
        throw new Errno('EOPNOTSUPP', `${object.link} is no port of a bridge with VLANs`);
    }
    if (object.kind === 'route' && !isUnreachable) {
      if (!link.up) throw new Errno('ENETDOWN', `${object.link} is down`);
      if (object.via !== undefined && object.onlink !== true && !this.#onLink(object.link, object.via)) {
        throw new Errno('ENETUNREACH', 'Nexthop has invalid gateway.');
      }
      if (object.src !== undefined && !this.#isOwn(object.src))
        throw new Errno('EINVAL', 'Invalid prefsrc address.');
    }
    this.items.set(key, { object, owned });
    this.listener?.changed(key, { object, owned });
  }

  #hasPeer({ link, publicKey }: { link: string; publicKey: string }): boolean {
    return [...this.items.values()].some(
      ({ object }) =>
        object.kind === 'wireguard-peer' && object.link === link && object.publicKey === publicKey,
    );
  }

  #isOwn(ip: string): boolean {
    return [...this.items.values()].some(
      ({ object }) => object.kind === 'address' && parseInterface(object.address).address.toString() === ip,
    );
  }

  /** Whether an address or a direct route of the link leads to the gateway. */
  #onLink(link: string, gateway: string): boolean {
    const ip = IpAddress.parse(gateway);
    for (const { object } of this.items.values()) {
      const prefix =
        object.kind === 'address'
          ? object.address
          : object.kind === 'route' && object.via === undefined
            ? object.to
            : undefined;
      if (prefix === undefined || !('link' in object) || object.link !== link) continue;
      const { address, length } = parseInterface(prefix);
      const shift = BigInt((ip.family === 4 ? 32 : 128) - length);
      if (address.family === ip.family && address.value >> shift === ip.value >> shift) return true;
    }
    return false;
  }

  removeItem(key: ObjectKey): void {
    const found = this.items.get(key)?.object;
    if (found === undefined) return;
    this.items.delete(key);
    this.listener?.changed(key, undefined);
    // A link that is no longer a port is in no VLAN.
    if (found.kind === 'port') this.#drop(found.link, ['vlan']);
    if (found.kind === 'wireguard-peer')
      this.#drop(
        found.link,
        ['wireguard-prefix'],
        (object) => object.kind === 'wireguard-prefix' && object.publicKey === found.publicKey,
      );
    if (found.kind === 'address') this.#dropRoutesFrom(found.address);
    // fib_disable_ip: the last IPv4 address of a link takes its IPv4 routes with it.
    if (found.kind !== 'address' || found.address.includes(':')) return;
    const left = [...this.items.values()].some(
      ({ object }) =>
        object.kind === 'address' && object.link === found.link && !object.address.includes(':'),
    );
    if (!left)
      this.#drop(found.link, ['route'], (object) => object.kind === 'route' && !object.to.includes(':'));
  }

  /** fib_sync_down_addr: IPv4 routes with the address as their source are deleted with it. */
  #dropRoutesFrom(text: string): void {
    const ip = parseInterface(text).address;
    for (const [key, { object }] of ip.family === 4 ? this.items : [])
      if (object.kind === 'route' && object.src === ip.toString()) this.removeItem(key);
  }

  #drop(
    link: string,
    kinds: RemovableItem['kind'][],
    also: (object: RemovableItem) => boolean = () => true,
  ): void {
    for (const [key, { object }] of this.items) {
      if (object.link === link && kinds.includes(object.kind) && also(object)) this.removeItem(key);
    }
  }

  #write(path: string, value: string): void {
    if (!this.sysctls.has(path)) throw new Errno('ENOENT', `there is no /proc/sys/${path}`);
    this.sysctls.set(path, value);
    this.#written.add(path);
    const family =
      path === 'net/ipv4/ip_forward' ? 4 : path === 'net/ipv6/conf/all/forwarding' ? 6 : undefined;
    // The one switch for all links sets each link's own.
    if (family !== undefined) {
      for (const name of this.links.keys())
        this.sysctls.set(`net/ipv${family}/conf/${name}/forwarding`, value);
    }
    // Only a few sysctls are notified.
    if (path.endsWith('forward') || path.endsWith('forwarding')) this.listener?.lost();
  }

  #tellLink(link: Link): void {
    if (typeof link.object === 'string') this.listener?.lost();
    else
      this.listener?.changed(objectKey(link.object), { object: this.#seen(link.object), owned: link.owned });
  }

  /** All objects as sorted lines; what is down or not weft's is marked. Of the sysctls only those that were written. */
  lines(): string[] {
    const links = [...this.links.values()].map(({ object, name, owned, up }) => {
      const text = typeof object === 'string' ? `link ${name} ${object}` : lineOf(object);
      return `${text}${up ? '' : ' down'}${owned || name === 'lo' ? '' : ' (unowned)'}`;
    });
    const items = [...this.items.values()].map(
      ({ object, owned }) => `${lineOf(object)}${owned ? '' : ' (unowned)'}`,
    );
    const written = [...this.#written].map((path) => `sysctl ${path}=${this.sysctls.get(path) ?? ''}`);
    return [links, items, written].flatMap((lines) => lines.sort());
  }
}
