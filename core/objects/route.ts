// Route of the main table.
import { asKey, PHASE, type ItemKind, type ObjectKey } from './kind.js';

export interface RouteObject {
  kind: 'route';
  /** 10.100.6.0/24; 0.0.0.0/0 and ::/0 are the default routes. */
  to: string;
  link: string;
  /** Absent: the destination is on-link. */
  via?: string;
  /** RTNH_F_ONLINK: the gateway counts as on-link although no address covers it. */
  onlink?: boolean;
  /** Preferred source address. */
  src?: string;
  /** Bytes; absent: the link's. */
  mtu?: number;
  /** Packets there are refused with an ICMP error (RTN_UNREACHABLE). It has no link. */
  unreachable?: true;
  /** The link is an unowned one that carries the underlay; every other link must be weft's. Not compared. */
  underlay?: boolean;
}

export const routeKey = (to: string): ObjectKey => asKey(`route ${to}`);

/** The keys of the default routes. */
export const DEFAULT_ROUTE = { 4: routeKey('0.0.0.0/0'), 6: routeKey('::/0') } as const;

export const route: ItemKind<RouteObject> = {
  key: ({ to }) => routeKey(to),
  describe: ({ to, via, link, unreachable }) =>
    unreachable === true
      ? `unreachable route ${to}`
      : `route ${to}${via === undefined ? '' : ` via ${via}`} dev ${link}`,
  order: () => PHASE.route,
  same: (a, b) =>
    a.link === b.link &&
    a.via === b.via &&
    a.unreachable === b.unreachable &&
    (a.onlink ?? false) === (b.onlink ?? false) &&
    a.src === b.src &&
    a.mtu === b.mtu,
  link: ({ link, unreachable }) => (unreachable === true ? undefined : link),
  onAnyLink: ({ underlay }) => underlay === true,
  // A route carries a mark of its own, and is deleted whatever link it uses.
  guards: ({ link, underlay }, step) => (step === 'delete' || underlay === true || link === '' ? [] : [link]),
};
