// Plans the steps from a namespace's actual to its desired objects.
//
// Steps are ordered so that no packet is misdirected: routes come last on creation and first on deletion.
import {
  connectedRoute,
  describeObject,
  isRemovable,
  itemKindOf,
  kindOf,
  linkKey,
  linkKindOf,
  mustRemake,
  objectKey,
  PHASE,
  sameObject,
  type Actual,
  type ActualObject,
  type ItemKind,
  type ItemObject,
  type KernelObject,
  type LinkObject,
  type ObjectKey,
  type RemovableItem,
  type RouteObject,
} from './objects/index.js';

export type Step =
  /** Fails where the name exists. Leaves the link up, with its master and alias. */
  | { do: 'create-link'; link: LinkObject }
  /** Sets alias, MAC, MTU, master and tunnel source of an existing link, and brings it up. */
  | { do: 'change-link'; link: LinkObject }
  | { do: 'delete-link'; name: string }
  /** Without `replace` an unowned object of the same key is an error (EEXIST). */
  | { do: 'put'; object: ItemObject; replace: boolean }
  /** An absent object is no error. */
  | { do: 'delete'; object: RemovableItem };

/** A conflict: an unowned object under a key that weft needs. */
export interface Conflict {
  object: KernelObject;
  why: string;
  /** The next step, where there is more to say than to remove the other one. */
  fix?: string;
}

export interface Plan {
  steps: Step[];
  conflicts: Conflict[];
}

type Wanted = ReadonlyMap<ObjectKey, KernelObject>;

/** Creating steps with their phase, by which all are sorted. */
interface Make {
  order: number;
  steps: Step[];
}

/** What happens to links, for the objects that lie on them. */
interface Links {
  /** Links that are created or recreated: whatever was on them is absent. */
  remade: Set<string>;
  /** Unowned links: nothing of weft's is put on them. */
  blocked: Set<string>;
  /** Links whose MAC address changes. */
  readdressed: Set<string>;
}

const has = (names: ReadonlySet<string>, name: string | undefined): boolean =>
  name !== undefined && names.has(name);

/**
 * The steps from `actual` to `desired`. Objects with weft's mark that are not desired are deleted, unless `prune` is false, as it
 * must be until the first full list of records has arrived.
 */
export function plan(actual: Actual, desired: Iterable<KernelObject>, options: { prune: boolean }): Plan {
  const wanted = new Map<ObjectKey, KernelObject>();
  for (const object of desired) wanted.set(objectKey(object), object);
  const makes: Make[] = [];
  const conflicts: Conflict[] = [];
  // Links first: recreating one deletes everything on it, and a recreated bridge must get its ports again.
  const links = planLinks(actual, wanted, makes, conflicts);
  planItems(actual, wanted, links, makes, conflicts);
  makes.sort((a, b) => a.order - b.order);
  const steps = makes.flatMap((make) => make.steps);
  if (options.prune) steps.push(...pruning(actual, wanted, links.remade));
  return { steps, conflicts };
}

function planLinks(actual: Actual, wanted: Wanted, makes: Make[], conflicts: Conflict[]): Links {
  const result: Links = { remade: new Set(), blocked: new Set(), readdressed: new Set() };
  const ordered = [...wanted.values()]
    .filter((object) => object.kind === 'link')
    .map((link) => ({ link, order: linkKindOf(link).order(link) }))
    .sort((a, b) => a.order - b.order);
  for (const { link, order } of ordered) {
    const current = actual.objects.get(objectKey(link));
    const { steps, remade, conflict } = planLink(link, current, actual, result);
    if (conflict !== undefined) {
      conflicts.push({ object: link, ...conflict });
      result.blocked.add(link.name);
    }
    if (current !== undefined && steps.length > 0 && changesMac(current.object, link))
      result.readdressed.add(link.name);
    if (remade) result.remade.add(link.name);
    if (steps.length > 0) makes.push({ order, steps });
  }
  return result;
}

interface LinkPlan {
  steps: Step[];
  remade: boolean;
  conflict?: Omit<Conflict, 'object'>;
}

const inTheWay = (why: string, fix?: string): LinkPlan => ({
  steps: [],
  remade: false,
  conflict: { why, ...(fix !== undefined && { fix }) },
});
const LINK_TAKEN = 'a link of that name exists, and weft did not make it';

