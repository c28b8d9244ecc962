// What a runtime asks for, for one container, by whichever plugin: names, addresses, ports.
import { IpAddress } from '../core/address.js';
import { invalidArgument } from '../core/errors.js';
import { ANY_HOST_IP, MAX_PORTS, type PublishRequest } from '../core/publish.js';
import type { SandboxRequest } from '../daemon/plugin-host.js';

export interface ContainerWishes extends Pick<SandboxRequest, 'aliases' | 'ip' | 'ip6' | 'mac' | 'publish'> {
  name: string;
}

/** Addresses with a prefix length or without: weft's networks have their own. @throws WeftError INVALID_ARGUMENT */
export function parseAddresses(words: readonly string[], field: string): Pick<ContainerWishes, 'ip' | 'ip6'> {
  const found: { ip?: IpAddress; ip6?: IpAddress } = {};
  for (const word of words) {
    const ip = IpAddress.parse(word.split('/')[0] ?? '', field);
    const family = ip.family === 4 ? 'ip' : 'ip6';
    if (found[family] !== undefined && !found[family].equals(ip)) {
      throw invalidArgument(
        `two IPv${ip.family} addresses are asked for, ${found[family].toString()} and ${ip.toString()}`,
        'A container has one address of a family on a network.',
      );
    }
    found[family] = ip;
  }
  return found;
}

export interface PortMapping {
  /** Empty: every address of the host. */
  hostIp: string;
  /** 0: a container's port that is told, not published. */
  hostPort: number;
  port: number;
  /** Empty: tcp. */
  protocol: string;
}

/** @param field that has the addresses of the host @throws WeftError INVALID_ARGUMENT */
export function parsePorts(mappings: readonly PortMapping[], field: string): PublishRequest[] {
  checkPorts(mappings.length);
  return mappings.flatMap(({ hostIp, hostPort, port, protocol }): PublishRequest[] => {
    if (hostPort === 0) return [];
    const name = (protocol || 'tcp').toLowerCase();
    if (name !== 'tcp' && name !== 'udp') {
      throw invalidArgument(
        `port ${port} has protocol ${name.slice(0, 16)}, which weft does not publish`,
        'Publish tcp or udp.',
      );
    }
    return [
      {
        hostIp: hostIp === '' ? ANY_HOST_IP : IpAddress.parse(hostIp, field).toString(),
        hostPorts: { first: hostPort, last: hostPort },
        port,
        protocol: name,
      },
    ];
  });
}

/** @throws WeftError INVALID_ARGUMENT */
export function checkPorts(count: number): void {
  if (count <= MAX_PORTS) return;
  throw invalidArgument(`${count} ports are too many for one container`, `At most ${MAX_PORTS} are allowed.`);
}
