// Parses pipework's command line, so that existing scripts keep working.
//
// What a call means, or why weft does not support it. Options have one fixed order, which is how pipework told them from the
// other words:
//
//   [--force] HOSTIF [-i IF] [-l IF] [-a 4|6] GUEST IP/LEN[@GATEWAY]|0/0 [MAC|U:TEXT][@VLAN]
//   --detach HOSTIF [-i IF] GUEST
//   --wait [-i IF]
import { createHash } from 'node:crypto';

import { IpAddress, parseInterface, parseMac, type Family } from './address.js';
import { parseVlan } from './drivers/vlan-ids.js';
import { invalidArgument, unimplemented, type WeftError } from './errors.js';
import { isLinkName, MAX_LINK_NAME } from './objects/index.js';

export type PipeworkCall = PipeworkWait | PipeworkList | PipeworkAttach | PipeworkDetach;

/** Waits until an interface of the caller's own namespace has a carrier. */
export interface PipeworkWait {
  do: 'wait';
  ifname: string;
}

/** What calls have made on this host; weft's own option. */
export interface PipeworkList {
  do: 'list';
}

/** Deletes what a call made; weft's own option, since pipework had none. */
export interface PipeworkDetach extends Pick<PipeworkAttach, 'host' | 'guest' | 'ifname'> {
  do: 'detach';
}

export interface PipeworkAttach {
  do: 'attach';
  /** The host's link, by name or MAC address. */
  host: { name: string } | { mac: string };
  /** The container: a name, or any TARGET of weft's. */
  guest: string;
  /** Name in the container. */
  ifname: string;
  /** Name of the host's end. */
  hostIfname?: string;
  /** With prefix length; absent for 0/0: the interface is brought up without an address. */
  address?: string;
  /** Replaces the container's default route. */
  gateway?: string;
  mac?: string;
  vlan?: number;
  /** Also where the host's interface carries the underlay, or another container on the bridge has the address. weft's own option: pipework did not move addresses off interfaces. */
  force?: true;
}

export const PIPEWORK_SYNTAX = [
  'weft pipework [--force] HOSTIF [-i IF] [-l IF] [-a 4|6] GUEST IP/LEN[@GATEWAY]|0/0 [MAC|U:TEXT][@VLAN]',
  'weft pipework --detach HOSTIF [-i IF] GUEST',
  'weft pipework --wait [-i IF]',
  'weft pipework --list',
] as const;

const usage = (cause: string): WeftError =>
  invalidArgument(`pipework: ${cause}`, `Write: ${PIPEWORK_SYNTAX[0]}`);

const DEFAULT_IFNAME = 'eth1';

/** @throws WeftError INVALID_ARGUMENT for a wrong call; UNIMPLEMENTED for what weft does not support, with the alternative */
export function parsePipework(argv: readonly string[]): PipeworkCall {
  const words = new Words(argv);
  if (words.take('--list')) {
    words.end();
    return { do: 'list' };
  }
  if (words.take('--wait')) {
    const ifname = words.option('-i') ?? DEFAULT_IFNAME;
    words.end();
    return { do: 'wait', ifname: parseLinkName(ifname, '-i') };
  }
  if (words.take('--direct-phys')) {
    throw unimplemented(
      'pipework: --direct-phys would move the interface itself into the container, and weft could not recover it when the container has ended',
      'Leave it out: the container then shares that interface’s network with the host.',
    );
  }
  const detach = words.take('--detach');
  const force = !detach && words.takeAnywhere('--force');
  const hostif = words.next('the host’s interface');
  refuseKind(hostif);
  const host = hostif.startsWith('mac:')
    ? { mac: parseMac(hostif.slice('mac:'.length)) }
    : { name: parseLinkName(hostif, 'the host’s interface') };
  const ifname = parseLinkName(words.option('-i') ?? DEFAULT_IFNAME, '-i');
  if (detach) {
    const guest = words.next('the guest');
    words.end();
    return { do: 'detach', host, guest, ifname };
  }
  const hostIfname = words.option('-l');
  const family = parseFamily(words.option('-a'));
  const guest = words.next('the guest');
  const given = parseGiven(words.next('the address'), family);
  const tail = words.optional();
  words.end();
  return {
    do: 'attach',
    host,
    guest,
    ifname,
    ...(hostIfname === undefined ? {} : { hostIfname: parseLinkName(hostIfname, '-l') }),
    ...given,
    ...(tail === undefined ? {} : parseTail(tail)),
    ...(force ? { force } : {}),
  };
}

/** Rejects the other kinds that pipework supported, by their keyword. */
function refuseKind(hostif: string): void {
  if (hostif === '') throw usage('the host’s interface is empty');
  for (const [kind, program] of [
    ['route', 'ip route'],
    ['rule', 'ip rule'],
    ['tc', 'tc'],
  ] as const) {
    if (hostif !== kind) continue;
    throw unimplemented(
      `pipework: ${kind} only runs \`${program}\` in the guest, which weft does not do for you`,
      `Run it yourself: nsenter --net=/proc/PID/ns/net ${program} …`,
    );
  }
  if (/^dummy\d*$/.test(hostif)) {
    throw unimplemented(
      `pipework: ${hostif} would be a dummy interface, which weft does not make`,
      'Make it yourself: nsenter --net=/proc/PID/ns/net ip link add dummy0 type dummy',
    );
  }
}

