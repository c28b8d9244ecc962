// Managers: the programs that attach containers, and their endpoint keys.
//
// Etcd, the state directory, services and plugins all use these types.

/** weft's own commands, or another program through a plugin. */
export const MANAGERS = ['weft', 'docker', 'cni', 'netavark'] as const;
export type Manager = (typeof MANAGERS)[number];

/** An endpoint under its manager's own key. A value, never text that is split again. */
export type ForeignKey =
  /** Docker's ids of network and endpoint. */
  | { manager: 'docker'; network: string; endpoint: string }
  /** CNI: an attachment is a network's name, CNI_CONTAINERID and CNI_IFNAME. netavark knows the same three. */
  | { manager: 'cni' | 'netavark'; network: string; containerId: string; ifname: string };
