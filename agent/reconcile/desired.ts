// Desired objects of the node: the union over all records.
//
// A changed record costs its own objects and nothing else. An object is desired as long as one record needs it.
import {
  connectedRoute,
  linkKey,
  objectKey,
  sameObject,
  sysctlPaths,
  type AddressObject,
  type KernelObject,
  type ObjectKey,
  type RouteObject,
} from '../../core/objects/index.js';
import { assume, plan, type Step } from '../../core/plan.js';
import type { KernelEvent } from '../kernel/index.js';
import { identityOf, type RecordKey, RecordMap } from './record-key.js';

export class Desired {
  readonly #records = new RecordMap<ReadonlyMap<ObjectKey, KernelObject>>();
  /** By object key: the object as each record wants it, by the record's identity; the first record decides. */
  readonly #wanted = new Map<ObjectKey, Map<string, KernelObject>>();
  /** The routes that the kernel makes for desired addresses: by key and link, because links may share fe80::/64. */
  readonly #connected = new Map<ObjectKey, Map<string, RouteObject>>();

  /**
   * Sets what a record compiles to (undefined: the record is deleted). @returns the steps from what it compiled to before;
   * they cost this record's objects and nothing else
   */
  set(record: RecordKey, objects: readonly KernelObject[] | undefined): Step[] {
    const identity = identityOf(record);
    const old = this.#records.get(record);
    const fresh = new Map((objects ?? []).map((object) => [objectKey(object), object]));
    const touched = new Set([...(old?.keys() ?? []), ...fresh.keys()]);
    const before: KernelObject[] = [];
    const after: KernelObject[] = [];
    for (const key of touched) {
      const was = this.get(key);
      this.#put(key, identity, fresh.get(key));
      const is = this.get(key);
      if (was !== undefined && is !== undefined && sameObject(was, is)) continue;
      if (was !== undefined) before.push(was);
      if (is !== undefined) after.push(is);
    }
    if (objects === undefined) this.#records.delete(record);
    else this.#records.set(record, fresh);
    return plan(assume(before), after, { prune: true }).steps;
  }

  #put(key: ObjectKey, record: string, object: KernelObject | undefined): void {
    const wanted = this.#wanted.get(key);
    const before = this.get(key);
    if (object !== undefined) {
      if (wanted === undefined) this.#wanted.set(key, new Map([[record, object]]));
      else wanted.set(record, object);
    } else if (wanted !== undefined) {
      wanted.delete(record);
      if (wanted.size === 0) this.#wanted.delete(key);
    }
    const address = this.get(key) ?? before;
    if (address?.kind === 'address') this.#connect(address);
  }

  #connect(address: AddressObject): void {
    const route = connectedRoute(address);
    if (route === undefined) return;
    const key = objectKey(route);
    const links = this.#connected.get(key) ?? new Map<string, RouteObject>();
    if (this.get(objectKey(address)) === undefined) links.delete(route.link);
    else links.set(route.link, route);
    if (links.size === 0) this.#connected.delete(key);
    else this.#connected.set(key, links);
  }

  get(key: ObjectKey): KernelObject | undefined {
    return this.#wanted.get(key)?.values().next().value;
  }

  /**
   * Whether a change that the kernel notifies of fits no record.
   * @param pruned whether an object with weft's mark that no record wants counts as a misfit
   */
  concerns(
    { gone, objects, linksGone }: Extract<KernelEvent, { kind: 'changed' }>,
    ignored: (key: ObjectKey) => boolean,
    pruned: boolean,
  ): boolean {
    const missed = (key: ObjectKey): boolean => this.get(key) !== undefined && !ignored(key);
    for (const key of gone) {
      if (missed(key) || (this.#connected.has(key) && !ignored(key))) return true;
    }
    for (const [key, { object, owned }] of objects) {
      const wanted = this.get(key);
      const route = object.kind === 'route' ? this.#connected.get(key)?.get(object.link) : undefined;
      const fits = route !== undefined && sameObject(object, route);
      const wrong = wanted === undefined ? owned && pruned && !fits : !sameObject(object, wanted);
      if (wrong && !ignored(key)) return true;
    }
    return [...linksGone].some((name) => missed(linkKey(name)));
  }

  *all(): Iterable<KernelObject> {
    for (const wanted of this.#wanted.values()) {
      for (const object of wanted.values()) {
        yield object;
        break;
      }
    }
  }

  sysctls(): string[] {
    return sysctlPaths(this.all());
  }

  /** Whether any record wants a container's link with this MAC address. */
  wantsPeer(mac: string): boolean {
    for (const object of this.all())
      if (object.kind === 'link' && object.type === 'veth' && object.peer.mac === mac) return true;
    return false;
  }

  recordsOf(network: string): RecordKey[] {
    return [...this.#records.keys()].filter((record) => 'network' in record && record.network === network);
  }
}
