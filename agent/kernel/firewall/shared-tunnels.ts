// Rules and sets of tunnels that several networks share: IP in IP. What tells the networks apart is their addresses.
import type { FirewallNetwork } from '../../../core/firewall.js';
import { outermost } from '../../../core/prefixes.js';
import { range } from './elements.js';
import { dropRule, rule, type Rule, type SetSpec } from './rules.js';

/** IP in IP (RFC 2003), and the source of the inner packet. */
export const IN_IP = 'meta l4proto 4';
// From the outer header, which has no options: with the transport header as base, nft 1.0.6 aborts when it lists the rule.
export const INNER_SOURCE = '@nh,256,32';

/** Containers send no such packets to nodes. @param from where they come from. @param to the nodes' addresses */
export const inIpRule = (from: string, to: string): Rule =>
  dropRule(`${IN_IP} ${from}${to}`, 'tunnel', "containers do not speak to the nodes' tunnels", 'inIp');

export const SHARED_RULE = dropRule(
  'iifname @shared ip saddr != @overlay4',
  'tunnel',
  'a tunnel of several networks brings nothing but their packets',
  'shared',
);

export const STRANGERS_RULES = [`${INNER_SOURCE} @inner4`, 'ip hdrlength != 5'].map((packets) =>
  dropRule(
    `${IN_IP} ${packets} ip saddr != @nodes4`,
    'tunnel',
    'only nodes send packets of containers in IP',
    'shared',
  ),
);

/** Masquerading would take the first address of the device, which is another network's. */
export const SHARED_SOURCE_RULE = rule(
  'oifname @shared ct status dnat ip daddr @gateway4 snat ip to ip daddr map @sources4 fully-random',
  'to a container of another node, by a tunnel of several networks',
  'shared',
);

export function sharedSets(networks: readonly FirewallNetwork[]): [string, SetSpec][] {
  const sharing = networks.flatMap(({ prefixes, shared }) =>
    shared === undefined
      ? []
      : prefixes.filter(({ family }) => family === 4).map((prefix) => ({ prefix, ...shared })),
  );
  const outer = outermost(sharing.map(({ prefix }) => prefix));
  const address = ['ipv4_addr'];
  const sources = sharing
    .filter(({ prefix }) => outer.includes(prefix))
    .map(({ prefix, source }) => `${prefix.toString()} : ${source}`);
  return [
    [
      'shared',
      { type: ['ifname'], interval: false, elements: new Set(sharing.map(({ link }) => `"${link}"`)) },
    ],
    ['sources4', { type: address, data: address, interval: true, elements: new Set(sources) }],
    [
      'inner4',
      {
        ...{ type: ['integer'], typeOf: INNER_SOURCE, interval: true },
        elements: new Set(outer.map(range)),
      },
    ],
  ];
}
