// Asks a Docker engine for a container's network namespace.
import * as z from 'zod';

import { failedPrecondition, notFound, unavailable } from '../../core/errors.js';
import { askEngine, shownEngine } from '../../daemon/engine.js';
import type { EngineAddress } from '../../daemon/kinds.js';

export interface DockerContainer {
  id: string;
  name: string;
  pid: number;
}

// Docker 20.10 sends this with status 500, later versions with 400.
const AMBIGUOUS = /multiple IDs found with provided prefix/i;

/**
 * Finds a container by name, id or unique id prefix, as Docker does.
 * @param whole whether an id prefix is not enough
 * @throws WeftError UNAVAILABLE or PERMISSION_DENIED where the engine cannot be asked, FAILED_PRECONDITION where the container does not run
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
  const found = parseContainer(body);
  if (found === undefined) {
    throw unavailable(
      `what answers at ${shownEngine(engine)} is no Docker engine: it describes container ${name} with ${JSON.stringify(body.slice(0, 60))}`,
      'Name the address of a Docker engine with --docker.',
    );
  }
  const ownName = found.Name.replace(/^\//, '');
  if (whole && name !== ownName && name !== found.Id) return undefined;
  if (!found.State.Running || found.State.Pid === 0) {
    throw failedPrecondition(`container ${name} is not running`, `Start it first: docker start ${name}`);
  }
  return { id: found.Id, name: ownName, pid: found.State.Pid };
}

/** GET /containers/{id}/json, as far as weft needs it (Docker Engine API 1.24 and later). */
const container = z.object({
  Id: z.string(),
  Name: z.string(),
  State: z.object({ Running: z.boolean(), Pid: z.number() }),
});

function parseContainer(body: string): z.infer<typeof container> | undefined {
  try {
    return container.safeParse(JSON.parse(body)).data;
  } catch {
    return undefined;
  }
}

/** @throws WeftError NOT_FOUND */
export async function requireContainer(engine: EngineAddress, name: string): Promise<DockerContainer> {
  const found = await inspectContainer(engine, name);
  if (found !== undefined) return found;
  throw notFound(`there is no Docker container ${name}`, 'See docker ps for those that run.');
}
