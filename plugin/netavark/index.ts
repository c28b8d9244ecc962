// netavark plugin: podman 4.5 and later on weft's networks.
//
// podman starts a shim (bin/weft-netavark), which asks here by HTTP. An error is {"error": TEXT}, which podman shows.
import { IpNetwork } from '../../core/address.js';
import { alreadyExists, invalidArgument, messageOf, nextOf, notFound, WeftError } from '../../core/errors.js';
import { FAMILIES, familiesIn, subnetIn, textIn } from '../../core/families.js';
import { KeyedMutex } from '../../core/keyed-mutex.js';
import { isLabelValue } from '../../core/labels.js';
import { parseNetworkName, type Network } from '../../core/network.js';
import type { Endpoint } from '../../core/records.js';
import type { Change, HttpAnswer, HttpRequest } from '../../daemon/http-socket.js';
import type { ContainerView, MountedPlugin, Plugin, PluginHost } from '../../daemon/plugin-host.js';
import { attachSandbox, queueOf, type InterfaceKey } from '../attach-sandbox.js';
import { parseRequest, type Container, type NetavarkRequest, type PodmanNetwork } from './request.js';

export const netavark = { manager: 'netavark', settings: {}, mount } satisfies Plugin;

/** podman waits as long as it takes, and starts nothing else meanwhile. */
const ANSWER_MS = 30_000;
/** How long `create` waits for the list of networks. */
const KNOWN_MS = 3000;
/** The option that names weft's network. */
const NETWORK = 'weft.network';

function mount(host: PluginHost): Promise<MountedPlugin> {
  const locks = new KeyedMutex();
  host.route('netavark', (request) => answer(host, locks, request));
  return Promise.resolve({ stop: () => Promise.resolve() });
}

async function answer(
  host: PluginHost,
  locks: KeyedMutex,
  { body, signal }: HttpRequest,
): Promise<HttpAnswer> {
  const late = AbortSignal.timeout(ANSWER_MS);
  let change: Change | undefined;
  try {
    const request = parseRequest(body);
    change = changeOf(request);
    const result = await run(host, locks, request, AbortSignal.any([signal, late]));
    return { status: 200, ...(result !== undefined && { body: result }), change };
  } catch (error) {
    const next = nextOf(error);
    const told = late.aborted ? `it could not be done within ${ANSWER_MS / 1000} seconds` : messageOf(error);
    host.log.warn('a request of podman failed', { error: told });
    if (!(error instanceof WeftError) && !late.aborted && !signal.aborted)
      host.log.error('a fault in weft', { error });
    const text = next === undefined ? told : `${told.replace(/[.]$/, '')}. ${next}`;
    return { status: 400, body: { error: text }, ...(change && { change: { ...change, why: text } }) };
  }
}

const changeOf = (request: NetavarkRequest): Change => ({
  method: `netavark ${request.command}`,
  object: {
    network: request.network.name,
    ...(request.command !== 'create' && { id: request.container.id, ifname: request.container.ifname }),
  },
});

async function run(
  host: PluginHost,
  locks: KeyedMutex,
  request: NetavarkRequest,
  signal: AbortSignal,
): Promise<object | undefined> {
  if (request.command === 'create') return create(host, request.network);
  const { network, container, netns } = request;
  const key = keyOf(network, container);
  return locks.run(queueOf(key), async () => {
    if (request.command === 'setup') return setup(host, { key, network, container, netns }, signal);
    const endpoint = host.endpoints.find(key);
    if (endpoint !== undefined) await host.endpoints.disconnect(endpoint.id);
    return undefined;
  });
}

const keyOf = ({ name }: PodmanNetwork, { id, ifname }: Container): InterfaceKey => ({
  ...{ manager: 'netavark', network: name, containerId: id, ifname },
});

const nameIn = ({ name, options }: PodmanNetwork): string => parseNetworkName(options[NETWORK] ?? name);

