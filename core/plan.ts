// Compares what a namespace has with what it should have, and says what to do, in an order in which no packet goes astray:
// what leads traffic somewhere (routes) comes last when it is made and first when it goes.
import {
  connectedRoute,
  objectKey,
  type Actual,
  type ActualObject,
  type KernelObject,
  type LinkObject,
  type SysctlObject,
  type RouteObject,
} from './objects.js';

export type Step =
  /** Fails where the name is taken. Leaves the link up, with its master and alias. */
  | { do: 'create-link'; link: LinkObject }
  /** Sets alias, MAC, MTU, master and tunnel source of a link that is there, and brings it up. */
  | { do: 'change-link'; link: LinkObject }
  | { do: 'delete-link'; name: string }
  /** Without `replace` an object of somebody else under the same key is an error (EEXIST). */
  | { do: 'put'; object: Exclude<KernelObject, LinkObject>; replace: boolean }
  /** What is gone already is no error. */
  | { do: 'delete'; object: Exclude<KernelObject, LinkObject | SysctlObject> };

/** Something that weft needs and somebody else has taken. */
export interface Conflict {
  object: KernelObject;
  why: string;
}

export interface Plan {
  steps: Step[];
  conflicts: Conflict[];
}

/** When it is made; when it goes, the other way round. */
const ORDER = {
  bridge: 0,
  vxlan: 1,
  // The host itself is on the VLAN of its own traffic before the NIC, with its addresses, comes to the bridge.
  vlan: 2,
  port: 3,
  veth: 5,
  peer: 6,
  loopback: 6,
  sysctl: 7,
  address: 8,
  proxy: 9,
  fdb: 10,
  // The neighbour entry after the FDB entry that its MAC address leads to: a peer that was replaced is switched in one go.
  neighbour: 11,
  // Last: the kernel would ask for a gateway that has no neighbour entry yet.
  route: 12,
} as const;

/** A VLAN of a port, after it became one. */
const PORT_VLAN = 4;

function orderOf(object: KernelObject): number {
  if (object.kind === 'vlan' && object.link !== object.bridge) return PORT_VLAN;
  return object.kind === 'link' ? ORDER[object.type] : ORDER[object.kind];
}

/** The link that an object lies on, and goes with; a link's own settings are net/ipv4/conf/LINK/… */
function linkOf(object: KernelObject): string | undefined {
  if (object.kind === 'sysctl') return object.path.split('/')[3];
  return 'link' in object ? object.link : undefined;
}

/** The bridge without which the object is not there, although it lies on another link. */
function bridgeOf(object: KernelObject): string | undefined {
  if (object.kind === 'port') return object.master;
  return object.kind === 'vlan' ? object.bridge : undefined;
}

/** Addresses that cannot come: no route may name them as its source (EINVAL). */
function sourcesOn(blocked: ReadonlySet<string>, wanted: Iterable<KernelObject>): Set<string> {
  if (blocked.size === 0) return new Set();
  return new Set(
    [...wanted].flatMap((object) =>
      object.kind === 'address' && blocked.has(object.link) ? [object.address.split('/')[0] ?? ''] : [],
    ),
  );
}

/**
 * The steps from `actual` to `desired`. What carries weft's mark and is not desired goes, unless `prune` is false, as it
 * must be until the first full list of records has arrived.
 */
