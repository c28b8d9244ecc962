// Fifty nodes started at once.
//
// None exits, each has a subnet of its own, and each reaches every other within a second after the last one has its subnet.
import { WEFT } from '../../../lab/lab.js';
import { monotonic } from '../../../lab/meter.js';
import { keysBelow } from '../observe.js';
import { FULL, raise, suite } from '../suite.js';

/** Two more carry the traffic; the short form starts fewer, because each is a process on this machine. */
const NODES = FULL ? 50 : 12;
const HOSTS = Array.from({ length: NODES }, (_, i) => `h${i + 3}`);
const SUBNETS = '/weft/networks/mesh/subnets/';

const fault = suite({
  lane: 'many',
  build: () => raise(NODES + 2),
});

fault(`${NODES} nodes started at once`, async (f) => {
  const { cluster } = f;
  await cluster.json('h1', 'network', 'create', 'mesh', '--subnet', '10.105.0.0/16');
  f.begins();
  for (const host of HOSTS)
    cluster.spawn(`agent-${host}`, host, [WEFT, 'agent', ...cluster.agentFlags(host), '--join', 'mesh']);
  const subnets = await cluster.until(
    'every node has a subnet',
    async () => {
      const keys = await keysBelow(cluster, SUBNETS);
      return keys.length === NODES ? keys : undefined;
    },
    { everyMs: 50, timeoutMs: 180_000 },
  );
  f.ends();
  f.t.log(`all have their subnet after ${((monotonic() - f.began) / 1000).toFixed(1)} s`);
  f.same(new Set(subnets).size, NODES, 'a subnet of its own each');
  await f.within(1, 'full mesh', async () => {
    const counts = await Promise.all(
      HOSTS.map(async (host) =>
        Number(await cluster.sh(host, 'ip route show proto 119 | grep -c onlink || true')),
      ),
    );
    return counts.every((count) => count === NODES - 1);
  });
  const ended = HOSTS.filter((host) => !cluster.process(`agent-${host}`).isRunning);
  f.same(ended, [], 'none exits');
  await f.lossless();
  await Promise.all(HOSTS.map((host) => cluster.process(`agent-${host}`).kill()));
  for (const host of HOSTS)
    await cluster.sh(
      host,
      `rm -rf ${cluster.folder}/${host}/state/* ${cluster.folder}/${host}/run/*; for link in $(ip -br link | grep -o "^wf[^ @]*"); do ip link del $link; done; nft flush ruleset`,
    );
  await cluster.etcdctl('del', '--prefix', SUBNETS);
  await cluster.json('h1', 'network', 'rm', 'mesh', '--force');
});
