// A node's endpoints with their dependencies, assembled as the agent does it.
//
// The kernel and the store are fakes in memory; the state directory is a real one.
import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import type { ExecutionContext } from 'ava';

import { Addresses } from '../../agent/endpoints/addresses.js';
import type { AttachRequest } from '../../agent/endpoints/attach-request.js';
import { Attacher } from '../../agent/endpoints/attach.js';
import { NetnsResolvConf } from '../../agent/dns/netns-resolv-conf.js';
import { EndpointResolvConf } from '../../agent/endpoints/resolv-conf.js';
import { Endpoints } from '../../agent/endpoints/endpoints.js';
import { Memberships } from '../../agent/networks/memberships.js';
import { agentMetrics } from '../../agent/health/metrics.js';
import { PublishedPorts } from '../../agent/endpoints/published-ports.js';
import { Problems } from '../../agent/health/problems.js';
import { Publisher } from '../../agent/endpoints/publisher.js';
import { Reconciler } from '../../agent/reconcile/reconciler.js';
import { mayBeMore, recoverEndpoints } from '../../agent/endpoints/recovery.js';
import { State } from '../../agent/state/state.js';
import { AttachmentState } from '../../agent/pipework/attachment-state.js';
import { Attachments } from '../../agent/pipework/attachments.js';
import type { Endpoint } from '../../core/records.js';
import { silentLogger } from '../../daemon/log.js';
import { overlay } from '../core/records.js';
import { FakeKernel } from '../fakes/kernel.js';
import { FakeStore } from '../fakes/store.js';
import { ip } from '../kernel/samples.js';

export interface TestNode {
  kernel: FakeKernel;
  store: FakeStore;
  stateDir: string;
  instance: string;
  state: State;
  problems: Problems;
  metrics: ReturnType<typeof agentMetrics>;
  reconciler: Reconciler;
  memberships: Memberships;
  publisher: Publisher;
  addresses: Addresses;
  ports: PublishedPorts;
  endpoints: Endpoints;
  attacher: Attacher;
  attachments: Attachments;
  /** Ends the agent; what it made stays, as after a kill. */
  stop: () => Promise<void>;
  /** The work after etcd's first full list. */
  synced: () => Promise<void>;
}

/** The remains of an agent that was killed. */
export type Left = Pick<TestNode, 'kernel' | 'store' | 'stateDir'>;

const NODE = 'n1';

export const path = (name: string): string => `/run/netns/${name}`;

export const request = (name: string, more: Partial<AttachRequest> = {}): AttachRequest => ({
  network: 'blue',
  target: `netns:${path(name)}`,
  aliases: [],
  defaultRoute: true,
  publish: [],
  everywhere: false,
  dns: false,
  ...more,
});

/** A node with network blue, after its first comparison. @param left remains of an earlier agent */
export async function startNode(t: ExecutionContext, left: Partial<Left> = {}): Promise<TestNode> {
  const stateDir = left.stateDir ?? mkdtempSync(join(tmpdir(), 'weft-node-'));
  t.teardown(() => rmSync(stateDir, { recursive: true, force: true }));
  const kernel = left.kernel ?? new FakeKernel();
  const store = left.store ?? new FakeStore();
  if (left.store === undefined) store.putNetwork(overlay());
  const log = silentLogger;
  const metrics = agentMetrics();
  const problems = new Problems();
  const state = new State(stateDir);
  const loaded = state.load();
  const reconciler = new Reconciler({
    ...{ kernel, log, metrics, problems },
    onSandboxGone: ({ kind, id }) => (kind === 'attachment' ? attachments : endpoints).sandboxGone(id),
    onUnderlay: () => undefined,
  });
  const underlay = { ip: ip('192.0.2.1'), mtu: 1500, link: 'eth0', onLink: [] };
  const memberships = new Memberships({
    ...{ kernel, store, reconciler, state, log, problems, node: NODE, instance: loaded.instance },
    ...{ runDir: stateDir, subnetTtlSeconds: 3600, underlay: () => underlay },
  });
  const publisher = new Publisher({
    ...{ store, log, metrics, problems, node: NODE, instance: loaded.instance },
    current: () => endpoints.list(),
  });
  const addresses = new Addresses({
    ...{ store, memberships, node: NODE },
    nameOf: (id) => endpoints.get(id)?.name,
    released: (network, address) => publisher.claimReleased(network, address),
    incomplete: mayBeMore(loaded) && left.stateDir !== undefined,
  });
  const ports = new PublishedPorts({ kernel, store, memberships, reconciler, problems, log, node: NODE });
  const resolvConf = new EndpointResolvConf({
    files: new NetnsResolvConf({ stateDir, log, folder: join(stateDir, 'netns') }),
    text: () => '',
    endpoints: () => endpoints.list(),
    log,
  });
  const endpoints = new Endpoints({
    ...{ reconciler, memberships, addresses, publisher, ports, state, problems, log, resolvConf },
  });
  const docker = { socketPath: join(stateDir, 'no-docker.sock') };
  const attacher = new Attacher({
    ...{ kernel, reconciler, memberships, endpoints, addresses, publisher, ports, resolvConf, log },
    ...{ node: NODE, docker, runs: () => undefined },
  });
  const attachmentState = new AttachmentState(stateDir);
  const attachments = new Attachments({
    ...{ kernel, reconciler, state: attachmentState, problems, log, docker },
    underlay: () => underlay,
    memberships: () => memberships.list(),
  });
  memberships.listen(endpoints);
  await memberships.restore(loaded.networks);
  await endpoints.restore(loaded.endpoints);
  await attachments.restore(attachmentState.load((file, why) => t.fail(`${file}: ${why}`)));
  if (left.kernel === undefined) reconciler.allowPruning();
  await reconciler.start();
  const stop = async (): Promise<void> => {
    ports.stop();
    await publisher.stop();
    await memberships.stop();
    await reconciler.stop();
  };
  t.teardown(stop);
  return {
    ...{ kernel, store, stateDir, state, problems, reconciler, memberships, addresses, ports, endpoints },
    ...{ publisher, attacher, attachments, metrics, stop, instance: loaded.instance },
    synced: async () => {
      await recoverEndpoints({
        ...{ loaded, store, kernel, endpoints, addresses, memberships },
        ...{ problems, log, node: NODE },
      });
      reconciler.allowPruning();
      await reconciler.compare('start');
    },
  };
}

/** A new container, attached. */
export async function attached(
  node: TestNode,
  name: string,
  more: Partial<AttachRequest> = {},
): Promise<Endpoint> {
  node.kernel.addContainer(path(name));
  return node.attacher.attach(request(name, more));
}

/** Makes a folder of the state directory unwritable. @returns repairs it */
export function breakFolder({ stateDir }: TestNode, name: string): () => void {
  const folder = join(stateDir, name);
  renameSync(folder, `${folder}.away`);
  writeFileSync(folder, '');
  return () => {
    rmSync(folder);
    renameSync(`${folder}.away`, folder);
  };
}
