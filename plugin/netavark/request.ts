// podman's calls of a netavark plugin, parsed once: create, setup, teardown.
//
// The shim sends the command, the namespace and podman's JSON as a form.
import * as z from 'zod';

import { IpAddress, parseMac } from '../../core/address.js';
import { invalidArgument } from '../../core/errors.js';
import { isName } from '../../core/network.js';
import { ANY_HOST_IP, MAX_PORTS, type PublishRequest } from '../../core/publish.js';
import { parseIfname } from '../../core/target.js';
import type { ContainerWishes } from '../attach-sandbox.js';

const text = z.string({ error: 'expected a text' });
const orEmpty = text.nullish().transform((value) => value ?? '');
const nothing = <T extends z.ZodType>(inner: T) => inner.nullish().transform((value) => value ?? undefined);
const port = z.int().min(0).max(65_535);
const words = z
  .record(z.string(), text)
  .nullish()
  .transform((value) => value ?? {});

/** The rest of a network goes back to podman as it came. */
const networkSchema = z.looseObject({
  name: text.min(1).max(253),
  id: orEmpty,
  internal: nothing(z.boolean()),
  subnets: nothing(
    z.array(z.looseObject({ subnet: text, gateway: nothing(text), lease_range: nothing(z.unknown()) })),
  ),
  options: words,
});

const setupSchema = z.object({
  container_id: text.min(1).max(253),
  container_name: orEmpty,
  port_mappings: nothing(
    z.array(
      z.object({
        container_port: port.min(1),
        host_ip: orEmpty,
        host_port: port,
        protocol: orEmpty,
        range: nothing(port),
      }),
    ),
  ),
  network: networkSchema,
  network_options: z.object({
    aliases: nothing(z.array(text)),
    interface_name: text,
    static_ips: nothing(z.array(text)),
    static_mac: nothing(text),
  }),
});

export type PodmanNetwork = z.output<typeof networkSchema>;

export type NetavarkRequest =
  | { command: 'create'; network: PodmanNetwork }
  | { command: 'setup' | 'teardown'; network: PodmanNetwork; netns: string; container: Container };

export interface Container extends ContainerWishes {
  id: string;
  ifname: string;
  runtime: string;
}

/** @throws WeftError INVALID_ARGUMENT with the field that is wrong */
export function parseRequest(body: string): NetavarkRequest {
  const form = new URLSearchParams(body);
  const command = form.get('command') ?? '';
  if (command === 'create') return { command, network: read(networkSchema, form.get('conf') ?? '') };
  if (command !== 'setup' && command !== 'teardown') {
    throw invalidArgument(
      `netavark: "${command.slice(0, 64)}" is no command of a plugin`,
      'Use create, setup, teardown or info.',
    );
  }
  const { network, network_options: options, ...asked } = read(setupSchema, form.get('conf') ?? '');
  const name = isName(asked.container_name) ? asked.container_name : asked.container_id.slice(0, 12);
  return {
    ...{ command, network, netns: form.get('netns') ?? '' },
    container: {
      id: asked.container_id,
      ifname: parseIfname(options.interface_name),
      name,
      aliases: (options.aliases ?? []).filter(isName),
      ...addressesOf(options.static_ips ?? []),
      ...(options.static_mac !== undefined &&
        options.static_mac !== '' && { mac: parseMac(options.static_mac) }),
      publish: command === 'setup' ? publishOf(asked.port_mappings ?? []) : [],
      runtime: form.get('runtime') ?? '',
    },
  };
}

function read<T>(schema: z.ZodType<T>, text: string): T {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw invalidArgument('netavark: standard input is not JSON', 'podman writes the network there.', {
      cause: error,
    });
  }
  const parsed = schema.safeParse(json);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const field = (issue?.path.map(String).join('.') ?? '').slice(0, 100);
  throw invalidArgument(`netavark: ${field === '' ? '' : `${field}: `}${issue?.message ?? ''}`);
}

function addressesOf(asked: readonly string[]): Pick<Container, 'ip' | 'ip6'> {
  const found: { ip?: IpAddress; ip6?: IpAddress } = {};
  for (const word of asked) {
    const ip = IpAddress.parse(word, 'static_ips');
    found[ip.family === 4 ? 'ip' : 'ip6'] = ip;
  }
  return found;
}

type Mapping = NonNullable<z.output<typeof setupSchema>['port_mappings']>[number];

function publishOf(mappings: readonly Mapping[]): PublishRequest[] {
  const publish = mappings.flatMap(({ container_port, host_port, host_ip, protocol, range }) =>
    (protocol === '' ? 'tcp' : protocol).split(',').flatMap((name) =>
      Array.from({ length: Math.max(1, range ?? 1) }, (_, i): PublishRequest => {
        if (name !== 'tcp' && name !== 'udp') {
          throw invalidArgument(
            `port ${container_port} has protocol ${name.slice(0, 16)}, which weft does not publish`,
            'Publish tcp or udp.',
          );
        }
        return {
          hostIp: host_ip === '' ? ANY_HOST_IP : IpAddress.parse(host_ip, 'host_ip').toString(),
          hostPorts: { first: host_port + i, last: host_port + i },
          port: container_port + i,
          protocol: name,
        };
      }),
    ),
  );
  const isTooHigh = publish.some(({ port: to, hostPorts }) => to > 65_535 || (hostPorts?.last ?? 0) > 65_535);
  if (isTooHigh || publish.length > MAX_PORTS) {
    throw invalidArgument(
      'the ports are too many or too high',
      `At most ${MAX_PORTS} ports up to 65535 are allowed.`,
    );
  }
  return publish.filter(({ hostPorts }) => hostPorts?.first !== 0);
}
