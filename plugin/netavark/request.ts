// podman's calls of a netavark plugin, parsed once: create, setup, teardown.
//
// The shim sends the command, the namespace and podman's JSON as a form.
import * as z from 'zod';

import { parseMac } from '../../core/address.js';
import { invalidArgument } from '../../core/errors.js';
import { isName, parseAliases } from '../../core/network.js';
import type { PublishRequest } from '../../core/publish.js';
import { parseIfname } from '../../core/target.js';
import { checkPorts, parseAddresses, parsePorts, type ContainerWishes } from '../container-wishes.js';

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
      aliases: parseAliases((options.aliases ?? []).filter(isName)),
      ...parseAddresses(options.static_ips ?? [], 'static_ips'),
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

type Mapping = NonNullable<z.output<typeof setupSchema>['port_mappings']>[number];

function publishOf(mappings: readonly Mapping[]): PublishRequest[] {
  const counted = mappings.map(({ range, protocol, ...rest }) => ({
    ...rest,
    range: Math.max(1, range ?? 1),
    protocols: protocol.split(','),
  }));
  // Few words can stand for very many ports.
  checkPorts(counted.reduce((sum, { range, protocols }) => sum + range * protocols.length, 0));
  const all = counted.flatMap(({ container_port, host_port, host_ip: hostIp, protocols, range }) =>
    protocols.flatMap((protocol) =>
      Array.from({ length: range }, (_, n) => ({
        ...{ hostIp, protocol, port: container_port + n },
        hostPort: host_port === 0 ? 0 : host_port + n,
      })),
    ),
  );
  const tooHigh = all.find(({ port, hostPort }) => port > 65_535 || hostPort > 65_535);
  if (tooHigh !== undefined)
    throw invalidArgument(
      `port_mappings: the port ${Math.max(tooHigh.port, tooHigh.hostPort)} is too high`,
      'Ports end with 65535.',
    );
  return parsePorts(all, 'host_ip');
}
