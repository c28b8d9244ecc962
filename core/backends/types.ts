// The backend types, with their network fields and lease data.
//
// A new backend begins with an entry here; the registry (index.ts) does not compile until it has the same entry. In a file of
// its own because networks and leases are made of these types, and backends of networks and leases.
import type { Family } from '../address.js';

/** `config`: fields of the network. `data`: what peers must know of a node, for each family; never: nothing. */
export interface BackendTypes {
  vxlan: { config: VxlanConfig; data: Vtep };
  'host-gw': { config: object; data: never };
}

export type BackendType = keyof BackendTypes;

/** The data that a lease publishes of its node, in its backend's form. */
export type LeaseData<T extends BackendType = BackendType> = {
  [K in T]: { type: K } & { [F in Family]?: BackendTypes[K]['data'] };
}[T];

/** All options of backends; each backend declares which of them it accepts. */
export interface BackendSpec {
  /** Absent: the default. */
  backend?: BackendType;
  vni?: number;
  port?: number;
}

interface VxlanConfig {
  vni: number;
  /** UDP port of the tunnel. */
  port: number;
}

interface Vtep {
  vni: number;
  mac: string;
}