/** Each host says the same; the first one makes the network, where it has a subnet. */
async function create({ networks }: PluginHost, asked: PodmanNetwork): Promise<object> {
  const name = nameIn(asked);
  for (const option of Object.keys(asked.options)) {
    if (![NETWORK, 'mtu'].includes(option))
      throw invalidArgument(`the option ${option} is none of weft's`, `There are ${NETWORK} and mtu.`);
  }
  await networks.known(KNOWN_MS);
  const prefixes = (asked.subnets ?? []).map(({ subnet }) => IpNetwork.parse(subnet, 'subnet'));
  checkSubnets(asked);
  const there = networks.list().find((network) => network.name === name);
  if (there !== undefined) checkSame(there, asked, prefixes);
  const network = there ?? (await make(networks, name, asked, prefixes));
  return {
    ...asked,
    // weft gives out the addresses: without this podman would, the same ones on every host.
    ipam_options: { driver: 'weft' },
    internal: network.internal,
    ipv6_enabled: subnetIn(network, 6) !== undefined,
    subnets: [network.subnet, network.subnet6].flatMap((subnet) =>
      subnet === undefined ? [] : [{ subnet: subnet.toString() }],
    ),
  };
}

/** Every host is the gateway of its own part, and gives out addresses of that. */
function checkSubnets({ subnets = [] }: PodmanNetwork): void {
  if (subnets.every(({ lease_range: range }) => range === undefined)) return;
  throw invalidArgument('--ip-range: each host has its own part of the network', 'Leave it out.');
}

async function make(
  networks: PluginHost['networks'],
  name: string,
  { internal = false, options }: PodmanNetwork,
  prefixes: readonly IpNetwork[],
): Promise<Network> {
  const [subnet, subnet6] = FAMILIES.flatMap((family) => prefixes.find((one) => one.family === family) ?? []);
  if (subnet === undefined) {
    throw notFound(
      `there is no network ${name}`,
      `Give it a subnet (podman network create -d weft --subnet 10.9.0.0/16 ${name}), or create it with weft network create.`,
    );
  }
  const mtu = options['mtu'];
  return networks.create({
    ...{ name, subnet, internal },
    ...(subnet6 && { subnet6 }),
    ...(mtu !== undefined && { mtu: Number(mtu) }),
  });
}

function checkSame(there: Network, { internal }: PodmanNetwork, prefixes: readonly IpNetwork[]): void {
  for (const prefix of prefixes) {
    const has = subnetIn(there, prefix.family);
    if (has?.equals(prefix) === true) continue;
    throw alreadyExists(
      `network ${there.name} is ${has?.toString() ?? `without IPv${prefix.family}`}, not ${prefix.toString()}`,
      'Leave --subnet out to use it, or choose another name.',
    );
  }
  if (internal === true && !there.internal) {
    throw alreadyExists(
      `network ${there.name} exists without --internal`,
      'Leave it out, or choose another name.',
    );
  }
}

interface Setup {
  key: InterfaceKey;
  network: PodmanNetwork;
  container: Container;
  netns: string;
}

/** @throws WeftError; then nothing is left, for podman calls no teardown */
async function setup(
  host: PluginHost,
  { key, network, container, netns }: Setup,
  signal: AbortSignal,
): Promise<object> {
  if (!netns.startsWith('/')) throw invalidArgument(`the namespace "${netns.slice(0, 64)}" is no path`);
  const { runtime, id, ...asked } = container;
  return attachSandbox(
    host,
    {
      ...{ key, network: nameIn(network), sandbox: netns, ...asked },
      defaultRoute: true,
      labels: Object.fromEntries(
        [
          ['netavark.runtime', runtime],
          ['netavark.network', network.name],
          ['netavark.container', id],
        ].filter(([, value = '']) => value !== '' && isLabelValue(value)),
      ),
    },
    signal,
    statusOf,
  );
}

/** netavark's StatusBlock. */
function statusOf(endpoint: Endpoint, { gateway, gateway6, dns }: ContainerView): object {
  const subnets = familiesIn(endpoint).map((family) => {
    const via = family === 4 ? gateway : gateway6;
    return { ipnet: textIn(endpoint, family), ...(via !== undefined && { gateway: via }) };
  });
  return {
    dns_server_ips: dns?.nameservers ?? [],
    dns_search_domains: dns?.search ?? [],
    interfaces: { [endpoint.ifname]: { mac_address: endpoint.mac, subnets } },
  };
}
