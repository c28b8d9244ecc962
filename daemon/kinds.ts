// Kinds of setting values: parsing, and what --help shows.
//
// Each value is parsed once, whatever its source, into a value that is always valid. An error names the source, the text and
// what is allowed.
import { isIP } from 'node:net';

import { IpAddress } from '../core/address.js';
import { invalidArgument, type WeftError } from '../core/errors.js';
import { parseName, parseNetworkName } from '../core/network.js';

export interface Kind<T> {
  /** Shown in --help behind the flag; empty for a flag that takes no value. */
  readonly placeholder: string;
  /** A YAML list and a repeated flag are allowed, and mean the same as commas. */
  readonly list: boolean;
  /**
   * @param where where the text came from, such as `flag --listen`
   * @throws WeftError INVALID_ARGUMENT that begins with `where` and says what is allowed
   */
  parse(text: string, where: string): T;
}

/** An address to listen on or to connect to. */
export interface HostPort {
  /** A name or an address, an IPv6 address without brackets. */
  readonly host: string;
  readonly port: number;
  /** HOST:PORT, an IPv6 address in brackets. */
  readonly text: string;
}

/** A length of time. */
export interface Duration {
  readonly ms: number;
  readonly seconds: number;
  /** As it was written, such as 24h. */
  readonly text: string;
}

/** Where a Docker engine listens. */
export type EngineAddress =
  { readonly socketPath: string } | { readonly host: string; readonly port: number };

export interface UnderlayAddresses {
  readonly ip: IpAddress;
  readonly ip6?: IpAddress;
}

function refused(where: string, text: string, what: string, allowed: string): WeftError {
  // The error is logged, and a URL may have a password in it.
  const shown = text.replaceAll(/[^/,\s]*@/g, '…@');
  return invalidArgument(`${where}: "${shown}" ${what}`, allowed);
}

function kind<T>(placeholder: string, parse: (text: string, where: string) => T): Kind<T> {
  return { placeholder, list: false, parse };
}

/** Items with commas between them; none may be empty. */
function listOf<T>(item: Kind<T>): Kind<readonly T[]> {
  return {
    placeholder: `${item.placeholder}[,…]`,
    list: true,
    parse: (text, where) =>
      text.split(',').map((part) => {
        const trimmed = part.trim();
        if (trimmed === '')
          throw refused(
            where,
            text,
            'has an empty item',
            `Write ${item.placeholder}[,${item.placeholder}…].`,
          );
        return item.parse(trimmed, where);
      }),
  };
}

/** The word "none" beside the values of a kind. */
export function orNone<T>(inner: Kind<T>): Kind<T | undefined> {
  return { ...inner, parse: (text, where) => (text === 'none' ? undefined : inner.parse(text, where)) };
}

