// weft's nftables table of the IP families: compiled from the desired state. Its rules are in chains.ts.
//
// Pure functions.
import { IpAddress, type IpNetwork } from '../../../core/address.js';
import type { Firewall } from '../../../core/firewall.js';
import { outermost } from '../../../core/prefixes.js';
import { chainsWith, IP, type Features } from './chains.js';
import { elementsOf, VNI_BYTES, vniElement } from './elements.js';
import { fouSets } from './fou.js';
import { policySets } from './policy-rules.js';
import { askers, counterName, dynamicSet, HOST_REASONS, type Ruleset, type SetSpec } from './rules.js';
import { sharedSets } from './shared-tunnels.js';

const quoted = (link: string): string => `"${link}"`;

/** Undefined without networks: then no table is wanted either. */
export function compileRuleset(desired: Firewall): Ruleset | undefined {
  const { networks, others = [], ports = new Map(), members = new Map() } = desired;
  const { policy, policyItems = new Map() } = desired;
  if (networks.length === 0) return undefined;
  const internal = networks.filter((network) => network.internal);
  const masquerading = networks.filter((network) => network.masquerade);
  const sealed = networks.filter((network) => network.sealed).flatMap((network) => network.prefixes);
  const overlays = [...networks.flatMap((network) => network.prefixes), ...others];
  // The only network of a node reaches all of itself: looking its links up with the address is what costs most.
  const apart = networks.length > 1 ? overlays : others;
  const names = (links: readonly string[]): SetSpec => ({
    type: ['ifname'],
    interval: false,
    elements: new Set(links.map(quoted)),
  });
  const sets = new Map<string, SetSpec>([
    ['links', names(networks.flatMap(({ links }) => links))],
    ['tunnels', names(networks.flatMap(({ tunnels = [] }) => tunnels))],
    ['internal', names(internal.flatMap(({ links }) => links))],
    [
      'inside',
      {
        type: ['ifname', 'ifname'],
        interval: false,
        elements: new Set(
          networks.flatMap(({ links }) =>
            links.flatMap((a) => links.map((b) => `${quoted(a)} . ${quoted(b)}`)),
          ),
        ),
      },
    ],
  ]);
  for (const family of [4, 6] as const) {
    const address = family === 4 ? 'ipv4_addr' : 'ipv6_addr';
    const outer = (prefixes: readonly IpNetwork[]): IpNetwork[] =>
      outermost(prefixes.filter((prefix) => prefix.family === family));
    const prefixes = (all: readonly IpNetwork[]): Set<string> => new Set(outer(all).map(String));
    const own = networks.flatMap((network) =>
      outer([...network.prefixes, ...(network.reaches ?? [])]).flatMap((prefix) =>
        network.links.map((link) => `${quoted(link)} . ${prefix.toString()}`),
      ),
    );
    const near = outer(networks.flatMap(({ local = [] }) => local)).map(
      (prefix) => `${prefix.toString()} . ${prefix.toString()}`,
    );
    const masked = masquerading.flatMap((network) => network.prefixes);
    const key = ['inet_proto', 'inet_service'];
    const data = [address, 'inet_service'];
    const plain = { interval: false, elements: new Set<string>() };
    sets.set(`own${family}`, { type: ['ifname', address], interval: true, elements: new Set(own) });
    sets.set(`overlay${family}`, { type: [address], interval: true, elements: prefixes(overlays) });
    sets.set(`apart${family}`, { type: [address], interval: true, elements: prefixes(apart) });
    sets.set(`masq${family}`, { type: [address], interval: true, elements: prefixes(masked) });
    sets.set(`sealed${family}`, { type: [address], interval: true, elements: prefixes(sealed) });
    sets.set(`hairpin${family}`, { type: [address, address], interval: true, elements: new Set(near) });
    sets.set(`itself${family}`, { ...plain, type: [address, address], elements: new Set() });
    sets.set(`gateway${family}`, { ...plain, type: [address], elements: new Set() });
    sets.set(`port${family}`, { ...plain, type: key, data, elements: new Set() });
    sets.set(`addr${family}`, { ...plain, type: [address, ...key], data, elements: new Set() });
  }
  for (const [name, set] of [...sharedSets(networks), ...fouSets(desired)]) sets.set(name, set);
  addSecurity(sets, desired);
  for (const [name, set] of policy === undefined ? [] : policySets(policy)) sets.set(name, set);
  for (const item of [...ports.values(), ...members.values(), ...policyItems.values()]) {
    for (const { table, set, element } of elementsOf(item))
      if (table === 'inet weft') sets.get(set)?.elements.add(element);
  }
  const features: Features = {
    tunnels: networks.some(({ tunnels = [] }) => tunnels.length > 0),
    internal: internal.length > 0,
    sealed: sealed.length > 0,
    apart: apart.length > 0,
    shared: networks.some(({ shared }) => shared !== undefined),
    udp: desired.backendPorts !== undefined && desired.backendPorts.length > 0,
    inIp: desired.inIp === true,
    fou: desired.fou !== undefined,
    policy: policy !== undefined,
    closedHosts: policy?.closesHosts === true,
  };
  return {
    sets,
    chains: chainsWith(features, desired.maxConnections),
    counters: HOST_REASONS.map(counterName),
  };
}

/** The sets of what containers and machines beside the host may not reach; other nodes are items. */
function addSecurity(
  sets: Map<string, SetSpec>,
  { networks, backendPorts = [], vnis = [], control = [] }: Firewall,
): void {
  const plain = (type: readonly string[], elements: readonly string[] = []): SetSpec => ({
    type,
    interval: false,
    elements: new Set(elements),
  });
  sets.set('backends', plain(['inet_service'], backendPorts.map(String)));
  sets.set('vnis', { ...plain(['inet_service', 'integer'], vnis.map(vniElement)), typeOf: VNI_BYTES });
  sets.set(
    'control_here',
    plain(
      ['inet_service'],
      control.flatMap(({ here, port }) => (here ? [`${port}`] : [])),
    ),
  );
  const closed = networks
    .filter(({ directAccess = false }) => !directAccess)
    .flatMap(({ prefixes }) => prefixes);
  for (const family of [4, 6] as const) {
    const address = family === 4 ? 'ipv4_addr' : 'ipv6_addr';
    const isOfFamily = (one: { family: number }): boolean => one.family === family;
    const away = control.flatMap(({ ip, port }) =>
      isOfFamily(IpAddress.parse(ip)) ? [`${ip} . ${port}`] : [],
    );
    const closedPrefixes = outermost(closed.filter(isOfFamily)).map(String);
    sets.set(`control${family}`, plain([address, 'inet_service'], away));
    sets.set(`closed${family}`, { ...plain([address], closedPrefixes), interval: true });
    sets.set(`plain${family}`, { ...plain([address, address]), interval: true });
    sets.set(`nodes${family}`, plain([address]));
    sets.set(`vteps${family}`, {
      ...plain(['inet_service', 'integer', address]),
      typeOf: `${VNI_BYTES} . ${IP[family]} saddr`,
    });
    sets.set(`queries${family}`, askers(address));
    sets.set(`connections${family}`, dynamicSet([address], ['flags dynamic']));
  }
}
