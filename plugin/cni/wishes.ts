// What a runtime wishes for a container: ports, addresses, names, labels.
//
// From `runtimeConfig`, of which only the capabilities come that the configuration declares, and from CNI_ARGS.
import * as z from 'zod';

import { IpNetwork, parseMac } from '../../core/address.js';
import { isLabelKey, isLabelValue, MAX_LABELS, type Labels } from '../../core/labels.js';
import { isName, parseAliases } from '../../core/network.js';
import { parseAddresses, parsePorts, type ContainerWishes } from '../container-wishes.js';
import { CniError, CODE } from './errors.js';
import type { CniRequest } from './request.js';

export interface Wishes extends ContainerWishes {
  labels: Labels;
  /** Name servers that the runtime sets. */
  dns?: { nameservers: string[]; search: string[]; options: string[] };
  /** Addresses must be of these. */
  ranges: Range[];
}

export interface Range {
  subnet: IpNetwork;
  /** It names addresses inside the subnet, and weft gives any. */
  isPart: boolean;
}

const text = z.string({ error: 'expected a text' });
const port = z.int().min(0).max(65_535);
const texts = z
  .array(text)
  .nullish()
  .transform((value) => value ?? []);
const portMapping = z.object({
  hostport: port.nullish(),
  containerport: port.min(1),
  protocol: text.nullish(),
  hostip: text.nullish(),
});
const range = z.object({
  subnet: text,
  rangestart: text.nullish(),
  rangeend: text.nullish(),
  gateway: text.nullish(),
});
const dns = z.object({ servers: texts, searches: texts, options: texts });

/** What a runtime asks of addresses, for an endpoint or for another plugin. */
export type AddressWishes = Pick<Wishes, 'ip' | 'ip6' | 'ranges'>;

type Given = ReadonlyMap<string, unknown>;

const givenIn = ({ conf }: CniRequest): Given =>
  new Map(Object.entries(conf.runtimeConfig ?? {}).map(([key, value]) => [key.toLowerCase(), value]));

function get<T>(given: Given, name: string, schema: z.ZodType<T>): T | undefined {
  const value = given.get(name.toLowerCase());
  return value === undefined || value === null ? undefined : read(name, schema, value);
}

/** @throws CniError, WeftError */
export function addressWishesOf(request: CniRequest): AddressWishes {
  const given = givenIn(request);
  const asked = [request.args.get('IP') ?? '', ...(get(given, 'ips', texts) ?? [])].filter(Boolean);
  const ranges = get(given, 'ipRanges', z.union([z.array(z.array(range)), z.array(range)])) ?? [];
  return { ...parseAddresses(asked, 'ips'), ranges: ranges.flat().map(rangeOf) };
}

/** @throws CniError, WeftError */
export function wishesOf(request: CniRequest): Wishes {
  const given = givenIn(request);
  if (hasLimit(given.get('bandwidth'))) {
    throw new CniError(
      CODE.config,
      'runtimeConfig.bandwidth: weft limits no bandwidth',
      'Leave the capability out of weft’s object, and chain CNI’s plugin bandwidth after it.',
    );
  }
  const mac = get(given, 'mac', text) || request.args.get('MAC') || request.conf.ifMac;
  const wanted = get(given, 'dns', dns);
  return {
    ...addressWishesOf(request),
    name: nameOf(request),
    aliases: aliasesOf(given.get('aliases'), request.conf.name),
    ...(mac !== undefined && { mac: parseMac(mac) }),
    publish: parsePorts(
      (get(given, 'portMappings', z.array(portMapping)) ?? []).map((mapping) => ({
        hostIp: mapping.hostip ?? '',
        hostPort: mapping.hostport ?? 0,
        port: mapping.containerport,
        protocol: mapping.protocol ?? '',
      })),
      'portMappings.hostIP',
    ),
    labels: labelsOf(request),
    ...(wanted !== undefined &&
      wanted.servers.length > 0 && {
        dns: { nameservers: wanted.servers, search: wanted.searches, options: wanted.options },
      }),
  };
}

function read<T>(name: string, schema: z.ZodType<T>, value: unknown): T {
  const parsed = schema.safeParse(lowerKeys(value));
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const path = [name, ...(issue?.path.map(String) ?? [])].join('.').slice(0, 100);
  throw new CniError(CODE.config, `runtimeConfig.${path}: ${issue?.message ?? ''}`);
}

/** Capabilities are objects of few levels; what is deeper is none. */
function lowerKeys(value: unknown, depth = 4): unknown {
  if (depth === 0 || typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) return value.map((one) => lowerKeys(one, depth - 1));
  return Object.fromEntries(
    Object.entries(value).map(([key, inner]) => [key.toLowerCase(), lowerKeys(inner, depth - 1)]),
  );
}

const hasLimit = (value: unknown): boolean =>
  typeof value === 'object' &&
  value !== null &&
  Object.values(value).some((number) => typeof number === 'number' && number > 0);

/** A list, or from podman a list by the network's name. */
function aliasesOf(value: unknown, network: string): string[] {
  if (value === undefined || value === null) return [];
  const isMap = typeof value === 'object' && !Array.isArray(value);
  const list = isMap ? (Object.entries(value).find(([key]) => key === network)?.[1] as unknown) : value;
  return parseAliases(read('aliases', texts, list));
}

function rangeOf({ subnet, rangestart, rangeend }: z.output<typeof range>): Range {
  return {
    subnet: IpNetwork.parse(subnet, 'ipRanges.subnet'),
    isPart: Boolean(rangestart) || Boolean(rangeend),
  };
}

/** Arguments that say what people call the container, the best first. */
const NAMES = ['K8S_POD_NAME', 'NERDCTL_CNI_DHCP_HOSTNAME', 'NOMAD_JOB_ID'] as const;

function nameOf({ args, id }: CniRequest): string {
  const named = NAMES.map((key) => args.get(key) ?? '').find(isName);
  return named ?? id.containerId.slice(0, 63).replace(/[_.-]+$/, '');
}

/** What the runtime tells of the container. The id of a pod's container is the container's id. */
function labelsOf({ id, args, runtime }: CniRequest): Labels {
  const told = [...args].filter(
    ([key]) => /^(?:K8S|NOMAD)_/.test(key) && key !== 'K8S_POD_INFRA_CONTAINER_ID',
  );
  return Object.fromEntries(
    [['cni.runtime', runtime], ['cni.network', id.network], ['cni.container', id.containerId], ...told]
      .filter(([key = '', value = '']) => value !== '' && isLabelKey(key) && isLabelValue(value))
      .slice(0, MAX_LABELS),
  );
}
