// A real controller on a real etcd, as the target of attacks.
//
// With a network, a node, and a check whether it still serves.
import { join } from 'node:path';

import { call, channel } from '../../daemon/grpc.js';
import type { Tls } from '../../daemon/tls.js';
import { StatusServiceClient, StatusServiceService } from '../../proto/gen/weft/v1/agent.js';
import * as controller from '../../proto/gen/weft/v1/controller.js';
import { EventServiceService } from '../../proto/gen/weft/v1/events.js';
import { InspectionServiceService } from '../../proto/gen/weft/v1/inspection.js';
import { IpamServiceService } from '../../proto/gen/weft/v1/ipam.js';
import * as identity from '../../proto/gen/weft/v1/identity.js';
import * as record from '../../proto/gen/weft/v1/record.js';
import { TraceServiceService } from '../../proto/gen/weft/v1/trace.js';
import * as session from '../../proto/gen/weft/v1/session.js';
import { startController, type TestProcess } from '../controller/processes.js';
import { startEtcd, temporaryFolder } from '../store/etcd.js';
import { freePort } from '../lab/free-port.js';
import { until } from '../lab/wait.js';
import { etcdSamples } from './etcd-samples.js';
import type { Target } from './grpc-attack.js';
import { ask } from './http-attack.js';
import { methodsOf } from './messages.js';

export interface ControllerTarget extends Target {
  daemon: TestProcess;
  address: { host: string; port: number; tls?: Tls };
  http: { host: string; port: number };
  stop: () => Promise<void>;
}

/** @param tls of a client, where `flags` make the controller ask for a certificate */
export async function startTarget(flags: readonly string[] = [], tls?: Tls): Promise<ControllerTarget> {
  const etcd = await startEtcd();
  const address = { host: '127.0.0.1', port: await freePort(), ...(tls === undefined ? {} : { tls }) };
  const http = { host: '127.0.0.1', port: await freePort() };
  const daemon = startController([
    ...['--etcd', etcd.url, '--state-dir', join(temporaryFolder('fuzz'), 'state')],
    ...['--listen', `127.0.0.1:${address.port}`, '--http', `127.0.0.1:${http.port}`, ...flags],
  ]);
  await until('the controller is ready', () => daemon.output.includes('the controller is ready'), {
    context: () => daemon.output,
  });
  const name = `${address.host}:${address.port}`;
  const status = new StatusServiceClient(name, ...channel(name, tls));
  const networks = new controller.NetworkServiceClient(name, ...channel(name, tls));
  const nodes = new controller.NodeServiceClient(name, ...channel(name, tls));
  const peer = { peer: 'the controller', deadlineMs: 5000 };
  await call(
    networks.createNetwork.bind(networks),
    controller.CreateNetworkRequest.fromPartial({ name: 'blue', subnet: '10.100.0.0/16' }),
    peer,
  );
  for (const [key, value] of etcdSamples('none', 'h7'))
    if (key === 'nodes/h7') await etcd.raw.put(`/weft/${key}`).value(value);
  const hello = { node: 'h7', instance: 'i', version: '1' };
  return {
    daemon,
    address,
    http,
    openings: new Map([
      [
        session.SessionServiceService.connect.path,
        session.AgentMessage.encode({ message: { $case: 'hello', value: hello } }).finish(),
      ],
    ]),
    methods: methodsOf(controller, identity, record, session, {
      ...{ StatusServiceService, EventServiceService, TraceServiceService },
      ...{ InspectionServiceService, IpamServiceService },
    }),
    words: ['blue', 'red', 'h1', '10.101.0.0/16', 'fd42:1::/48', 'overlay', 'bridge', 'vlan', 'eth0', 'PUT'],
    alive: async () => {
      if (daemon.child.exitCode !== null)
        throw new Error(`the controller has ended:\n${daemon.output.slice(-3000)}`);
      // Both contain what agents have reported.
      await call(status.getStatus.bind(status), {}, peer);
      await call(nodes.listNodes.bind(nodes), {}, peer);
      const ready = await ask(http, '/readyz');
      if (!ready.includes('200 OK')) throw new Error(ready);
    },
    stop: async () => {
      for (const client of [status, networks, nodes]) client.close();
      await daemon.stop();
      await etcd.stop();
    },
  };
}
