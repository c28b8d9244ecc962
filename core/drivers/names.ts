// The drivers by name, without what they do: the commands need no more, and start faster.
import type { Network } from '../network.js';

export type DriverName = Network['driver'];

const NAMES: Record<DriverName, true> = { overlay: true, bridge: true, vlan: true };

export const DRIVER_NAMES = Object.keys(NAMES) as DriverName[];
export const DEFAULT_DRIVER: DriverName = 'overlay';

export const isDriver = (text: string): text is DriverName => Object.hasOwn(NAMES, text);
