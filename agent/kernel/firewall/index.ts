// Opens the firewall: selects one of the two drivers.
import { IpNetwork, type Family } from '../../../core/address.js';
import type { Firewall } from '../../../core/firewall.js';
import { failedPrecondition, messageOf } from '../../../core/errors.js';
import { IptablesFirewall } from './iptables.js';
import { Nftables } from './libnftables.js';
import { NftablesFirewall, probeNftables } from './nftables.js';
import type { FirewallLog, NodeFirewallDriver } from './types.js';
import { findDefaultXtables, type Xtables } from './xtables.js';

export type { FirewallLog, NodeFirewallDriver, DriverReport } from './types.js';

export type FirewallChoice = 'auto' | 'nftables' | 'iptables';

/**
 * Opens the firewall of this thread's present network namespace, for good. `auto` is nftables where the library and the kernel
 * have it, else iptables. Nothing is written before the first `ensure`.
 * @throws WeftError FAILED_PRECONDITION that says what to install
 */
export async function openFirewall(
  choice: FirewallChoice,
  options: { log?: FirewallLog } = {},
): Promise<NodeFirewallDriver> {
  if (choice === 'nftables') return openNftables(options.log);
  if (choice === 'iptables') return openIptables(options.log);
  let reason: unknown;
  try {
    return await openNftables(options.log);
  } catch (error) {
    reason = error;
  }
  options.log?.debug('nftables is not available', { reason: messageOf(reason) });
  try {
    return await openIptables(options.log);
  } catch (error) {
    throw failedPrecondition(
      `firewall: neither nftables nor iptables works here: ${messageOf(reason)}; ${messageOf(error)}`,
      'Install one: apt-get install nftables (preferred) or apt-get install iptables.',
      { cause: error },
    );
  }
}

/** A sample network that uses every feature of weft's tables, for the capability check. */
const SAMPLE: Firewall = {
  networks: [
    {
      name: 'sample',
      links: ['wfsample'],
      tunnels: ['wfsample'],
      shared: { link: 'wfsampled', source: '192.0.2.1' },
      prefixes: [IpNetwork.parse('192.0.2.0/24'), IpNetwork.parse('2001:db8::/64')],
      local: [IpNetwork.parse('192.0.2.0/28'), IpNetwork.parse('2001:db8::/80')],
      internal: true,
      masquerade: true,
      sealed: true,
    },
  ],
  others: [IpNetwork.parse('198.51.100.0/24'), IpNetwork.parse('2001:db8:1::/64')],
  ports: new Map([
    ['4', { hostPort: 80, protocol: 'tcp', ip: '192.0.2.2', port: 80, clients: 'gateway' }],
    ['6', { hostPort: 80, protocol: 'udp', ip: '2001:db8::2', port: 80, clients: 'itself' }],
  ]),
  containers: new Map([
    [
      'wfsample',
      {
        link: 'wfsample',
        bounds: {
          mac: '02:00:00:00:00:01',
          ips: ['192.0.2.2', '2001:db8::2'],
          allowed: [IpNetwork.parse('192.0.2.0/28'), IpNetwork.parse('2001:db8::/80')],
        },
      },
    ],
  ]),
  maxConnections: 1,
  policy: { ranges: [{ family: 4, first: '192.0.2.0', last: '192.0.2.9', peer: 0x10001 }] },
  policyItems: new Map([
    ['address', { policy: 'address', ip: '2001:db8::2', peer: 0x10001, target: 0x10001 }],
    ['verdict', { policy: 'verdict', peer: 0x10001, target: 0x10001 }],
    ['port', { policy: 'port', link: 'wfsample', gateway: '02:00:00:00:00:01', closed: true }],
  ]),
};

async function openNftables(log: FirewallLog | undefined): Promise<NodeFirewallDriver> {
  const nft = new Nftables();
  try {
    return new NftablesFirewall(nft, log, await probeNftables(nft, SAMPLE));
  } catch (error) {
    nft.close();
    throw error;
  }
}

async function openIptables(log: FirewallLog | undefined): Promise<NodeFirewallDriver> {
  const commands = new Map<Family, Xtables>();
  for (const family of [4, 6] as const) {
    const xtables = await findDefaultXtables(family);
    if (xtables !== undefined) commands.set(family, xtables);
  }
  const ipv4 = commands.get(4);
  if (ipv4 === undefined) {
    throw failedPrecondition('iptables: the command does not exist', 'Install it: apt-get install iptables.');
  }
  await ipv4.save('filter');
  let nft: Nftables | undefined;
  try {
    nft = new Nftables();
  } catch {
    // Then there is no nftables table to read either.
  }
  return new IptablesFirewall(commands, nft, log);
}
