// Asks a Docker engine where a container's network namespace is. Names and events are the business of the Docker plugin.
import { failedPrecondition, notFound, unavailable } from '../../core/errors.js';
import { askEngine, shownEngine } from '../../daemon/engine.js';
import type { EngineAddress } from '../../daemon/kinds.js';

export interface DockerContainer {
  id: string;
  name: string;
  pid: number;
}

// Docker 20.10 says this with status 500, later ones with 400.
const AMBIGUOUS = /multiple IDs found with provided prefix/i;

/**
 * The container of a name or an id, or of the beginning of an id that no other has, as Docker understands it.
 * @param whole whether the beginning of an id is not enough
 * @throws WeftError UNAVAILABLE where the engine does not answer, FAILED_PRECONDITION where the container does not run
 */
export async function inspectContainer(
  engine: EngineAddress,
  name: string,
  whole = false,
): Promise<DockerContainer | undefined> {
  const { status, body } = await askEngine(engine, `/containers/${encodeURIComponent(name)}/json`);
  if (status === 404 || (whole && AMBIGUOUS.test(body))) return undefined;
  if (status !== 200)
    throw unavailable(`the Docker engine at ${shownEngine(engine)} answered ${status} for container ${name}`);
  const found = JSON.parse(body) as {
    Id: string;
    Name: string;
    State: { Running: boolean; Pid: number };
  };
  const ownName = found.Name.replace(/^\//, '');
  if (whole && name !== ownName && name !== found.Id) return undefined;
  if (!found.State.Running || found.State.Pid === 0) {
    throw failedPrecondition(`container ${name} is not running`, `Start it first: docker start ${name}`);
  }
  return { id: found.Id, name: ownName, pid: found.State.Pid };
}

/** @throws WeftError NOT_FOUND */
export async function requireContainer(engine: EngineAddress, name: string): Promise<DockerContainer> {
  const found = await inspectContainer(engine, name);
  if (found !== undefined) return found;
  throw notFound(`there is no Docker container ${name}`, 'See docker ps for those that run.');
}