export function plan(actual: Actual, desired: Iterable<KernelObject>, options: { prune: boolean }): Plan {
  const wanted = new Map<string, KernelObject>();
  for (const object of desired) wanted.set(objectKey(object), object);
  const conflicts: Conflict[] = [];
  const makes: { order: number; steps: Step[] }[] = [];
  const goneLinks = new Set<string>();
  /** Links that are somebody else's: nothing of weft's is put on them. */
  const blocked = new Set<string>();
  /** Links whose MAC address changes: the kernel forgets their neighbours, permanent ones too (neigh_changeaddr). */
  const flushed = new Set<string>();

  // Links first: one that must be made anew takes everything on it along, and a new bridge must be given its ports again.
  const links = [...wanted.values()].filter((object) => object.kind === 'link');
  for (const link of links.sort((a, b) => orderOf(a) - orderOf(b))) {
    const current = actual.objects.get(objectKey(link));
    const { steps, remade, conflict } = blocked.has(masterOf(link) ?? '')
      ? { steps: [], remade: false, conflict: `its bridge ${masterOf(link)} is not weft's` }
      : planLink(link, current, actual, goneLinks);
    if (conflict !== undefined) {
      conflicts.push({ object: link, why: conflict });
      blocked.add(link.name);
    }
    if (current !== undefined && steps.length > 0 && changesMac(current.object, link)) flushed.add(link.name);
    if (remade) goneLinks.add(link.name);
    if (steps.length > 0) makes.push({ order: orderOf(link), steps });
  }
  const away = sourcesOn(blocked, wanted.values());
  for (const [key, object] of wanted) {
    if (object.kind === 'link') continue;
    const link = linkOf(object);
    const found = actual.objects.get(key);
    const foundLink = found === undefined ? undefined : linkOf(found.object);
    const lost =
      foundLink !== undefined &&
      (goneLinks.has(foundLink) ||
        goneLinks.has(bridgeOf(found?.object ?? object) ?? '') ||
        (object.kind === 'neighbour' && flushed.has(foundLink)));
    const current = lost ? undefined : found;
    if (current !== undefined && sameObject(current.object, object)) {
      const route = reconnected(object, actual);
      if (route !== undefined && !connectedBy(wanted, route))
        makes.push({ order: ORDER.address, steps: [{ do: 'put', object: route, replace: false }] });
      continue;
    }
    if (current !== undefined && !current.owned && object.kind !== 'sysctl' && object.kind !== 'address') {
      conflicts.push({ object, why: whyTaken(current.object) });
      continue;
    }
    if (object.kind === 'route' && object.src !== undefined && away.has(object.src)) continue;
    if (blocked.has(link ?? '') || blocked.has(bridgeOf(object) ?? '')) continue;
    // What belongs to a bridge of weft's, and a route over the underlay, may lie on a link of others; nothing else does.
    const overUnderlay = object.kind === 'route' && object.underlay === true;
    const mayBeForeign = object.kind === 'sysctl' || overUnderlay || bridgeOf(object) !== undefined;
    if (link !== undefined && !mayBeForeign && actual.foreignLinks.has(link)) continue;
    makes.push({ order: orderOf(object), steps: [{ do: 'put', object, replace: current !== undefined }] });
  }
  makes.sort((a, b) => a.order - b.order);
  const steps = makes.flatMap((make) => make.steps);
  if (options.prune) steps.push(...pruning(actual, wanted, goneLinks));
  return { steps, conflicts };
}

function whyTaken(object: KernelObject): string {
  return object.kind === 'port'
    ? `${object.link} is a port of ${object.master}, and weft did not make it one`
    : 'it is there already, and weft did not make it';
}

/** What a link is a part of, and cannot be there without. */
function masterOf(link: LinkObject): string | undefined {
  if (link.type === 'veth') return link.master;
  return link.type === 'vlan' ? link.base : undefined;
}
/** The connected route of an address that lost it. What goes by way of it can be made only after it. */
function reconnected(object: KernelObject, actual: Actual): RouteObject | undefined {
  if (object.kind !== 'address' || actual.unconnected?.has(objectKey(object)) !== true) return undefined;
  // A link that comes up gets its connected routes again by itself.
  return actual.up.has(object.link) ? connectedRoute(object) : undefined;
}

const connectedBy = (wanted: ReadonlyMap<string, KernelObject>, route: RouteObject): boolean =>
  wanted.has(objectKey(route));

function planLink(
  link: LinkObject,
  current: ActualObject | undefined,
  actual: Actual,
  goneLinks: ReadonlySet<string>,
): { steps: Step[]; remade: boolean; conflict?: string } {
  if (actual.foreignLinks.has(link.name) && current === undefined) {
    return { steps: [], remade: false, conflict: 'a link of that name is there, and weft did not make it' };
  }
  if (current === undefined) return { steps: [{ do: 'create-link', link }], remade: true };
  if (link.type === 'loopback') {
    return { steps: actual.up.has('lo') ? [] : [{ do: 'change-link', link }], remade: false };
  }
  if (!current.owned) {
    return { steps: [], remade: false, conflict: 'a link of that name is there, and weft did not make it' };
  }
  if (link.type === 'vlan' && goneLinks.has(link.base))
    return { steps: [{ do: 'create-link', link }], remade: true };
  if (mustRemake(current.object, link)) {
    return {
      steps: [
        { do: 'delete-link', name: link.name },
        { do: 'create-link', link },
      ],
      remade: true,
    };
  }
  const lostMaster = link.type === 'veth' && goneLinks.has(link.master);
  const fine = !lostMaster && actual.up.has(link.name) && sameObject(current.object, link);
  return { steps: fine ? [] : [{ do: 'change-link', link }], remade: false };
}

/** What the kernel does not let one change on a link that is there. */
function mustRemake(current: KernelObject, wanted: LinkObject): boolean {
  if (current.kind !== 'link' || current.type !== wanted.type) return true;
  if (current.type === 'vxlan' && wanted.type === 'vxlan') {
    return (
      current.vni !== wanted.vni ||
      current.port !== wanted.port ||
      current.local.includes(':') !== wanted.local.includes(':')
    );
  }
  if (current.type === 'vlan' && wanted.type === 'vlan')
    return current.vlan !== wanted.vlan || current.base !== wanted.base;
  if (current.type === 'bridge' && wanted.type === 'bridge')
    return (current.vlans ?? false) !== (wanted.vlans ?? false);
  return false;
}

const changesMac = (current: KernelObject, wanted: LinkObject): boolean =>
  'mac' in current && 'mac' in wanted && current.mac !== wanted.mac;

