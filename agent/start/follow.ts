// Stage 5, follow: keep up with etcd, the underlay and the peers until the daemon ends.
import { sysctlKey } from '../../core/objects/index.js';
import type { Announcement } from '../../store/store.js';
import { earlierLifeEnds, recoverEndpoints } from '../endpoints/index.js';
import { joinWhenThere } from '../networks/index.js';
import { RouterAdvertisements } from '../underlay/index.js';
import type { Parts } from './assemble.js';
import type { Opened } from './open.js';
import { StoreFollower } from './store-follower.js';

export async function follow(opened: Opened, parts: Parts, announcement: Announcement): Promise<void> {
  const { settings, shutdown, log, problems, kernel, store, underlay } = opened;
  const { memberships, reconciler, peers } = parts;
  const follower = new StoreFollower(
    {
      ...opened,
      ...parts,
      ...{ announcement, signal: shutdown.signal },
      changed: opened.changed.call,
    },
    () => takeUpFirstList(opened, parts),
  );
  shutdown.add('following the store', () => follower.stop());
  const forwards = (): boolean => reconciler.wants(sysctlKey('net/ipv6/conf/all/forwarding'));
  const advertisements = new RouterAdvertisements({ kernel, problems, log, forwards });
  advertisements.start();
  shutdown.add('looking for links that ignore router advertisements', () => advertisements.stop());
  peers.start();
  shutdown.add('the round-trip samples', () => peers.stop());
  for (const name of settings.join)
    void joinWhenThere(name, { memberships, store, problems, log, signal: shutdown.signal });

  await underlay.follow({
    changed: (moved) => {
      // The old address is no address of this host any more, and a connection from it is silent for ever.
      if (moved) store.reconnect();
      announcement.refresh();
      follower.next('the underlay', () => memberships.underlayChanged());
    },
    back: () => peers.greet(underlay.current.link),
  });
}

/** The store's first full list is here: confirm what was restored, recover what was lost, then prune. */
async function takeUpFirstList(opened: Opened, parts: Parts): Promise<void> {
  const { loaded, store, kernel, problems, log, node, instance, shutdown, underlay, readiness } = opened;
  const { memberships, endpoints, addresses, publisher, gateways, ports, reconciler } = parts;
  const own = { node, instance, publicIp: () => underlay.current.ip.toString() };
  if (loaded.fresh) await earlierLifeEnds(store, own, shutdown.signal);
  await recoverEndpoints({
    ...{ loaded, store, kernel, endpoints, addresses, memberships, problems, log, node },
  });
  await memberships.resume();
  for (const { name } of store.view.networks.values()) await memberships.answerClaims(name);
  publisher.resync();
  await gateways.join();
  for (const { network } of memberships.list()) await ports.follow(network.name);
  // The records are complete now: what carries weft's mark and is in none of them is left over.
  reconciler.allowPruning();
  await reconciler.compare('start');
  readiness.begins();
}
