// Actual state of a namespace, as the kernel reports it.
import type { ObjectKey } from './kind.js';
import type { KernelObject } from './registry.js';

/** An existing object, as far as weft describes it, and its ownership. */
export interface ActualObject {
  object: KernelObject;
  /** Whether it carries weft's mark; objects without it are never changed or deleted. */
  owned: boolean;
}

/** All objects of a namespace, by objectKey. */
export interface Actual {
  objects: ReadonlyMap<ObjectKey, ActualObject>;
  /** Names of links that weft did not make, of whatever type. */
  unownedLinks: ReadonlySet<string>;
  /** Names of links that are up. A described link that is absent here is down. */
  up: ReadonlySet<string>;
  /** Keys of addresses whose connected route, which the kernel creates with them, was deleted. */
  unconnected?: ReadonlySet<ObjectKey>;
}