function planLink(
  link: LinkObject,
  current: ActualObject | undefined,
  actual: Actual,
  { remade, blocked }: Links,
): LinkPlan {
  const kind = linkKindOf(link);
  const base = kind.link?.(link);
  const bridge = kind.bridge?.(link);
  const foundation = base ?? bridge;
  if (has(blocked, foundation)) return inTheWay(`its bridge ${foundation} is not weft's`);
  if (current === undefined) {
    if (actual.unownedLinks.has(link.name)) return inTheWay(LINK_TAKEN);
    const other = excluding(link, actual);
    if (other !== undefined) {
      return inTheWay(
        `link ${other.name}, which weft did not make, ${other.why}`,
        `If nothing uses it any more (a flanneld that was stopped leaves its link), delete it: ip link delete ${other.name}. Else ${other.otherwise}. weft takes the place within 10 seconds.`,
      );
    }
    return { steps: [{ do: 'create-link', link }], remade: true };
  }
  const change: Step[] = [{ do: 'change-link', link }];
  if (kind.builtin === true) return { steps: actual.up.has(link.name) ? [] : change, remade: false };
  if (!current.owned) return inTheWay(LINK_TAKEN);
  // It was deleted with its link.
  if (has(remade, base)) return { steps: [{ do: 'create-link', link }], remade: true };
  if (current.object.kind !== 'link' || mustRemake(current.object, link)) {
    return {
      steps: [
        { do: 'delete-link', name: link.name },
        { do: 'create-link', link },
      ],
      remade: true,
    };
  }
  const fine = !has(remade, bridge) && actual.up.has(link.name) && sameObject(current.object, link);
  return { steps: fine ? [] : change, remade: false };
}

/** The unowned link that keeps the kernel from making this one. One of weft's under another name is deleted by this plan. */
function excluding(
  link: LinkObject,
  actual: Actual,
): { name: string; why: string; otherwise: string } | undefined {
  const kind = linkKindOf(link);
  for (const { object, owned } of actual.objects.values()) {
    if (owned || object.kind !== 'link' || object.type !== link.type) continue;
    const why = kind.excludedBy?.(link, object);
    if (why !== undefined) return { name: object.name, ...why };
  }
  return undefined;
}

const changesMac = (current: KernelObject, wanted: LinkObject): boolean =>
  'mac' in current && 'mac' in wanted && current.mac !== wanted.mac;

function planItems(actual: Actual, wanted: Wanted, links: Links, makes: Make[], conflicts: Conflict[]): void {
  const { blocked } = links;
  const unreachable = sourcesOn(blocked, wanted.values());
  for (const [key, object] of wanted) {
    if (object.kind === 'link') continue;
    const kind = itemKindOf(object);
    const link = kind.link?.(object);
    // What lies on a link that cannot be made follows from it, and is no conflict of its own.
    if (has(blocked, link) || has(blocked, kind.bridge?.(object))) continue;
    const found = actual.objects.get(key);
    const current = found === undefined || isLost(found.object, kind, links) ? undefined : found;
    if (current !== undefined && sameObject(current.object, object)) {
      const route = reconnected(object, actual);
      if (route !== undefined && !wanted.has(objectKey(route)))
        makes.push({ order: PHASE.address, steps: [{ do: 'put', object: route, replace: false }] });
      continue;
    }
    if (current !== undefined && !current.owned && kind.adopts !== true) {
      conflicts.push({ object, why: whyTaken(current.object) });
      continue;
    }
    // A rule between two kinds: a route whose source is no address of the node is refused (EINVAL).
    if (object.kind === 'route' && has(unreachable, object.src)) continue;
    if (kind.onAnyLink?.(object) !== true && has(actual.unownedLinks, link)) continue;
    makes.push({
      order: kind.order(object),
      steps: [{ do: 'put', object, replace: current !== undefined }],
    });
  }
}

function whyTaken(object: KernelObject): string {
  const own = object.kind === 'link' ? undefined : itemKindOf(object).whyTaken?.(object);
  return own ?? 'it exists already, and weft did not make it';
}