/** Where one of the two does not say, a notification of the kernel's or a bridge that sees to it itself, nothing differs. */
const sameVlan = (a: number | undefined, b: number | undefined): boolean =>
  a === undefined || b === undefined || a === b;

function sameLink(a: LinkObject, b: LinkObject): boolean {
  if (a.type === 'loopback' || b.type === 'loopback') return a.type === b.type;
  if (a.mtu !== b.mtu) return false;
  if (a.type === 'peer' && b.type === 'peer') return a.mac === b.mac;
  if (a.type === 'veth' && b.type === 'veth')
    return (
      a.alias === b.alias &&
      a.master === b.master &&
      sameVlan(a.vlan, b.vlan) &&
      (a.hairpin ?? false) === (b.hairpin ?? false)
    );
  if (a.type === 'vlan' && b.type === 'vlan') return a.alias === b.alias;
  if (a.type === 'bridge' && b.type === 'bridge') return a.alias === b.alias && a.mac === b.mac;
  if (a.type === 'vxlan' && b.type === 'vxlan')
    return a.alias === b.alias && a.mac === b.mac && a.local === b.local;
  return false;
}

/** Whether two objects of the same key are the same. */
export function sameObject(a: KernelObject, b: KernelObject): boolean {
  if (a.kind === 'link' && b.kind === 'link') return a.name === b.name && !mustRemake(a, b) && sameLink(a, b);
  if (objectKey(a) !== objectKey(b)) return false;
  if (a.kind === 'route' && b.kind === 'route') {
    return (
      a.link === b.link && a.via === b.via && (a.onlink ?? false) === (b.onlink ?? false) && a.src === b.src
    );
  }
  if (a.kind === 'neighbour' && b.kind === 'neighbour') return a.mac === b.mac;
  if (a.kind === 'fdb' && b.kind === 'fdb') return a.dst === b.dst;
  if (a.kind === 'port' && b.kind === 'port') return a.master === b.master;
  if (a.kind === 'vlan' && b.kind === 'vlan')
    return a.bridge === b.bridge && (a.untagged ?? false) === (b.untagged ?? false);
  if (a.kind === 'sysctl' && b.kind === 'sysctl') return a.value === b.value;
  return true;
}

/** What is weft's and not wanted, the other way round; what lies on a link that goes, goes with it. */
function pruning(
  actual: Actual,
  wanted: ReadonlyMap<string, KernelObject>,
  remade: ReadonlySet<string>,
): Step[] {
  const going: KernelObject[] = [];
  const links = new Set<string>(remade);
  const connected = new Map<string, RouteObject>();
  // Several links may have the same: fe80::/64.
  const byLink = ({ to, link }: RouteObject): string => `${to} ${link}`;
  for (const object of wanted.values()) {
    const route = object.kind === 'address' ? connectedRoute(object) : undefined;
    if (route !== undefined) connected.set(byLink(route), route);
  }
  for (const [key, { object, owned }] of actual.objects) {
    // A connected route that was put back by weft is as good as the kernel's own.
    const route = object.kind === 'route' ? connected.get(byLink(object)) : undefined;
    if (!owned || wanted.has(key) || (route !== undefined && sameObject(object, route))) continue;
    going.push(object);
    if (object.kind === 'link') links.add(object.name);
  }
  return (
    going
      // A port is released before its bridge goes: it has the host's addresses to give back.
      .filter(
        (object) => object.kind === 'link' || object.kind === 'port' || !links.has(linkOf(object) ?? ''),
      )
      .filter((object) => object.kind !== 'vlan' || !links.has(object.bridge))
      .sort((a, b) => orderOf(b) - orderOf(a))
      .flatMap((object): Step[] => {
        if (object.kind === 'sysctl') return [];
        if (object.kind === 'link') return [{ do: 'delete-link', name: object.name }];
        return [{ do: 'delete', object }];
      })
  );
}

/** What a namespace would have if exactly these objects were there and weft's. */
export function assume(objects: Iterable<KernelObject>): Actual {
  const map = new Map<string, ActualObject>();
  const up = new Set<string>();
  for (const object of objects) {
    map.set(objectKey(object), { object, owned: true });
    if (object.kind === 'link') up.add(object.name);
  }
  return { objects: map, foreignLinks: new Set(), up };
}

export function describeStep(step: Step): { verb: 'create' | 'change' | 'delete'; what: string } {
  switch (step.do) {
    case 'create-link':
      return { verb: 'create', what: `${step.link.type} ${step.link.name}` };
    case 'change-link':
      return { verb: 'change', what: `${step.link.type} ${step.link.name}` };
    case 'delete-link':
      return { verb: 'delete', what: `link ${step.name}` };
    case 'put':
      return { verb: step.replace ? 'change' : 'create', what: objectKey(step.object) };
    case 'delete':
      return { verb: 'delete', what: objectKey(step.object) };
  }
}
