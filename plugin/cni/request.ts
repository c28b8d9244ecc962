// A runtime's call, parsed once: the environment and the network's configuration.
//
// The shim sends both as a form. Go writes the configuration, so that a list or an object may be null; names of keys inside
// `runtimeConfig` differ between runtimes in their case alone.
import * as z from 'zod';

import { parseMac } from '../../core/address.js';
import { isLinkName } from '../../core/objects/index.js';
import { CniError, CODE } from './errors.js';

export const COMMANDS = ['ADD', 'DEL', 'CHECK', 'STATUS', 'GC'] as const;
export type CniCommand = (typeof COMMANDS)[number];

export const VERSIONS = ['0.4.0', '1.0.0', '1.1.0'] as const;
export type CniVersion = (typeof VERSIONS)[number];

/** What names an attachment. */
export interface AttachmentId {
  /** Of the configuration, not weft's. */
  network: string;
  containerId: string;
  ifname: string;
}

export type Conf = z.output<typeof confSchema>;

export interface CniRequest {
  command: CniCommand;
  /** As the configuration writes it, for the answer. */
  version: string;
  conf: Conf;
  /** Empty for STATUS and GC. */
  id: AttachmentId;
  /** CNI_NETNS; empty if the runtime has none any more. */
  netns: string;
  /** CNI_ARGS. */
  args: ReadonlyMap<string, string>;
  /** Name of the runtime's program, as far as it is known. */
  runtime: string;
}

/** The specification's names of networks and containers. */
const NAME = /^[A-Za-z0-9][A-Za-z0-9_.-]*$/;
const MAX_NAME = 253;

const text = z.string({ error: 'expected a text' });
const nothing = <T extends z.ZodType>(inner: T) => inner.nullish().transform((value) => value ?? undefined);
const address = z.object({ address: text.optional() });

/** Of the whole chain of plugins. */
export const RESULT = z.object({
  ips: nothing(z.array(address)),
  interfaces: nothing(z.array(z.object({ name: nothing(text), mac: nothing(text), sandbox: nothing(text) }))),
});

const confSchema = z.object({
  cniVersion: nothing(text),
  name: text.regex(NAME, 'expected a network’s name: letters, digits, _ . and -').max(MAX_NAME),
  type: nothing(text),
  /** weft's network; absent: of the same name. */
  network: nothing(text),
  defaultRoute: nothing(z.boolean({ error: 'expected true or false' })),
  ifMac: nothing(
    text.refine((value) => isMac(value), { error: 'expected a MAC address such as 02:42:ac:11:00:02' }),
  ),
  ipam: nothing(z.object({ type: nothing(text), network: nothing(text) })),
  dns: nothing(
    z.object({
      nameservers: nothing(z.array(text)),
      domain: nothing(text),
      search: nothing(z.array(text)),
      options: nothing(z.array(text)),
    }),
  ),
  runtimeConfig: nothing(z.record(z.string(), z.unknown(), { error: 'expected an object' })),
  prevResult: nothing(RESULT),
  'cni.dev/valid-attachments': nothing(z.array(z.object({ containerID: text, ifname: text }))),
  'cni.dev/attachments': nothing(z.array(z.object({ containerID: text, ifname: text }))),
});

function isMac(value: string): boolean {
  try {
    parseMac(value);
    return true;
  } catch {
    return false;
  }
}

/** The version for an answer to a request that cannot be read. */
export const FALLBACK_VERSION: CniVersion = '1.0.0';

export const isVersion = (version: string): version is CniVersion =>
  VERSIONS.some((known) => known === version);

/** The version that a body names, whatever else is wrong with it. */
export function versionIn(body: string): string {
  const conf = new URLSearchParams(body).get('conf') ?? '';
  const found = /"cniVersion"\s*:\s*"([0-9.]{1,16})"/.exec(conf)?.[1];
  return found ?? FALLBACK_VERSION;
}

/** @throws CniError with the field that is wrong */
export function parseRequest(body: string): CniRequest {
  const form = new URLSearchParams(body);
  const value = (name: string): string => form.get(name) ?? '';
  const command = COMMANDS.find((known) => known === value('command'));
  if (command === undefined) {
    throw new CniError(
      CODE.environment,
      `CNI_COMMAND is "${shown(value('command'))}"`,
      `It is one of ${COMMANDS.join(', ')}, VERSION.`,
    );
  }
  const conf = parseConf(value('conf'));
  const version = conf.cniVersion ?? '';
  // A container is released whatever its configuration says.
  if (command !== 'DEL' && !isVersion(version)) {
    throw new CniError(
      CODE.version,
      `cniVersion "${shown(version)}" is not known`,
      `weft has ${VERSIONS.join(', ')}.`,
    );
  }
  const hasContainer = command !== 'STATUS' && command !== 'GC';
  const netns = value('netns');
  if (command === 'ADD' || command === 'CHECK') checkPath(netns);
  return {
    ...{ command, version, conf, netns },
    id: {
      network: conf.name,
      containerId: hasContainer ? containerIdOf(value('id')) : '',
      ifname: hasContainer ? ifnameOf(value('ifname')) : '',
    },
    args: parseArgs(value('args')),
    runtime: value('runtime'),
  };
}

function parseConf(text: string): Conf {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw new CniError(
      CODE.decode,
      text.trim() === ''
        ? 'there is no configuration on standard input'
        : 'the configuration on standard input is not JSON',
      'A runtime writes one plugin’s object there.',
      { cause: error },
    );
  }
  const parsed = confSchema.safeParse(json);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const field = issue?.path.map(String).join('.') ?? '';
  throw new CniError(
    CODE.config,
    `the configuration is wrong${field === '' ? '' : ` at ${shown(field)}`}: ${issue?.message ?? ''}`,
    'Correct its file in /etc/cni/net.d.',
  );
}

function containerIdOf(id: string): string {
  if (NAME.test(id) && id.length <= MAX_NAME) return id;
  throw new CniError(
    CODE.environment,
    id === '' ? 'CNI_CONTAINERID is not set' : `CNI_CONTAINERID "${shown(id)}" is no id`,
    `An id has letters, digits, _ . and -, at most ${MAX_NAME}.`,
  );
}

function ifnameOf(ifname: string): string {
  if (isLinkName(ifname) && ifname !== 'lo') return ifname;
  throw new CniError(
    CODE.environment,
    ifname === '' ? 'CNI_IFNAME is not set' : `CNI_IFNAME "${shown(ifname)}" is no interface’s name`,
    'Use a name such as eth0: at most 15 characters, no spaces, no / : or %.',
  );
}

function checkPath(netns: string): void {
  if (netns.startsWith('/') && !netns.includes('\0')) return;
  throw new CniError(
    CODE.environment,
    netns === '' ? 'CNI_NETNS is not set' : `CNI_NETNS "${shown(netns)}" is not an absolute path`,
    'It is the path of the container’s network namespace.',
  );
}

/** KEY=VALUE;KEY=VALUE: a value may have further = in it. */
export function parseArgs(text: string): Map<string, string> {
  return new Map(
    text
      .trim()
      .split(';')
      .flatMap((part): [string, string][] => {
        const at = part.indexOf('=');
        return at > 0 ? [[part.slice(0, at).trim(), part.slice(at + 1)]] : [];
      }),
  );
}

const shown = (word: string): string => (word.length <= 64 ? word : `${word.slice(0, 61)}…`);
