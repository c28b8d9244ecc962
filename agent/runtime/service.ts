// gRPC service for containers of `weft run`.
import type { Server } from '@grpc/grpc-js';

import { invalidArgument } from '../../core/errors.js';
import type { Endpoint } from '../../core/records.js';
import { unary } from '../../daemon/grpc.js';
import {
  RuntimeServiceService,
  type Container,
  type ContainerRequest,
  type ListContainersRequest,
  type RemoveContainerRequest,
  type RunRequest,
  type StopContainerRequest,
} from '../../proto/gen/weft/v1/runtime.js';
import type { Endpoint as EndpointMessage } from '../../proto/gen/weft/v1/types.js';
import type { ContainerView } from './container-view.js';
import type { Containers } from './containers.js';
import { parseRun } from './run-request.js';

/** A year; a longer time is a mistake, and exceeds what a timer of JavaScript can wait. */
const MAX_STOP_SECONDS = 366 * 24 * 3600;

export function mountRuntime(
  server: Server,
  containers: Containers,
  toMessage: (endpoint: Endpoint) => EndpointMessage,
  changed: () => void,
): void {
  const shape = (view: ContainerView): Container => {
    changed();
    return containerOf(view, toMessage);
  };
  server.addService(RuntimeServiceService, {
    run: unary(async (request: RunRequest) => shape(await containers.run(parseRun(request)))),
    settle: unary(async ({ name }: ContainerRequest) => shape(await containers.settle(name))),
    listContainers: unary(({ all }: ListContainersRequest) => ({
      containers: containers.list(all).map((view) => containerOf(view, toMessage)),
    })),
    getContainer: unary(({ name }: ContainerRequest) => containerOf(containers.get(name), toMessage)),
    stopContainer: unary(async ({ name, seconds }: StopContainerRequest) => {
      if (seconds !== undefined && seconds > MAX_STOP_SECONDS)
        throw invalidArgument(`time: ${seconds} s is out of range`, `Give at most ${MAX_STOP_SECONDS}.`);
      return shape(await containers.stopContainer(name, seconds));
    }),
    startContainer: unary(async ({ name }: ContainerRequest) => shape(await containers.start(name))),
    removeContainer: unary(async ({ name, force }: RemoveContainerRequest) =>
      shape(await containers.remove(name, force)),
    ),
  });
}

function containerOf(view: ContainerView, toMessage: (endpoint: Endpoint) => EndpointMessage): Container {
  const { record, phase, pid, log, endpoints, launch } = view;
  return {
    id: record.id,
    name: record.name,
    network: record.network,
    state: phase ?? '',
    pid,
    exitCode: record.exitCode ?? undefined,
    command: record.command,
    restart: record.restart,
    remove: record.remove,
    detached: record.detached,
    restarts: record.restarts,
    createdAt: record.createdAt,
    startedAt: record.startedAt,
    finishedAt: record.finishedAt,
    log: record.detached ? log : '',
    endpoints: endpoints.map(toMessage),
    launch: launch === undefined ? undefined : { ...launch, join: launch.join, log: launch.log },
    error: record.error ?? '',
  };
}
