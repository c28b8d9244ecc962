// What can be wrong with a call, found before anybody is asked. The services check again, for other callers.
import { InvalidArgumentError } from 'commander';

import { IpAddress, IpNetwork, parseMac, type Family } from '../core/address.js';
import { formatVlans, parseParent, parseVlans } from '../core/bridged.js';
import { invalidArgument, WeftError } from '../core/errors.js';
import { checkUsable, parseInteger, parseName, parseNetworkName } from '../core/network.js';
import { MAX_LINK_NAME } from '../core/objects.js';

/** For commander: the error names the option itself. */
const checked =
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

/** VLAN ids and ranges of them, as they were written. */
export const vlansOf = checked((text) => formatVlans(parseVlans(text)));

export const mac = checked((text) => parseMac(text));
export const networkName = checked(parseNetworkName);
export const name = (field = 'name'): ((text: string) => string) => checked((text) => parseName(text, field));

/** Collects a repeated option. */
export const names =
  (field: string) =>
  (text: string, before: string[] = []): string[] => [...before, name(field)(text)];

export const ifname = checked((text) => {
  if (text.length > MAX_LINK_NAME) {
    throw invalidArgument(
      `ifname: "${text}" is too long (${text.length} characters)`,
      `Interface names have at most ${MAX_LINK_NAME} characters.`,
    );
  }
  if (!/^[\x21-\x7e]+$/.test(text) || /[/:%]/.test(text) || ['.', '..', 'lo'].includes(text)) {
    throw invalidArgument(`ifname: "${text}" is not an interface name`, 'Use a name such as eth0.');
  }
  return text;
});

export const target = checked((text) => {
  const [, kind, rest = ''] = /^(netns|pid|docker):(.*)$/s.exec(text) ?? [];
  const word = /^[A-Za-z0-9][A-Za-z0-9_.-]*$/;
  const right =
    kind === undefined
      ? word.test(text)
      : kind === 'netns'
        ? rest.startsWith('/')
        : kind === 'pid'
          ? /^[1-9]\d{0,9}$/.test(rest)
          : word.test(rest);
  if (!right)
    throw invalidArgument(
      `target: "${text}" is not a target`,
      'Write netns:/PATH, pid:N, docker:NAME or a plain name.',
    );
  return text;
});