/** Whether it is deleted with its link or bridge before anything else is created. */
function isLost(found: KernelObject, kind: ItemKind<ItemObject>, { remade, readdressed }: Links): boolean {
  if (found.kind === 'link') return false;
  const link = kind.link?.(found);
  return (
    has(remade, link) ||
    (kind.lostWithMac === true && has(readdressed, link)) ||
    has(remade, kind.bridge?.(found))
  );
}

/** Addresses that cannot be added, as sources of routes. */
function sourcesOn(blocked: ReadonlySet<string>, wanted: Iterable<KernelObject>): Set<string> {
  if (blocked.size === 0) return new Set();
  return new Set(
    [...wanted].flatMap((object) =>
      object.kind === 'address' && blocked.has(object.link) ? [object.address.split('/')[0] ?? ''] : [],
    ),
  );
}

/** Restores the connected route of an address that lost it. Routes through it can only be created afterwards. */
function reconnected(object: KernelObject, actual: Actual): RouteObject | undefined {
  if (object.kind !== 'address' || actual.unconnected?.has(objectKey(object)) !== true) return undefined;
  // A link that is brought up gets its connected routes from the kernel.
  return actual.up.has(object.link) ? connectedRoute(object) : undefined;
}

/** Deletes weft's undesired objects, in reverse order; what lies on a deleted link is deleted with it. */
function pruning(actual: Actual, wanted: Wanted, remade: ReadonlySet<string>): Step[] {
  const going: KernelObject[] = [];
  const goneLinks = new Set<string>(remade);
  const connected = connectedRoutes(wanted);
  for (const [key, { object, owned }] of actual.objects) {
    if (!owned || wanted.has(key)) continue;
    // A connected route that weft restored counts as the kernel's own.
    const route = object.kind === 'route' ? connected.get(key)?.get(object.link) : undefined;
    if (route !== undefined && sameObject(object, route)) continue;
    going.push(object);
    if (object.kind === 'link') goneLinks.add(object.name);
  }
  return going
    .filter((object) => object.kind === 'link' || !goesAlong(object, goneLinks))
    .map((object) => ({ object, order: kindOf(object).order(object) }))
    .sort((a, b) => b.order - a.order)
    .flatMap(({ object }): Step[] => {
      if (object.kind === 'link') return [{ do: 'delete-link', name: object.name }];
      return isRemovable(object) ? [{ do: 'delete', object }] : [];
    });
}

function goesAlong(object: ItemObject, goneLinks: ReadonlySet<string>): boolean {
  const kind = itemKindOf(object);
  if (kind.released === true) return false;
  return has(goneLinks, kind.link?.(object)) || has(goneLinks, kind.bridge?.(object));
}

/** The routes that the kernel creates with desired addresses: by key and link, for links may share fe80::/64. */
function connectedRoutes(wanted: Wanted): Map<ObjectKey, Map<string, RouteObject>> {
  const routes = new Map<ObjectKey, Map<string, RouteObject>>();
  for (const object of wanted.values()) {
    const route = object.kind === 'address' ? connectedRoute(object) : undefined;
    if (route === undefined) continue;
    const key = objectKey(route);
    const byLink = routes.get(key);
    if (byLink === undefined) routes.set(key, new Map([[route.link, route]]));
    else byLink.set(route.link, route);
  }
  return routes;
}

/** The actual state of a namespace that has exactly these objects, all owned by weft. */
export function assume(objects: Iterable<KernelObject>): Actual {
  const map = new Map<ObjectKey, ActualObject>();
  const up = new Set<string>();
  for (const object of objects) {
    map.set(objectKey(object), { object, owned: true });
    if (object.kind === 'link') up.add(object.name);
  }
  return { objects: map, unownedLinks: new Set(), up };
}

export type Verb = 'create' | 'change' | 'delete';

export function verbOf(step: Step): Verb {
  switch (step.do) {
    case 'create-link':
      return 'create';
    case 'change-link':
      return 'change';
    case 'put':
      return step.replace ? 'change' : 'create';
    case 'delete-link':
    case 'delete':
      return 'delete';
  }
}

export function describeStep(step: Step): { verb: Verb; what: string } {
  return { verb: verbOf(step), what: subjectOf(step) };
}

function subjectOf(step: Step): string {
  switch (step.do) {
    case 'create-link':
    case 'change-link':
      return describeObject(step.link);
    case 'delete-link':
      return linkKey(step.name);
    case 'put':
    case 'delete':
      return objectKey(step.object);
  }
}
