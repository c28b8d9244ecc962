// Events: what happened, for people who ask what changed when.
//
// An event names its object as KIND/NAME. Of endpoints the name is NAME.NETWORK: a network's name has no dots.
import { invalidArgument } from './errors.js';

export type EventType = 'normal' | 'warning';

/** Reasons, each with its type. */
export const REASONS = {
  // Nodes and networks.
  created: 'normal',
  changed: 'normal',
  removed: 'normal',
  joined: 'normal',
  left: 'normal',
  up: 'normal',
  down: 'warning',
  // Containers.
  attached: 'normal',
  detached: 'normal',
  vanished: 'normal',
  // What `weft status` lists, and what weft did about it.
  problem: 'warning',
  solved: 'normal',
  conflict: 'warning',
  'conflict-over': 'normal',
  'path-broken': 'warning',
  'path-healed': 'normal',
  repaired: 'warning',
  // Other daemons.
  'etcd-away': 'warning',
  'etcd-back': 'normal',
  'controller-away': 'warning',
  'controller-back': 'normal',
} as const satisfies Record<string, EventType>;

export type EventReason = keyof typeof REASONS;

export const EVENT_TYPES: readonly EventType[] = ['normal', 'warning'];

export const EVENT_KINDS = [
  'network',
  'node',
  'endpoint',
  'attachment',
  'container',
  'path',
  'underlay',
  'firewall',
  'dns',
  'plugin',
  'etcd',
  'controller',
] as const;
export type EventKind = (typeof EVENT_KINDS)[number];

export const eventObject = (kind: EventKind, name: string): string => `${kind}/${name}`;

export const endpointObject = ({ name, network }: { name: string; network: string }): string =>
  eventObject('endpoint', `${name}.${network}`);

/** The parts of `--for`. @throws WeftError INVALID_ARGUMENT */
export function parseEventObject(text: string, field: string): { kind: EventKind; name: string } {
  const at = text.indexOf('/');
  const kind = EVENT_KINDS.find((one) => one === text.slice(0, Math.max(0, at)));
  const name = text.slice(at + 1);
  if (kind === undefined || name === '')
    throw invalidArgument(
      `${field}: "${text}" is not KIND/NAME`,
      `Give KIND/NAME, such as node/h1 or endpoint/web.blue; kinds are ${EVENT_KINDS.join(', ')}.`,
    );
  return { kind, name };
}

/** Whether an event is about an object: a node has all events of its own, a network those of its endpoints. */
export function isAbout(
  { node, object }: { node: string; object: string },
  { kind, name }: { kind: EventKind; name: string },
): boolean {
  if (object === eventObject(kind, name)) return true;
  if (kind === 'node') return node === name || object === eventObject('path', name);
  if (kind === 'network') return object.startsWith('endpoint/') && object.endsWith(`.${name}`);
  // Its name without its network.
  return (
    kind === 'endpoint' &&
    object.startsWith(`endpoint/${name}.`) &&
    !object.slice(`endpoint/${name}.`.length).includes('.')
  );
}