/** @throws WeftError INVALID_ARGUMENT */
export function parseLinkName(text: string, field: string): string {
  const bad = (why: string, next: string): WeftError =>
    invalidArgument(`pipework: ${field}: "${text}" ${why}`, next);
  if (text.length > MAX_LINK_NAME)
    throw bad(
      `is too long (${text.length} characters)`,
      `Names of interfaces have at most ${MAX_LINK_NAME} characters.`,
    );
  if (!isLinkName(text) || text.startsWith('-') || text === 'lo')
    throw bad('is not the name of an interface', 'Give a name such as br1 or eth1.');
  return text;
}

function parseFamily(text: string | undefined): Family | undefined {
  if (text === undefined) return undefined;
  if (text === '4' || text === '6') return text === '4' ? 4 : 6;
  throw usage(`-a: "${text}" is neither 4 nor 6`);
}

const DHCP = /^(dhcp|udhcpc|udhcpc-f|dhclient|dhclient-f|dhcpcd)(:|$)/;

function parseGiven(text: string, family: Family | undefined): Pick<PipeworkAttach, 'address' | 'gateway'> {
  const [client] = DHCP.exec(text) ?? [];
  if (client !== undefined) {
    throw unimplemented(
      `pipework: ${text}: weft has no DHCP client`,
      'Give an address, or 0/0 and start a DHCP client in the guest.',
    );
  }
  if (text === '0/0') return {};
  const [given = '', via, ...more] = text.split('@');
  if (more.length > 0) throw usage(`"${text}" has more than one gateway`);
  if (!given.includes('/')) {
    throw invalidArgument(
      `pipework: "${given}" has no prefix length`,
      `The address should include one; maybe you meant ${given}/24?`,
    );
  }
  const { address, length } = parseInterface(given);
  if (family !== undefined && address.family !== family)
    throw usage(`-a ${family}: ${address.toString()} is an IPv${address.family} address`);
  const ip = `${address.toString()}/${length}`;
  // A script's variable may be empty, here and after the address.
  if (via === undefined || via === '') return { address: ip };
  const gateway = IpAddress.parse(via, 'gateway');
  if (gateway.family !== address.family)
    throw usage(`the gateway ${gateway.toString()} and the address ${ip} are of different families`);
  if (gateway.equals(address)) throw usage(`${gateway.toString()} cannot be its own gateway`);
  return { address: ip, gateway: gateway.toString() };
}

/** `[MAC|U:TEXT][@VLAN]`; an empty part is absent. */
function parseTail(text: string): Pick<PipeworkAttach, 'mac' | 'vlan'> {
  const [mac = '', vlan = '', ...more] = text.split('@');
  if (more.length > 0 || (vlan !== '' && !/^\d{1,5}$/.test(vlan)))
    throw usage(`"${text}" does not end in a VLAN, such as @100`);
  return {
    ...(mac === '' ? {} : { mac: mac.startsWith('U:') ? macOfText(mac.slice('U:'.length)) : parseMac(mac) }),
    ...(vlan === '' ? {} : { vlan: parseVlan(Number(vlan)) }),
  };
}

/** pipework's algorithm: the md5 of the text with the newline that `echo` appends. */
export function macOfText(text: string): string {
  const digest = createHash('md5').update(`${text}\n`).digest('hex');
  return ['02', ...(digest.slice(0, 10).match(/../g) ?? [])].join(':');
}

/** The words of a call, from left to right. */
class Words {
  #at = 0;

  constructor(private argv: readonly string[]) {}

  take(word: string): boolean {
    if (this.argv[this.#at] !== word) return false;
    this.#at += 1;
    return true;
  }

  /** For a word of weft's own: pipework's have their places. */
  takeAnywhere(word: string): boolean {
    const at = this.argv.indexOf(word, this.#at);
    if (at < 0) return false;
    this.argv = this.argv.toSpliced(at, 1);
    return true;
  }

  option(name: string): string | undefined {
    return this.take(name) ? this.next(`what belongs to ${name}`) : undefined;
  }

  next(what: string): string {
    const word = this.argv[this.#at];
    if (word === undefined) throw usage(`${what} is missing`);
    if (/^-[ila]$/.test(word)) throw usage(`${word} is not in its place`);
    this.#at += 1;
    return word;
  }

  /** An empty word counts as absent, as from a script's empty variable. */
  optional(): string | undefined {
    const word = this.argv[this.#at];
    if (word !== undefined) this.#at += 1;
    return word === '' ? undefined : word;
  }

  end(): void {
    const [word] = this.argv.slice(this.#at);
    if (word !== undefined) throw usage(`"${word}" is one word too many`);
  }
}
