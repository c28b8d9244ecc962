// What in a container keeps it from its network, of what weft did not make there: routes, addresses, ports without a process.
import { IpAddress, IpNetwork, parseInterface } from '../../core/address.js';
import { gatewayFor, type Membership } from '../../core/compile.js';
import { FAMILIES } from '../../core/families.js';
import { prefixesOf, type Network } from '../../core/network.js';
import type { Actual, KernelObject } from '../../core/objects/index.js';
import { addressesOf, type Endpoint, type PublishedPort } from '../../core/records.js';
import type { Problem } from '../health/index.js';
import type { Listener } from '../kernel/index.js';

/** Ports that one problem names. */
const MOST_PORTS = 5;

export const containerText = ({ target, name, network }: Endpoint): string =>
  `container ${target} (endpoint ${name} of network ${network})`;

const objectsIn = <K extends KernelObject['kind']>(
  actual: Actual,
  kind: K,
): Extract<KernelObject, { kind: K }>[] =>
  [...actual.objects.values()].flatMap(({ object, owned }) =>
    object.kind === kind && !owned ? [object as Extract<KernelObject, { kind: K }>] : [],
  );

/** Routes that take packets for the network elsewhere, by destination. */
export function routeFaults(
  actual: Actual,
  endpoint: Endpoint,
  membership: Membership,
): Map<string, Problem> {
  const found = new Map<string, Problem>();
  const prefixes = prefixesOf(membership.network);
  const gateways = FAMILIES.map((family) => gatewayFor(membership, endpoint, family)?.toString());
  for (const { to, via, link } of objectsIn(actual, 'route')) {
    const destination = IpNetwork.parse(to);
    if (destination.length === 0 || !prefixes.some((prefix) => prefix.overlaps(destination))) continue;
    // On its own interface: to the neighbours, which the kernel makes with the address, and by the gateway, as Docker makes it.
    if (link === endpoint.ifname && (via === undefined || gateways.includes(via))) continue;
    // What is wider than the network loses to weft's own route.
    if (prefixes.some((prefix) => destination.length < prefix.length && destination.contains(prefix)))
      continue;
    const way = via === undefined ? '' : ` via ${via}`;
    const text =
      link === '' ? `the route to ${to} drops packets` : `the route to ${to}${way} leads to ${link}`;
    found.set(to, {
      what: containerText(endpoint),
      why: `${text}, and weft did not make it: packets for that part of the network do not get there`,
      fix: `Delete it in the container: ip route del ${link === '' ? `${to} (ip route show type blackhole)` : to}; and see what made it.`,
    });
  }
  return found;
}

/** Addresses of the network that its container has beside those of weft's, by address. @param ownerOf whose an address is */
export function addressFaults(
  actual: Actual,
  endpoint: Endpoint,
  network: Network,
  inSandbox: readonly Endpoint[],
  ownerOf: (ip: string) => string | undefined,
): Map<string, Problem> {
  const found = new Map<string, Problem>();
  const own = new Set(inSandbox.flatMap(addressesOf));
  const allowed = (endpoint.allowedAddresses ?? []).map((text) => IpNetwork.parse(text));
  const prefixes = prefixesOf(network);
  for (const { address: text, link } of objectsIn(actual, 'address')) {
    const { address } = parseInterface(text);
    const ip = address.toString();
    if (own.has(ip) || !prefixes.some((prefix) => prefix.contains(address))) continue;
    if (allowed.some((prefix) => prefix.contains(address))) continue;
    const owner = ownerOf(ip);
    // Without port security containers may have what addresses they like, but not those of others.
    if (owner === undefined && network.portSecurity === false) continue;
    found.set(ip, {
      what: containerText(endpoint),
      why: `it has the address ${ip} on ${link}, which weft did not give it${owner === undefined ? '' : `; it is of ${owner}`}`,
      fix: `Delete it in the container: ip addr del ${text} dev ${link}; or attach it with --ip, or allow it with weft endpoint update ${endpoint.id.slice(0, 12)} --allowed-address ${ip}.`,
    });
  }
  return found;
}

/** Published ports at which nobody takes connections. */
export function closedPorts(endpoint: Endpoint, listeners: readonly Listener[]): PublishedPort[] {
  const families = new Set(addressesOf(endpoint).map((ip) => IpAddress.parse(ip).family));
  return endpoint.publish.filter(
    ({ port, protocol }) =>
      !listeners.some(
        (one) =>
          one.protocol === protocol &&
          one.port === port &&
          one.reach !== 'loopback' &&
          // A socket of :: takes IPv4 as well.
          (one.family === 6 || families.has(4)),
      ),
  );
}

export function closedProblem(
  endpoint: Endpoint,
  ports: readonly PublishedPort[],
  listeners: readonly Listener[],
): Problem {
  const named = ports.slice(0, MOST_PORTS).map(({ port, protocol }) => `${port}/${protocol}`);
  const rest = ports.length - named.length;
  const list = [...named, ...(rest > 0 ? [`${rest} more`] : [])].join(', ');
  const onLoopback = ports.every(({ port, protocol }) =>
    listeners.some((one) => one.reach === 'loopback' && one.protocol === protocol && one.port === port),
  );
  return {
    what: containerText(endpoint),
    why: onLoopback
      ? `the process behind its published port ${list} listens at the container’s loopback address only`
      : `no process in it listens at its published port ${list}`,
    fix: onLoopback
      ? 'Let it listen at 0.0.0.0 (or ::).'
      : `Start it, or see what it says; in the container: ss -ln. To stop publishing: weft port rm ${endpoint.name}.`,
  };
}
