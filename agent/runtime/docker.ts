// Asks a Docker engine where a container's network namespace is. Only that: names and events are for a later door.
import { request } from 'node:http';

import { failedPrecondition, messageOf, notFound, unavailable } from '../../core/errors.js';
import type { EngineAddress } from '../../daemon/kinds.js';

export interface DockerContainer {
  id: string;
  name: string;
  pid: number;
}

const TIMEOUT_MS = 5_000;

/** @throws WeftError UNAVAILABLE where the engine does not answer, FAILED_PRECONDITION where the container does not run */
export async function inspectContainer(
  engine: EngineAddress,
  name: string,
): Promise<DockerContainer | undefined> {
  const { status, body } = await get(engine, `/containers/${encodeURIComponent(name)}/json`);
  if (status === 404) return undefined;
  if (status !== 200)
    throw unavailable(`the Docker engine at ${shown(engine)} answered ${status} for container ${name}`);
  const found = JSON.parse(body) as {
    Id: string;
    Name: string;
    State: { Running: boolean; Pid: number };
    HostConfig?: { NetworkMode?: string };
  };
  if (!found.State.Running || found.State.Pid === 0) {
    throw failedPrecondition(`container ${name} is not running`, `Start it first: docker start ${name}`);
  }
  return { id: found.Id, name: found.Name.replace(/^\//, ''), pid: found.State.Pid };
}

/** @throws WeftError NOT_FOUND */
export async function requireContainer(engine: EngineAddress, name: string): Promise<DockerContainer> {
  const found = await inspectContainer(engine, name);
  if (found !== undefined) return found;
  throw notFound(`there is no Docker container ${name}`, 'See docker ps for those that run.');
}

function get(engine: EngineAddress, path: string): Promise<{ status: number; body: string }> {
  return new Promise((resolve, reject) => {
    const fail = (error: unknown): void =>
      reject(
        unavailable(
          `the Docker engine at ${shown(engine)} does not answer: ${messageOf(error)}`,
          'Start Docker, or name its address with --docker.',
          { cause: error },
        ),
      );
    const call = request({ ...engine, path, method: 'GET', timeout: TIMEOUT_MS }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('error', fail);
      response.on('end', () =>
        resolve({ status: response.statusCode ?? 0, body: Buffer.concat(chunks).toString() }),
      );
    });
    call.on('timeout', () => call.destroy(new Error(`no answer within ${TIMEOUT_MS / 1000} s`)));
    call.on('error', fail);
    call.end();
  });
}

const shown = (engine: EngineAddress): string =>
  'socketPath' in engine ? engine.socketPath : `${engine.host}:${engine.port}`;
