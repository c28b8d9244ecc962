// Set elements of published ports, containers' ports and other nodes: one more costs its own elements alone.
import { addressBits, IpAddress, type IpNetwork } from '../../../core/address.js';
import type {
  ContainerPort,
  Firewall,
  FirewallItem,
  FirewallMember,
  FirewallPort,
  Vni,
} from '../../../core/firewall.js';
import { POLICY_ITEM_SETS, policyElements } from './policy-rules.js';
import type { ElementChange, Ruleset, TableName } from './rules.js';

export interface Element {
  table: TableName;
  set: string;
  element: string;
}

/** Sets whose elements begin with a container's port, which one item has. */
const CONTAINER_SETS: readonly string[] = [
  ...['containers', 'bound', 'macs', 'lan', 'any6', 'targets', 'allowed_targets'],
  ...['source4', 'source6', 'allowed4', 'allowed6'],
];

/** Sets whose elements come only from items. */
export const ITEM_SETS: ReadonlySet<string> = new Set([
  ...POLICY_ITEM_SETS,
  ...CONTAINER_SETS,
  'fou_peers',
  ...[4, 6].flatMap((family) =>
    ['itself', 'gateway', 'port', 'addr', 'nodes', 'vteps', 'plain'].map((name) => `${name}${family}`),
  ),
]);

/** No other item has an element of them: whether one is needed yet is not asked of all items. */
const OF_ONE_ITEM: ReadonlySet<string> = new Set([...POLICY_ITEM_SETS, ...CONTAINER_SETS]);

/** Every element of an item, in all tables. */
export function elementsOf(item: FirewallItem): Element[] {
  if ('policy' in item) return policyElements(item);
  if ('hostPort' in item) return portElements(item).map((one) => ({ table: 'inet weft', ...one }));
  if ('link' in item) return containerElements(item).map((one) => ({ table: 'bridge weft', ...one }));
  return memberElements(item).map((one) => ({ table: 'inet weft', ...one }));
}

type SetElement = Omit<Element, 'table'>;

/** The elements of a published port: one in a map, and one in a set where its clients need the gateway's address. */
function portElements(port: FirewallPort): SetElement[] {
  const { hostIp, hostPort, protocol, ip } = port;
  const family = familyOf(ip);
  const key = `${protocol} . ${hostPort} : ${ip} . ${port.port}`;
  const elements = [
    hostIp === undefined
      ? { set: `port${family}`, element: key }
      : { set: `addr${family}`, element: `${hostIp} . ${key}` },
  ];
  if (port.clients === 'gateway') elements.push({ set: `gateway${family}`, element: ip });
  if (port.clients === 'itself') elements.push({ set: `itself${family}`, element: `${ip} . ${ip}` });
  return elements;
}

function containerElements({ link, bounds }: ContainerPort): SetElement[] {
  const port = `"${link}"`;
  if (bounds === undefined) return [{ set: 'containers', element: port }];
  const { mac, ips, allowed, anyIp6 = false, lan = false } = bounds;
  return [
    ...['containers', 'bound', ...(anyIp6 ? ['any6'] : []), ...(lan ? ['lan'] : [])].map((set) => ({
      set,
      element: port,
    })),
    { set: 'macs', element: `${port} . ${mac}` },
    ...ips.flatMap((ip) => [
      { set: `source${familyOf(ip)}`, element: `${port} . ${mac} . ${ip}` },
      ...(familyOf(ip) === 4 ? [] : [{ set: 'targets', element: `${port} . ${bytes(IpAddress.parse(ip))}` }]),
    ]),
    ...allowed.flatMap((prefix) => [
      { set: `allowed${prefix.family}`, element: `${port} . ${prefix.toString()}` },
      ...(prefix.family === 4 ? [] : [{ set: 'allowed_targets', element: `${port} . ${range(prefix)}` }]),
    ]),
  ];
}

function memberElements({ addresses, vnis, plain, fou = [] }: FirewallMember): SetElement[] {
  return [
    ...addresses.flatMap((ip) => [
      { set: `nodes${familyOf(ip)}`, element: ip },
      ...vnis.map((one) => ({ set: `vteps${familyOf(ip)}`, element: `${vniElement(one)} . ${ip}` })),
      // In an interval set nft shows the length of an address, too.
      ...(familyOf(ip) === 4 ? fou : []).map((prefix) => ({
        set: 'fou_peers',
        element: `${range(prefix)} . ${ip}/32`,
      })),
    ]),
    ...plain.map(({ from, to }) => ({
      set: `plain${from.family}`,
      element: `${from.toString()} . ${to.toString()}`,
    })),
  ];
}

/** Port and VNI of a VXLAN network. RFC 7348 §5: the VNI is in the three bytes after the first four of the header. */
export const VNI_BYTES = 'udp dport . @th,96,24';
export const vniElement = ({ port, vni }: Vni): string => `${port} . 0x${vni.toString(16)}`;

/** An address as nft writes raw bytes of a packet. */
export const bytes = (ip: IpAddress): string => `0x${ip.value.toString(16)}`;

/** A prefix as nft writes raw bytes of a packet. */
export const range = (prefix: IpNetwork): string =>
  prefix.length === addressBits(prefix.family)
    ? bytes(prefix.base)
    : `${bytes(prefix.base)}-${bytes(prefix.last)}`;

const familyOf = (ip: string): 4 | 6 => (ip.includes(':') ? 6 : 4);

/** The set changes of one table for the elements of these items; an element that another item needs stays. */
export function elementChanges(
  desired: Firewall,
  added: readonly Element[],
  removed: readonly Element[],
  { name, ruleset }: { name: TableName; ruleset: Ruleset | undefined },
): ElementChange[] {
  const bySet = new Map<string, ElementChange>();
  const changeOf = (set: string): ElementChange => {
    const change = bySet.get(set) ?? { set, add: [], remove: [] };
    bySet.set(set, change);
    return change;
  };
  const ofTable = (elements: readonly Element[]): Element[] => elements.filter(({ table }) => table === name);
  const has = (set: string, element: string): boolean =>
    ruleset?.sets.get(set)?.elements.has(element) === true;
  const fresh = ofTable(added);
  const stays = new Set(fresh.map(keyOf));
  const gone = ofTable(removed).filter((one) => has(one.set, one.element) && !stays.has(keyOf(one)));
  // Elements of maps belong to one port each.
  const mayBeShared = gone.some(({ set, element }) => !element.includes(' : ') && !OF_ONE_ITEM.has(set));
  const needed = new Set(mayBeShared ? ofTable([...itemsOf(desired)].flatMap(elementsOf)).map(keyOf) : []);
  for (const one of gone) if (!needed.has(keyOf(one))) changeOf(one.set).remove.push(one.element);
  for (const { set, element } of fresh) if (!has(set, element)) changeOf(set).add.push(element);
  for (const change of bySet.values()) {
    change.add = [...new Set(change.add)];
    change.remove = [...new Set(change.remove)];
  }
  return [...bySet.values()].filter(({ add, remove }) => add.length + remove.length > 0);
}

const keyOf = ({ set, element }: Element): string => `${set} ${element}`;

/** Policies are left out: no other item has an element of theirs. */
function* itemsOf({ ports, containers, members }: Firewall): Iterable<FirewallItem> {
  for (const items of [ports, containers, members]) if (items !== undefined) yield* items.values();
}
