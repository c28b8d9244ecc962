// --dns-server: [DOMAIN=]IP[:PORT], may be repeated.
import { isIP } from 'node:net';

import { invalidArgument } from '../../core/errors.js';
import type { Kind } from '../../daemon/kinds.js';
import type { UpstreamServer } from './upstream.js';

const EXAMPLE = 'Write it as 192.0.2.53, [2001:db8::53]:5353 or corp.example=192.0.2.53.';
const DOMAIN = /^(?=.{1,253}$)[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?)*$/;

/** @throws WeftError INVALID_ARGUMENT naming `where` and the text */
export function parseDnsServer(text: string, where: string): UpstreamServer {
  const refused = (what: string): Error => invalidArgument(`${where}: "${text}" ${what}`, EXAMPLE);
  const [, before, rest = ''] = /^(?:([^=]*)=)?(.*)$/s.exec(text) ?? [];
  const domain = before?.toLowerCase().replace(/^\.|\.$/g, '');
  if (domain !== undefined && !DOMAIN.test(domain)) throw refused(`has no domain ("${before ?? ''}")`);
  if (domain === 'weft' || domain?.endsWith('.weft') === true)
    throw refused('is about weft’s own domain, which is never forwarded');
  // A bare IPv6 address has colons; with a port it has brackets.
  const [, bracketed, plain, portText] =
    isIP(rest) !== 0
      ? [rest, undefined, rest]
      : (/^(?:\[([^\]]+)\]|([^:[\]]+))(?::(\d{1,5}))?$/.exec(rest) ?? []);
  const ip = bracketed ?? plain ?? '';
  if (isIP(ip) === 0 || (bracketed !== undefined && isIP(bracketed) !== 6))
    throw refused('has no IP address');
  const port = portText === undefined ? 53 : Number(portText);
  if (port < 1 || port > 65_535) throw refused('has no valid port: ports are 1 to 65535');
  return { ip, port, ...(domain === undefined ? {} : { domain }) };
}

export const dnsServers: Kind<readonly UpstreamServer[]> = {
  placeholder: '[DOMAIN=]IP[:PORT][,…]',
  list: true,
  parse: (text, where) => text.split(',').map((part) => parseDnsServer(part.trim(), where)),
};
