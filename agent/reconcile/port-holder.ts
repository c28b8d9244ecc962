// The holder of a tunnel's UDP port: a process, or a tunnel of another program.
import type { Actual } from '../../core/objects/index.js';
import { portOwner } from '../../daemon/port-owner.js';

export interface PortHolder {
  /** The subject of a sentence. */
  who: string;
  /** The next step, without the full stop. */
  fix: string;
}

/** @param actual of the node's namespace */
export async function portHolder(port: number, { objects }: Actual): Promise<PortHolder> {
  const owner = await portOwner('', port, 'udp').catch(() => undefined);
  if (owner !== undefined) return { who: `${owner.command} (pid ${owner.pid})`, fix: 'Stop it' };
  for (const { object, owned } of objects.values()) {
    if (owned || object.kind !== 'link' || !('port' in object) || object.port !== port) continue;
    return {
      who: `link ${object.name}, which weft did not make,`,
      fix: `If nothing uses it any more, delete it: ip link delete ${object.name}`,
    };
  }
  return {
    who: 'a process that this agent cannot see',
    fix: `Find it on the host with ss -aunp 'sport = :${port}' and stop it`,
  };
}
