// A controller that is a stand-in: it serves what a test gives it, by the services that the page asks.
//
// For clusters that no machine of a test can hold, and for names that a real controller refuses.
import { Server, type ServerWritableStream } from '@grpc/grpc-js';

import { listenGrpc, stopGrpc, unary } from '../../daemon/grpc.js';
import { hostPort, type HostPort } from '../../daemon/kinds.js';
import { PageServer, Source, type PageOptions } from '../../daemon/page/index.js';
import { notFound } from '../../core/errors.js';
import { StatusServiceService } from '../../proto/gen/weft/v1/agent.js';
import {
  EndpointServiceService,
  EventType,
  NetworkServiceService,
  NodeServiceService,
  PolicyServiceService,
  type Policy,
} from '../../proto/gen/weft/v1/controller.js';
import { EventServiceService, type Event } from '../../proto/gen/weft/v1/events.js';
import { InspectionServiceService, LinkTraffic, PingPath } from '../../proto/gen/weft/v1/inspection.js';
import { IpamServiceService, type IpamFinding } from '../../proto/gen/weft/v1/ipam.js';
import { TraceServiceService, type TraceResult } from '../../proto/gen/weft/v1/trace.js';
import type { Endpoint, Network, Node, Status } from '../../proto/gen/weft/v1/types.js';

/** All that it serves. */
export interface State {
  status: Status;
  nodes: Node[];
  networks: Network[];
  endpoints: Endpoint[];
  events: Event[];
  policies: Policy[];
  findings: IpamFinding[];
  trace: TraceResult;
  /** Bytes that a node has sent in a network by now, and packets that were dropped. */
  traffic: (node: string) => { network: string; bytes: number; drops: number }[];
}

interface Message {
  type: EventType;
}
type Watch<M> = ServerWritableStream<unknown, M>;

const parse = (address: string): HostPort => hostPort({ listen: true }).parse(address, 'test');

/** Every method of a service that the page does not call. */
const rest = (service: object): Record<string, ReturnType<typeof unary>> =>
  Object.fromEntries(
    Object.keys(service).map((name) => [
      name,
      unary(() => {
        throw notFound(`${name}: the stand-in has no such thing`, 'Give it one.');
      }),
    ]),
  );

export class StandIn {
  readonly #server = new Server();
  #address = '';
  /** Lists of policies, and watches, that it was asked for. */
  asked = 0;
  readonly #watches = new Map<string, Set<Watch<never>>>();

  private constructor(readonly state: State) {
    this.#server.addService(StatusServiceService, { getStatus: unary(() => state.status) });
    this.#server.addService(NodeServiceService, {
      ...rest(NodeServiceService),
      listNodes: unary(() => ({ nodes: state.nodes })),
      watchNodes: this.#serve('node', () => state.nodes),
    });
    this.#server.addService(NetworkServiceService, {
      ...rest(NetworkServiceService),
      watchNetworks: this.#serve('network', () => state.networks),
    });
    this.#server.addService(EndpointServiceService, {
      ...rest(EndpointServiceService),
      getEndpoint: unary(({ id }: { id: string }) => {
        const found = state.endpoints.find((one) => one.id === id);
        if (found === undefined)
          throw notFound(`endpoint ${id}: there is no such endpoint`, 'See weft endpoint ls.');
        return { ...found, drops: [{ reason: 'spoofed source address', packets: 12 }] };
      }),
      watchEndpoints: this.#serve('endpoint', () => state.endpoints),
    });
    this.#server.addService(PolicyServiceService, {
      ...rest(PolicyServiceService),
      listPolicies: unary(() => {
        this.asked += 1;
        return { policies: state.policies, isolated: [], pending: [] };
      }),
    });
    this.#server.addService(EventServiceService, {
      watchEvents: (call: ServerWritableStream<{ object: string; follow: boolean }, Event>) => {
        const { object, follow } = call.request;
        for (const event of state.events) if (object === '' || event.object === object) call.write(event);
        if (follow) this.#add('event', call);
        else call.end();
      },
    });
    this.#server.addService(InspectionServiceService, {
      ...rest(InspectionServiceService),
      inspect: (call: ServerWritableStream<{ node: string; query?: { $case: string } }, object>) => {
        const { node, query } = call.request;
        if (query?.$case === 'ping') {
          const value = PingPath.fromPartial({
            family: 4,
            state: 'ok',
            mtu: 1450,
            p50: 0.42,
            p99: 0.9,
            sent: 3,
          });
          call.write({ answer: { $case: 'path', value } });
        } else
          for (const { network, bytes, drops } of state.traffic(node)) {
            const value = { kind: 'network', network, sentBytes: Math.round(bytes), droppedPackets: drops };
            call.write({ answer: { $case: 'traffic', value: LinkTraffic.fromPartial(value) } });
          }
        call.end();
      },
    });
    this.#server.addService(IpamServiceService, {
      ...rest(IpamServiceService),
      checkIpam: unary(() => ({ findings: state.findings, notes: [] })),
    });
    this.#server.addService(TraceServiceService, { trace: unary(() => state.trace) });
  }

  /** @param address by default a free one of loopback */
  static async start(state: State, address = '127.0.0.1:0'): Promise<StandIn> {
    const controller = new StandIn(state);
    controller.#address = await listenGrpc(controller.#server, parse(address), undefined);
    return controller;
  }

  get address(): string {
    return this.#address;
  }

  async stop(): Promise<void> {
    await stopGrpc(this.#server, 10);
  }

  /** A page that asks it. */
  async page(secure?: PageOptions['secure']): Promise<PageServer> {
    const source = new Source(() => ({ address: this.#address, tls: undefined }));
    const listen = parse('127.0.0.1:0');
    return await PageServer.start({ listen, source, flag: '--listen', ...(secure && { secure }) });
  }

  /** Tells all watches of a kind. */
  tell(kind: 'node' | 'network' | 'endpoint', object: Node | Network | Endpoint, type = EventType.PUT): void {
    for (const watch of this.#watches.get(kind) ?? []) watch.write({ type, [kind]: object } as never);
  }

  tellEvent(event: Event): void {
    for (const watch of this.#watches.get('event') ?? []) watch.write(event as never);
  }

  #serve<M extends Message>(kind: string, all: () => readonly object[]): (call: Watch<M>) => void {
    return (call) => {
      this.asked += 1;
      for (const object of all()) call.write({ type: EventType.PUT, [kind]: object } as unknown as M);
      call.write({ type: EventType.SYNCED } as M);
      this.#add(kind, call);
    };
  }

  #add(kind: string, call: Watch<never>): void {
    const watches = this.#watches.get(kind) ?? new Set();
    this.#watches.set(kind, watches.add(call));
    for (const event of ['cancelled', 'close', 'error'] as const)
      call.once(event, () => watches.delete(call));
  }
}
