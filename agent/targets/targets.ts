// Resolves a TARGET to its namespace, canonical text and name.
import { existsSync } from 'node:fs';
import { basename, join } from 'node:path';

import { notFound, WeftError } from '../../core/errors.js';
import { NETNS_DIRECTORY, normalNetns, parseTarget } from '../../core/target.js';
import type { EngineAddress } from '../../daemon/kinds.js';
import { inspectContainer, requireContainer, type DockerContainer } from './docker.js';

export interface Target {
  /** netns:/run/netns/c1, pid:4711, docker:NAME or run:NAME. */
  canonical: string;
  /** The path of the namespace. */
  path: string;
  /** The name of the namespace or container, as a valid endpoint name. */
  name: string;
}

/** Finds a container of `weft run` by name. @throws WeftError FAILED_PRECONDITION where one does not run now */
export type RunLookup = (name: string) => Target | undefined;

/**
 * @param text netns:/PATH, pid:N, docker:NAME (or an id or its prefix), run:NAME, or a bare word: a Docker container of
 * that name or id, else a namespace, else a container of `weft run`
 * @param engine address of the Docker engine
 * @throws WeftError INVALID_ARGUMENT, NOT_FOUND, FAILED_PRECONDITION, UNAVAILABLE
 */
export async function resolveTarget(
  text: string,
  engine: EngineAddress,
  runs: RunLookup = () => undefined,
): Promise<Target> {
  const { kind, rest } = parseTarget(text);
  switch (kind) {
    case 'netns':
      return namespaceTarget(rest);
    case 'pid':
      return { canonical: `pid:${rest}`, path: `/proc/${rest}/ns/net`, name: `pid-${rest}` };
    case 'docker':
      return dockerTarget(await requireContainer(engine, rest));
    case 'run': {
      const run = runs(rest);
      if (run !== undefined) return run;
      throw notFound(`weft runs no container ${rest} on this node`, 'See `weft ps`.');
    }
    case 'word': {
      const container = await containerOf(rest, engine);
      if (container !== undefined) return dockerTarget(container);
      const path = join(NETNS_DIRECTORY, rest);
      if (existsSync(path)) return namespaceTarget(path);
      const run = runs(rest);
      if (run !== undefined) return run;
      throw notFound(
        `there is no container ${rest}: no Docker container and no ${path}`,
        'Name it as netns:/PATH, pid:N, docker:NAME or run:NAME; see `ip netns`, `docker ps` and `weft ps`.',
      );
    }
  }
}

function namespaceTarget(path: string): Target {
  const normal = normalNetns(path);
  return { canonical: `netns:${normal}`, path: normal, name: grammatical(basename(normal)) };
}

function dockerTarget({ name, pid }: DockerContainer): Target {
  return { canonical: `docker:${name}`, path: `/proc/${pid}/ns/net`, name: grammatical(name) };
}

/**
 * A bare word never means an id prefix, which could be any container's. Without an engine on this host it means a namespace.
 */
async function containerOf(name: string, engine: EngineAddress): Promise<DockerContainer | undefined> {
  if ('socketPath' in engine && !existsSync(engine.socketPath)) return undefined;
  try {
    return await inspectContainer(engine, name, true);
  } catch (error) {
    if (error instanceof WeftError && existsSync(join(NETNS_DIRECTORY, name))) return undefined;
    throw error;
  }
}

/** A name from elsewhere may have characters that are invalid in an endpoint's name. */
function grammatical(name: string): string {
  const cleaned = name
    .replace(/[^A-Za-z0-9_.-]/g, '-')
    .replace(/^[^A-Za-z0-9]+/, '')
    .slice(0, 128);
  return cleaned === '' ? 'container' : cleaned;
}