export function hostPort(options: { listen: boolean }): Kind<HostPort> {
  const example = options.listen
    ? 'Write it as 0.0.0.0:7400 or [::]:7400.'
    : 'Write it as 192.0.2.10:7400 or [2001:db8::10]:7400.';
  return kind('HOST:PORT', (text, where) => {
    const match = /^(?:\[([^\]]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text);
    const host = match?.[1] ?? match?.[2];
    if (host === undefined) throw refused(where, text, 'is not HOST:PORT', example);
    if (match?.[1] !== undefined ? isIP(host) !== 6 : !isHost(host)) {
      throw refused(where, text, `has no valid host ("${host}")`, example);
    }
    const port = Number(match?.[3]);
    // Port 0 lets the kernel choose; only a listener may ask for that.
    if (port > 65_535 || (port === 0 && !options.listen)) {
      throw refused(where, text, `has no valid port (${port})`, 'Ports are 1 to 65535.');
    }
    return { host, port, text: `${isIP(host) === 6 ? `[${host}]` : host}:${port}` };
  });
}

// RFC 1123 §2.1: labels of letters, digits and hyphens. A host of digits and dots alone must be an address.
const HOST_NAME =
  /^(?=.{1,253}$)[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?(?:\.[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?)*$/;
const isHost = (host: string): boolean =>
  isIP(host) === 4 || (HOST_NAME.test(host) && !/^[\d.]+$/.test(host));

export const controllers: Kind<readonly HostPort[]> = listOf(hostPort({ listen: false }));

/** An etcd URL in its shortest form, `http://192.0.2.10:2379`. */
export const etcdUrl: Kind<string> = kind('URL', (text, where) => {
  const example = 'Write it as http://192.0.2.10:2379 or https://etcd.example:2379.';
  let url: URL;
  try {
    url = new URL(text);
  } catch {
    throw refused(
      where,
      text,
      'is not a URL',
      /^[\w.-]+:\d+$/.test(text) ? `Did you mean http://${text}?` : example,
    );
  }
  if (url.protocol !== 'http:' && url.protocol !== 'https:') {
    throw refused(
      where,
      text,
      'is not a URL of etcd',
      url.host === '' ? `Did you mean http://${text}?` : example,
    );
  }
  if (url.username !== '' || url.password !== '') {
    throw refused(
      where,
      text,
      'has a user name in it',
      'Give it as --etcd-username and --etcd-password-file.',
    );
  }
  if (url.pathname !== '/' || url.search !== '' || url.hash !== '') {
    throw refused(where, text, 'has a path behind the host', `Did you mean ${url.protocol}//${url.host}?`);
  }
  // URL drops a scheme's default port (80, 443), so the text decides whether one was given. 2379 is etcd's (IANA).
  const port =
    url.port !== ''
      ? url.port
      : /:(\d+)\/?$/.exec(text)?.[1] !== undefined
        ? url.protocol === 'http:'
          ? '80'
          : '443'
        : '2379';
  return `${url.protocol}//${url.hostname}:${port}`;
});

/** The URL of an API, without a / at its end. */
export const apiUrl: Kind<string> = kind('URL', (text, where) => {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const isPlain = url?.username === '' && url.password === '' && url.search === '' && url.hash === '';
  if (url === undefined || !isPlain || !/^https?:$/.test(url.protocol))
    throw refused(where, text, 'is not the URL of an API', 'Write it as https://compute.example.');
  return url.href.replace(/\/$/, '');
});

export const etcdUrls: Kind<readonly string[]> = listOf(etcdUrl);

/** Of an agent that is told of no other. */
export const DEFAULT_ENGINE = 'unix:///run/docker.sock';

export const ENGINE_EXAMPLE = 'Write it as unix:///run/docker.sock or tcp://192.0.2.10:2375.';

export const engineUrl: Kind<EngineAddress> = kind('URL', (text, where) => {
  const path = /^unix:\/\/(\/.+)$/.exec(text)?.[1];
  if (path !== undefined) return { socketPath: path };
  const address = /^(?:tcp|http):\/\/([^/]+)\/?$/.exec(text)?.[1];
  if (address === undefined)
    throw refused(where, text, 'is not the address of a Docker engine', ENGINE_EXAMPLE);
  const { host, port } = hostPort({ listen: false }).parse(address, where);
  return { host, port };
});

const UNITS: Record<string, number> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** `500ms`, `3s`, `24h`, `1h30m`. @param limits in milliseconds; etcd's leases have whole seconds */
export function duration(limits: { min: number; max: number; wholeSeconds?: boolean }): Kind<Duration> {
  const allowed = `Give ${shown(limits.min)} to ${shown(limits.max)}${limits.wholeSeconds === true ? ', in whole seconds' : ''}, such as 3s, 90m or 24h.`;
  return kind('DURATION', (text, where) => {
    if (!/^(?:\d+(?:\.\d+)?(?:ms|[smhd]))+$/.test(text))
      throw refused(where, text, 'is not a duration', allowed);
    let ms = 0;
    for (const [, amount, unit] of text.matchAll(/(\d+(?:\.\d+)?)(ms|[smhd])/g))
      ms += Number(amount) * (UNITS[unit ?? ''] ?? NaN);
    if (ms < limits.min) throw refused(where, text, 'is too short', allowed);
    if (ms > limits.max) throw refused(where, text, 'is too long', allowed);
    if (limits.wholeSeconds === true && ms % 1000 !== 0)
      throw refused(where, text, 'is not a whole number of seconds', allowed);
    return { ms, seconds: ms / 1000, text };
  });
}

function shown(ms: number): string {
  for (const unit of ['d', 'h', 'm', 's']) {
    const size = UNITS[unit] ?? 1;
    if (ms >= size && ms % size === 0) return `${ms / size}${unit}`;
  }
  return `${ms}ms`;
}

export function wholeNumber({ min, max }: { min: number; max: number }): Kind<number> {
  return kind('N', (text, where) => {
    const value = /^\d{1,10}$/.test(text) ? Number(text) : NaN;
    if (value >= min && value <= max) return value;
    throw refused(
      where,
      text,
      'is not a number that is allowed',
      `Give a whole number from ${min} to ${max}.`,
    );
  });
}

export function choice<const T extends string>(...words: readonly T[]): Kind<T> {
  return kind(words.join('|'), (text, where) => {
    const found = words.find((word) => word === text);
    if (found === undefined)
      throw refused(
        where,
        text,
        'is not one of the words that are known',
        `Give one of: ${words.join(', ')}.`,
      );
    return found;
  });
}

/** An absolute path: it must not depend on the working directory of a daemon. */
export function path(placeholder: 'FILE' | 'DIR' | 'PATH'): Kind<string> {
  return kind(placeholder, (text, where) => {
    if (!text.startsWith('/') || text.includes('\0'))
      throw refused(where, text, 'is not an absolute path', 'Begin it with /.');
    return text.length > 1 ? text.replace(/\/+$/, '') : text;
  });
}

/** A file given by hand; it may be relative to the working directory. */
export const file: Kind<string> = kind('FILE', (text, where) => {
  if (text === '') throw refused(where, text, 'is no file name', 'Give the path of a file.');
  return text;
});

/** A text of one line that is not empty. */
export function word(placeholder: string): Kind<string> {
  return kind(placeholder, (text, where) => {
    if (text === '' || /\p{Cc}/u.test(text))
      throw refused(where, text, `is no ${placeholder.toLowerCase()}`, 'Give one line of text.');
    return text;
  });
}

export const nodeName: Kind<string> = kind('NAME', (text, where) => parseName(text, where));

export const networkNames: Kind<readonly string[]> = listOf(
  kind('NETWORK', (text, where) => {
    try {
      return parseNetworkName(text);
    } catch {
      throw refused(
        where,
        text,
        'is not a network name',
        'Use letters, digits, _ and -, beginning with a letter or digit, at most 63 characters.',
      );
    }
  }),
);

/** Linux: a name of a link has at most 15 characters, without / and white space (net/core/dev.c, dev_valid_name). */
export const linkName: Kind<string> = kind('IFACE', (text, where) => {
  if (!/^[^\s/:]{1,15}$/.test(text) || text === '.' || text === '..') {
    throw refused(
      where,
      text,
      'is not the name of an interface',
      'Give a name as `ip link` shows it, such as eth0.',
    );
  }
  return text;
});

export const addresses: Kind<readonly IpAddress[]> = listOf(
  kind('IP', (text, where) => IpAddress.parse(text, where)),
);

export const underlayIp: Kind<UnderlayAddresses> = {
  placeholder: 'IP[,IP6]',
  list: true,
  parse(text, where) {
    const addresses = text.split(',').map((part) => IpAddress.parse(part.trim(), where));
    const [ip, ip6] = addresses.toSorted((a, b) => a.family - b.family);
    if (ip === undefined || addresses.length > 2 || ip.family === ip6?.family) {
      throw refused(
        where,
        text,
        'is not one address, or one of each family',
        'Write it as 192.0.2.10, 2001:db8::10 or 192.0.2.10,2001:db8::10.',
      );
    }
    return ip6 === undefined ? { ip } : { ip, ip6 };
  },
};

/** Root of all keys in etcd. */
export const keyPrefix: Kind<string> = kind('KEY', (text, where) => {
  if (!/^(?:\/[^/\s]+)+$/.test(text)) {
    throw refused(
      where,
      text,
      'is not a key prefix',
      'Begin it with / and do not end it with /, as in /weft.',
    );
  }
  return text;
});

/** A flag without a value; from the environment or a file `true` or `false`. */
export const toggle: Kind<boolean> = kind('', (text, where) => {
  const word = text.toLowerCase();
  if (['true', 'yes', '1'].includes(word)) return true;
  if (['false', 'no', '0'].includes(word)) return false;
  throw refused(where, text, 'is neither true nor false', 'Give true or false.');
});
