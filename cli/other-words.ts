// Words of flannel, Weave Net, Calico and Docker, and what does the same here.

/** By the words of a command, the longest first. */
const COMMANDS: ReadonlyMap<string, string> = new Map(
  Object.entries({
    // Programs, by whose names people look for their words.
    docker: 'docs/from-docker-overlay.md has weft’s words for Docker’s.',
    flannel: 'docs/from-flannel.md has weft’s words for flannel’s; weft agent is flanneld’s place.',
    flanneld: 'weft agent takes the place of flanneld; see docs/from-flannel.md.',
    weave: 'docs/from-weave.md has weft’s words for Weave’s.',
    // What people type at first.
    ls: 'weft network ls, weft endpoint ls and weft node ls list things.',
    list: 'weft network ls, weft endpoint ls and weft node ls list things.',
    create: 'weft network create NAME --subnet CIDR makes a network.',
    show: 'weft inspect NAME shows an endpoint, a node or a network.',
    info: 'weft status has the state of this host, weft version the versions.',
    connect:
      'weft attach NETWORK TARGET attaches a container; weft join HOST:PORT brings a host into a cluster.',
    disconnect: 'weft detach NETWORK TARGET detaches a container.',
    networks: 'weft network ls lists them.',
    nodes: 'weft node ls lists them.',
    endpoints: 'weft endpoint ls lists them.',
    // Docker.
    'network connect': 'weft attach NETWORK TARGET attaches a container.',
    'network disconnect': 'weft detach NETWORK TARGET detaches a container.',
    'network prune': 'weft ipam check shows what does not belong; weft network rm NAME removes a network.',
    stats: 'weft top has the traffic of networks and endpoints.',
    container: 'weft ps lists what weft run started; weft endpoint ls, what is attached.',
    swarm: 'weft init and weft join HOST:PORT --token TOKEN make a cluster.',
    'swarm init': 'weft init makes this host the first of a cluster.',
    'swarm join': 'weft join HOST:PORT --token TOKEN brings this host into a cluster.',
    'swarm leave': 'weft leave takes this host out of its cluster.',
    'swarm join-token': 'weft token create makes a token.',
    'node update': 'a node has nothing to change but its key: weft node rotate-key.',
    'node promote': 'weft join HOST:PORT --token TOKEN --role controller makes a host a controller, too.',
    // Weave Net.
    launch: 'weft init starts the first host, weft join HOST:PORT --token TOKEN every other one.',
    prime: 'nothing is to be primed: networks are in etcd.',
    forget: 'weft node rm NAME takes a host out of the cluster.',
    rmpeer: 'weft node rm NAME takes a host out of the cluster, with its subnets.',
    'status connections': 'weft status lists the paths to other nodes; weft ping NODE measures them.',
    'status peers': 'weft node ls lists the nodes.',
    'status targets': 'weft node ls lists the nodes.',
    'status ipam': 'weft ipam show has the use of addresses.',
    'status dns': 'weft dns ls lists the names.',
    report: 'weft status -o json is the state of this host, weft bundle -w FILE everything.',
    'dns-add': 'weft dns add NAME IP adds a name.',
    'dns-remove': 'weft dns rm NAME removes a name.',
    'dns-lookup': 'weft dns lookup NAME shows what a name means.',
    'dns-args': 'weft attach --dns sets the name server of a namespace.',
    reset: 'weft leave takes this host out of its cluster; weft agent --cleanup takes what weft made away.',
    env: 'containers need no environment: weft attach NETWORK TARGET, or docker network create -d weft.',
    config: 'docker network create -d weft: containers need no configuration of their own.',
    setup: 'weft init starts the first host.',
    'setup-cni': 'weft cni install puts the plugin in its place.',
    consensus: 'addresses need no consensus here: each node has its own subnet.',
    // calicoctl.
    get: 'weft network ls, weft node ls and weft endpoint ls list things.',
    apply: 'weft network create and update change networks.',
    delete: 'weft network rm, weft node rm and weft detach remove things.',
    'node status': 'weft status lists the paths to other nodes, weft node ls the nodes.',
    'node run': 'weft agent is the daemon of a node; weft join starts it.',
    'node checksystem': 'weft check looks at everything that a node needs.',
    'node diags': 'weft bundle -w FILE collects everything.',
    'ipam release': 'weft ipam check finds what can be released; then weft ipam release ID.',
    workloadendpoint: 'weft endpoint ls lists attached containers.',
    ippool: 'weft network ls lists networks; weft network create NAME --subnet CIDR makes one.',
  }),
);

/** What leads on from the words of a call; undefined where they are nobody's. */
export function leadFor(words: readonly string[]): string | undefined {
  return COMMANDS.get(words.slice(0, 2).join(' ')) ?? COMMANDS.get(words[0] ?? '');
}
