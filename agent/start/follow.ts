// Stage 5, follow: tracks etcd, the underlay and the peers permanently.
import { setTimeout as delay } from 'node:timers/promises';

import { publicAddresses } from '../../core/compile.js';
import { sysctlKey } from '../../core/objects/index.js';
import { earlierLifeEnds, recoverEndpoints } from '../endpoints/index.js';
import { trimMemory } from '../kernel/index.js';
import { joinWhenThere } from '../networks/index.js';
import { routerAdvertisements } from '../underlay/index.js';
import type { Parts } from './assemble.js';
import type { Opened } from './open.js';
import type { Announced } from './serve.js';
import { StoreFollower } from './store-follower.js';

/** Milliseconds from the first list that a node appears after its first joins at the latest. */
const JOINS_FIRST_MS = 500;

export async function follow(
  opened: Opened,
  parts: Parts,
  { announcement, appear }: Announced,
): Promise<void> {
  const { settings, shutdown, log, problems, kernel, store, underlay } = opened;
  const { memberships, reconciler, overlaps, peers } = parts;
  // First: the firewall goes by these routes, too.
  await overlaps.look.start();
  // Before the first list is handled: the others wait for this node's subnet.
  const { signal } = shutdown;
  const tries = [...new Set([...settings.join, ...settings.subnetOnly])].map(
    (name) =>
      new Promise<void>((tried) => {
        void joinWhenThere(name, { memberships, store, problems, log, signal, tried });
      }),
  );
  // What other nodes do when a node appears would delay its subnets.
  if (tries.length === 0) appear();
  else
    void store
      .synced(signal)
      .then(() => Promise.race([Promise.all(tries), delay(JOINS_FIRST_MS, undefined, { signal })]))
      .then(appear, () => undefined);
  const follower = new StoreFollower(
    {
      ...opened,
      ...parts,
      ...{ announcement, signal: shutdown.signal },
      changed: opened.changed.call,
    },
    () => handleFirstList(opened, parts),
  );
  shutdown.add('following the store', () => follower.stop());
  const forwards = (): boolean => reconciler.wants(sysctlKey('net/ipv6/conf/all/forwarding'));
  const advertisements = routerAdvertisements({ kernel, problems, log, forwards });
  void advertisements.start();
  shutdown.add('looking for links that ignore router advertisements', () => advertisements.stop());
  await parts.control.start();
  void parts.duplicateAddresses.start();
  peers.start();
  shutdown.add('the probes of paths', () => peers.stop());
  const renewed = opened.identity?.follow(problems, shutdown.signal);
  shutdown.add('the certificate', async () => await renewed);
  await underlay.follow({
    changed: (moved) => {
      // This host no longer has the old address, and a connection from it gets no answer, not even a reset.
      if (moved) store.reconnect();
      announcement.refresh();
      follower.next('the underlay', () => memberships.underlayChanged());
    },
    back: () => peers.greet(underlay.current.link),
  });
  await memberships.parentsChanged();
}

/** Runs after the store's first full list: confirm what was restored, recover what was lost, then prune. */
async function handleFirstList(opened: Opened, parts: Parts): Promise<void> {
  const { loaded, store, kernel, problems, log, node, instance, shutdown, underlay, readiness } = opened;
  const { memberships, endpoints, addresses, publisher, gateways, ports, reconciler } = parts;
  const own = { node, instance, publicIp: () => publicAddresses(underlay.current).ip.toString() };
  if (loaded.fresh) await earlierLifeEnds(store, own, shutdown.signal);
  await recoverEndpoints({
    ...{ loaded, store, kernel, endpoints, addresses, memberships, problems, log, node },
  });
  await memberships.reconnected();
  await parts.policies.refresh();
  publisher.resync();
  await gateways.join();
  for (const { network } of memberships.list()) await ports.follow(network.name);
  // The records are complete now: an object with weft's mark that no record wants is a leftover.
  reconciler.allowPruning();
  // What an earlier life of this node has left was found: from here on its own networks are enough.
  store.narrow();
  await reconciler.compare('start');
  readiness.begins();
  trimMemory();
}
