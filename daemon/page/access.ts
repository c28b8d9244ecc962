// Who may read the page on loopback: a link that counts once, then a cookie; and which requests are the page's own.
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import type { IncomingMessage } from 'node:http';

const digest = (text: string): Buffer => createHash('sha256').update(text).digest();
const isSame = (a: string, b: string): boolean => timingSafeEqual(digest(a), digest(b));
const secret = (): string => randomBytes(32).toString('base64url');

/** The secret of a link, which is exchanged for a cookie once. */
export class OneTimeAccess {
  #link: string | undefined = secret();
  readonly #session = secret();
  // Browsers share cookies among all ports of a host.
  readonly #name = `weft-${randomBytes(4).toString('hex')}`;

  /** Path and query of the link. */
  get path(): string {
    return `/?key=${this.#link ?? ''}`;
  }

  /**
   * The value of Set-Cookie; undefined where the key is wrong or was used. A browser that a file or another page has led here
   * would not send a cookie of SameSite=Strict.
   */
  exchange(key: string): string | undefined {
    if (this.#link === undefined || !isSame(key, this.#link)) return undefined;
    this.#link = undefined;
    return `${this.#name}=${this.#session}; Path=/; HttpOnly; SameSite=Lax`;
  }

  isKnown({ headers }: IncomingMessage): boolean {
    const cookies = (headers.cookie ?? '').split(';').map((one) => one.trim());
    const prefix = `${this.#name}=`;
    return cookies.some((one) => one.startsWith(prefix) && isSame(one.slice(prefix.length), this.#session));
  }
}

/**
 * Why a request is not the page's own; undefined where it is. A foreign name that leads here (DNS rebinding) has a foreign
 * Host; a foreign page has a foreign Origin, or a Sec-Fetch-Site that says so.
 * @param hosts HOST:PORT in lower case, as browsers write them
 */
export function foreign(
  { headers, method }: Pick<IncomingMessage, 'headers' | 'method'>,
  scheme: 'http' | 'https',
  hosts: readonly string[],
): string | undefined {
  const host = headers.host?.toLowerCase() ?? '';
  if (!hosts.includes(host)) return 'the request names another host than this page has';
  const { origin } = headers;
  if (origin !== undefined && origin !== `${scheme}://${host}`) return 'the request comes from another page';
  if (method === 'POST' && origin === undefined) return 'the request does not say which page it comes from';
  const site = headers['sec-fetch-site'];
  // A link that is opened from elsewhere has none, or is a navigation, which reads nothing for that page.
  const isNavigation = headers['sec-fetch-mode'] === 'navigate' && method === 'GET';
  if (site !== undefined && site !== 'same-origin' && site !== 'none' && !isNavigation)
    return 'the request comes from another page';
  return undefined;
}

/** The standard ports are left out of Host (RFC 9110 §7.2). */
export function hostsOf(names: readonly string[], port: number, scheme: 'http' | 'https'): string[] {
  const usual = scheme === 'http' ? 80 : 443;
  return names.flatMap((name) => {
    const host = (name.includes(':') ? `[${name}]` : name).toLowerCase();
    return port === usual ? [host, `${host}:${port}`] : [`${host}:${port}`];
  });
}

/** Of every answer. Scripts and styles are files of the page alone. */
export const HEADERS: Readonly<Record<string, string>> = {
  'content-security-policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'cache-control': 'no-store',
};
