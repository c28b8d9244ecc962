// Specs of the driver overlay: checks and defaults.
import type { Backend } from '../backends/backend.js';
import { backendOf, BACKEND_TYPES, DEFAULT_BACKEND } from '../backends/index.js';
import { invalidArgument } from '../errors.js';
import {
  checkUsable,
  flagOf,
  parseHostPrefix,
  parseMtu,
  parseNetworkName,
  parseRange,
  securityOf,
  type NetworkSpec,
  type OverlayNetwork,
} from '../network.js';
import { UnreadableError } from '../parse.js';

/** @throws WeftError INVALID_ARGUMENT */
export function parseOverlay(spec: NetworkSpec): OverlayNetwork {
  const name = parseNetworkName(spec.name);
  const six = spec.subnet.family === 6 ? '6' : '';
  checkUsable(spec.subnet, `subnet${six}`);
  const hostPrefix = parseHostPrefix(spec.subnet, spec.hostPrefix, `host-prefix${six}`);
  if (spec.subnet6 !== undefined) {
    if (spec.subnet6.family !== 6 || spec.subnet.family !== 4)
      throw invalidArgument(
        `subnet6: ${spec.subnet.toString()} and ${spec.subnet6.toString()} are no pair`,
        'Give an IPv4 prefix as the subnet and an IPv6 prefix as the other, or one of the two.',
      );
    checkUsable(spec.subnet6, 'subnet6');
  }
  if (spec.subnet6 === undefined && spec.hostPrefix6 !== undefined)
    throw invalidArgument(
      `host-prefix6: ${spec.hostPrefix6} is for a network with a subnet of each family`,
      'Give --subnet6, or leave it out.',
    );
  const hostPrefix6 = spec.subnet6 && parseHostPrefix(spec.subnet6, spec.hostPrefix6, 'host-prefix6');
  const backend = backendOf(spec.backend ?? DEFAULT_BACKEND);
  checkOptions(spec, backend);
  const network = {
    name,
    driver: 'overlay',
    backend: backend.type,
    subnet: spec.subnet,
    hostPrefix,
    range: parseRange(spec.subnet, hostPrefix, undefined, undefined),
    ...(spec.subnet6 !== undefined &&
      hostPrefix6 !== undefined && {
        subnet6: spec.subnet6,
        hostPrefix6,
        range6: parseRange(spec.subnet6, hostPrefix6, undefined, undefined),
      }),
    ...readable(() => backend.parse(spec, wordsIn(spec, backend))),
    ...(spec.mtu !== undefined && { mtu: parseMtu(spec.mtu, (spec.subnet6 ?? spec.subnet).family === 6) }),
    internal: spec.internal ?? false,
    masquerade: spec.masquerade ?? true,
    ...(spec.force === true && { force: true }),
    ...securityOf(spec),
    ...(spec.madeBy !== undefined && { madeBy: spec.madeBy }),
  } as OverlayNetwork;
  const why = backend.refuses(network);
  if (why === undefined) return network;
  throw invalidArgument(
    `backend: network ${name} cannot have ${backend.type}: ${why}`,
    'Choose another backend.',
  );
}

/** Options of other backends are refused. @throws WeftError INVALID_ARGUMENT */
function checkOptions(spec: NetworkSpec, { type, options, summary }: Backend): void {
  for (const option of new Set(BACKEND_TYPES.flatMap((other) => backendOf(other).options))) {
    if (spec[option] === undefined || spec[option] === false || options.includes(option)) continue;
    const others = BACKEND_TYPES.filter((other) => backendOf(other).options.includes(option));
    throw invalidArgument(
      `${flagOf(option)}: the backend ${type} has none: it ${summary}`,
      `Leave it out, or give --backend ${others.join(' or ')}.`,
    );
  }
}

/** The backend's words among the given options, as JSON has them. @throws WeftError INVALID_ARGUMENT */
function wordsIn({ backendOptions = {} }: NetworkSpec, { type, words }: Backend): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(backendOptions).map(([key, text]) => {
      const word = words.find((known) => known.toLowerCase() === key.toLowerCase());
      if (word !== undefined) return [word, jsonOf(text)];
      const known = words.length === 0 ? 'It has none' : `It has ${words.join(', ')}`;
      throw invalidArgument(`backend-option: the backend ${type} has no ${key}`, `${known}.`);
    }),
  );
}

/** true, 25 and ["a"] are JSON; all else is text, as people write it without quotation marks. */
function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

function readable<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof UnreadableError)) throw error;
    throw invalidArgument(`backend-option: ${error.message}`, 'See docs/backends.md.', { cause: error });
  }
}
