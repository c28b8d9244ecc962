// A kernel and a store that are read and never written.
//
// The parts of the agent run on them as they do on the real ones: what they would write is dropped, and a subnet that they
// would acquire is noted.
import { backendTypeOf } from '../../core/drivers/index.js';
import { unavailable } from '../../core/errors.js';
import type { IpNetwork } from '../../core/address.js';
import type { FirewallReport, Kernel, KernelNamespace } from '../kernel/index.js';
import type { LeaseRequest, Store, StoredLease } from '../../store/store.js';

export function readOnlyKernel(kernel: Kernel): Kernel {
  const nothing: FirewallReport = { repaired: [], problems: [] };
  return {
    node: readOnlyNamespace(kernel.node),
    firewall: {
      kind: kernel.firewall.kind,
      noBridge: kernel.firewall.noBridge,
      difference: (desired) => kernel.firewall.difference(desired),
      ensure: () => Promise.resolve(nothing),
      changeItems: () => Promise.resolve(nothing),
      drops: () => [],
      losses: () => [],
      denials: () => [],
      remove: () => Promise.resolve(),
      close: () => undefined,
    },
    // Ports of this node may be held by an agent that runs.
    reservePort: () => ({ release: () => undefined }),
    openNamespace: async (path) => {
      const opened = await kernel.openNamespace(path);
      return { ...opened, namespace: readOnlyNamespace(opened.namespace) };
    },
    identify: (path) => kernel.identify(path),
    underlayLinks: () => kernel.underlayLinks(),
    sendsFrom: (family) => kernel.sendsFrom(family),
    linksIgnoringRa: () => kernel.linksIgnoringRa(),
    routes: () => kernel.routes(),
    filteredBridges: () => kernel.filteredBridges(),
    parentLink: (name) => kernel.parentLink(name),
    handshakes: () => kernel.handshakes(),
    pumpCounters: () => kernel.pumpCounters(),
    capture: (links) => kernel.capture(links),
    openTestNamespace: () => kernel.openTestNamespace(),
    linkCounters: () => kernel.linkCounters(),
    carriesUdp: () => kernel.carriesUdp(),
    capabilities: () => kernel.capabilities(),
    watch: () => () => undefined,
    ping: (echoes) => Promise.resolve(echoes.map(() => undefined)),
    heardTags: () => [],
    nextHop: (ip) => kernel.nextHop(ip),
    whoHas: () => Promise.resolve([]),
    neighbourTables: () => kernel.neighbourTables(),
    flushConntrack: () => undefined,
    refreshNeighbours: () => undefined,
    solicitNeighbour: () => Promise.resolve(false),
    close: () => undefined,
  };
}

const readOnlyNamespace = (namespace: KernelNamespace): KernelNamespace => ({
  role: namespace.role,
  observe: (sysctls) => namespace.observe(sysctls),
  linkNames: () => namespace.linkNames(),
  apply: () => Promise.resolve([]),
  announce: () => undefined,
  listeners: () => namespace.listeners(),
  ask: () => Promise.resolve(false),
  trace: (filter) => namespace.trace(filter),
  close: () => namespace.close(),
});

/** @param onAcquire called with the network of every subnet that would be acquired, and with the subnet where it is known */
export function readOnlyStore(
  store: Store,
  onAcquire: (network: string, subnet: IpNetwork | undefined) => void,
): Store {
  const refuse = (what: string) => (): Promise<never> =>
    Promise.reject(unavailable(`a dry run does not ${what}`));
  return {
    view: store.view,
    get state() {
      return store.state;
    },
    get isSynced() {
      return store.isSynced;
    },
    synced: (signal) => store.synced(signal),
    subscribe: (listener) => store.subscribe(listener),
    onState: (listener) => store.onState(listener),
    follows: (network) => store.follows(network),
    follow: (network) => store.follow(network),
    narrow: () => store.narrow(),
    reconnect: () => undefined,
    predatesConfig: (lease) => store.predatesConfig(lease),

    seeNetwork: (name) => store.seeNetwork(name),
    createNetwork: refuse('create networks'),
    checkNetwork: (spec) => store.checkNetwork(spec),
    removeNetwork: refuse('remove networks'),
    updateNetwork: refuse('change networks'),
    restoreNetwork: () => Promise.resolve(false),

    acquireLease: async (request) => {
      const known = knownLease(store, request);
      if (known !== undefined) return known;
      const { network, previous, wanted } = request;
      const subnets = wanted ?? previous;
      onAcquire(network.name, subnets?.subnet);
      if (subnets === undefined) throw unavailable(`network ${network.name}: a dry run acquires no subnet`);
      return { ...assumedLease(request), ...subnets };
    },
    proposeSubnet: refuse('propose subnets'),
    renewLease: (lease) => Promise.resolve(lease),
    releaseLease: () => Promise.resolve(),
    leaseTimes: (leases) => store.leaseTimes(leases),

    putEndpoint: () => Promise.resolve(),
    deleteEndpoint: () => Promise.resolve(),

    claimAddress: refuse('claim addresses'),
    answerClaim: () => Promise.resolve(false),
    restoreClaim: () => Promise.resolve(false),
    deleteClaim: () => Promise.resolve(),

    addName: refuse('add names'),
    removeName: refuse('remove names'),
    createPolicy: refuse('create policies'),
    removePolicy: refuse('remove policies'),

    announce: () => ({ refresh: () => undefined, stop: () => Promise.resolve() }),
    checkName: () => undefined,
    removeNode: refuse('remove nodes'),
    campaign: refuse('run for election'),
    close: () => Promise.resolve(),
  };
}

/** The lease that this node has already, and acquires by renewing it. */
function knownLease({ view }: Store, { network, instance, previous }: LeaseRequest): StoredLease | undefined {
  const leases = view.leases.get(network.name);
  const before = previous === undefined ? undefined : leases?.get(previous.subnet.toString());
  if (before?.instance === instance) return before;
  return [...(leases?.values() ?? [])].find((lease) => lease.instance === instance);
}

function assumedLease(request: LeaseRequest): Omit<StoredLease, 'subnet' | 'subnet6'> {
  const { network, node, instance, publicIp, publicIp6, data } = request;
  return {
    network: network.name,
    publicIp,
    ...(publicIp6 === undefined ? {} : { publicIp6 }),
    backendType: backendTypeOf(network),
    ...(data === undefined ? {} : { data }),
    node,
    instance,
    reservation: false,
    etcdLease: '0',
  };
}
