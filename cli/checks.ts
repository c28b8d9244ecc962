// Checks of arguments and options, before any call. The services check again, for other callers.
import { resolve } from 'node:path';

import { InvalidArgumentError } from 'commander';

import { IpAddress, IpNetwork, parseMac, type Family } from '../core/address.js';
import { parseAllowedAddress } from '../core/allowed-address.js';
import { parseLabel, parseLabelKey } from '../core/labels.js';
import { parseParent } from '../core/drivers/layer2-spec.js';
import { formatVlans, parseVlans } from '../core/drivers/vlan-ids.js';
import { invalidArgument, WeftError } from '../core/errors.js';
import { parseEventObject } from '../core/events.js';
import { checkUsable, parseInteger, parseName, parseNetworkName } from '../core/network.js';
import { parseDnsName, parseNameAddress, parseRecordType } from '../core/names.js';
import { parseNewNetworkName } from '../core/run.js';
import { parseIfname, parseTarget } from '../core/target.js';
import { parsePublish, parsePublishedFilter } from '../core/publish.js';
import { parseBackend } from '../daemon/backend.js';
import { addresses, duration, etcdUrls, hostPort, path } from '../daemon/kinds.js';

/** For commander: the error names the option itself. */
export const checked =
  <T>(parse: (text: string) => T) =>
  (text: string): T => {
    try {
      return parse(text);
    } catch (error) {
      if (!(error instanceof WeftError)) throw error;
      throw new InvalidArgumentError([error.message, error.next ?? ''].join('\n').trim());
    }
  };

export const integer = (field: string, min: number, max: number): ((text: string) => number) =>
  checked((text) => {
    if (/^\d+$/.test(text)) return parseInteger(Number(text), field, min, max);
    throw invalidArgument(
      `${field}: "${text}" is not a whole number`,
      `Give a whole number from ${min} to ${max}.`,
    );
  });

export const subnetOf = (family: Family, field: string): ((text: string) => string) =>
  checked((text) => {
    const subnet = IpNetwork.parse(text, field);
    if (subnet.family !== family) throw invalidArgument(`${field}: ${text} is not an IPv${family} prefix`);
    checkUsable(subnet, field);
    return subnet.toString();
  });

export const ipOf = (family: Family, field: string): ((text: string) => string) =>
  checked((text) => {
    const ip = IpAddress.parse(text, field);
    if (ip.family !== family) throw invalidArgument(`${field}: ${text} is not an IPv${family} address`);
    return ip.toString();
  });

/** A part of a subnet: any prefix of IPv4. */
export const rangeOf = checked((text) => {
  const range = IpNetwork.parse(text, 'range');
  if (range.family !== 4) throw invalidArgument(`range: ${text} is not an IPv4 prefix`);
  return range.toString();
});

export const parentOf = checked(parseParent);

/** VLAN ids and ranges, as written. */
export const vlansOf = checked((text) => formatVlans(parseVlans(text)));

export const backend = checked(parseBackend);
export const mac = checked((text) => parseMac(text));
export const networkName = checked(parseNetworkName);
/** Collects a repeated option. */
export const networkNames = (text: string, before: string[] = []): string[] => [
  ...before,
  checked(parseNetworkName)(text),
];
export const absolutePath = checked((text) => path('PATH').parse(text, 'path'));
/** Of a file, for a daemon that runs elsewhere. */
export const filePath = (text: string): string => resolve(text);
export const etcdList = checked((text) => [...etcdUrls.parse(text, 'etcd')]);
export const newNetworkName = checked(parseNewNetworkName);
export const name = (field = 'name'): ((text: string) => string) => checked((text) => parseName(text, field));

export const recordType = checked(parseRecordType);
export const dnsName = checked((text) => parseDnsName(text));

/** Collects a repeated argument. */
export const ipList = (text: string, before: string[] = []): string[] => [
  ...before,
  checked((word) => parseNameAddress(word).toString())(text),
];

/** Addresses with commas between them. */
export const addressList = checked((text) => addresses.parse(text, 'advertise').map(String));

export const lookupName = checked((text) => {
  const labels = text.replace(/\.$/, '').split('.');
  const address = IpAddress.tryParse(text) !== undefined;
  if (!address && (text.length > 254 || labels.some((label) => !/^[\x21-\x7e]{1,63}$/.test(label))))
    throw invalidArgument(
      `name: "${text}" is not a name that can be asked for`,
      'Write it as db or db.blue.weft.',
    );
  return text;
});

/** Collects a repeated option. */
export const names =
  (field: string) =>
  (text: string, before: string[] = []): string[] => [...before, name(field)(text)];

/** Collects repeated labels: KEY=VALUE. */
export const labels = (text: string, before: Record<string, string> = {}): Record<string, string> => ({
  ...before,
  ...Object.fromEntries([checked(parseLabel)(text)]),
});

/** Labels that are given, KEY=VALUE, and taken away, KEY-. */
export interface LabelChanges {
  given: Record<string, string>;
  taken: string[];
}

/** Collects repeated changes of labels. */
export const labelChanges = (text: string, before: LabelChanges = { given: {}, taken: [] }): LabelChanges =>
  text.endsWith('-') && !text.includes('=')
    ? { ...before, taken: [...before.taken, checked(parseLabelKey)(text.slice(0, -1))] }
    : { ...before, given: labels(text, before.given) };

/** Collects a repeated --publish, or the arguments of `weft port publish`. */
export const publishes = (text: string, before: string[] = []): string[] => [...before, publishSpec(text)];
const publishSpec = checked((text) => {
  parsePublish(text);
  return text;
});

/** The arguments of `weft port rm`. */
export const published = (text: string, before: string[] = []): string[] => [...before, publishedSpec(text)];
const publishedSpec = checked((text) => {
  parsePublishedFilter(text);
  return text;
});

export const prefixes = (text: string, before: string[] = []): string[] => [...before, allowedPrefix(text)];
const allowedPrefix = checked(parseAllowedAddress);

/** The same, or none. */
export const prefixesOrNone = (text: string, before: string[] = []): string[] =>
  text === 'none' ? before : prefixes(text, before);

/** A setting that is on or off. */
export const onOff = (field: string): ((text: string) => boolean) =>
  checked((text) => {
    if (text === 'on' || text === 'off') return text === 'on';
    throw invalidArgument(`${field}: "${text}" is neither on nor off`, 'Give on or off.');
  });

export const ifname = checked(parseIfname);
export const target = checked((text) => {
  parseTarget(text);
  return text;
});

/** Whole seconds. @param limits in milliseconds */
export const secondsOf = (field: string, limits: { min: number; max: number }): ((text: string) => number) =>
  checked((text) => duration({ ...limits, wholeSeconds: true }).parse(text, field).seconds);

/** Milliseconds. */
export const spanOf = checked((text) => duration({ min: 1, max: 365 * 86_400_000 }).parse(text, 'since').ms);

export const eventObjectOf = checked((text) => {
  parseEventObject(text, 'for');
  return text;
});

export const controllerOf = checked((text) => hostPort({ listen: false }).parse(text, 'HOST:PORT').text);
