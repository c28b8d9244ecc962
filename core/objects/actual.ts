// What a namespace has, as the kernel tells it.
import type { ObjectKey } from './kind.js';
import type { KernelObject } from './registry.js';

/** One thing that the kernel has: the object as far as weft describes it, and whose it is. */
export interface ActualObject {
  object: KernelObject;
  /** Whether it carries weft's mark; what does not is never changed nor deleted. */
  owned: boolean;
}

/** What a namespace has, by objectKey. */
export interface Actual {
  objects: ReadonlyMap<ObjectKey, ActualObject>;
  /** Names of links that weft did not make, of whatever type. */
  unownedLinks: ReadonlySet<string>;
  /** Names of links that are up. A described link that is not in here is down. */
  up: ReadonlySet<string>;
  /** Keys of addresses whose connected route, which the kernel makes with them, somebody has taken away. */
  unconnected?: ReadonlySet<ObjectKey>;
}
