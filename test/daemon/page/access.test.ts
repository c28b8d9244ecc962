// The link that counts once, the cookie, and requests that are not the page's own.
import type { IncomingMessage } from 'node:http';

import test from 'ava';

import { foreign, hostsOf, OneTimeAccess } from '../../../daemon/page/access.js';

const withCookie = (cookie: string) => ({ headers: { cookie } }) as IncomingMessage;
const keyOf = (access: OneTimeAccess) => new URL(access.path, 'http://x').searchParams.get('key') ?? '';

test('the key of a link is exchanged for a cookie once', (t) => {
  const access = new OneTimeAccess();
  const key = keyOf(access);
  t.is(access.exchange(`${key}x`), undefined);
  const cookie = access.exchange(key) ?? '';
  t.regex(cookie, /; Path=\/; HttpOnly; SameSite=Lax$/);
  t.is(access.exchange(key), undefined);
  // Nor does the empty key count once the real one was used.
  t.is(access.exchange(''), undefined);
  const [pair = ''] = cookie.split(';');
  t.true(access.isKnown(withCookie(`other=1; ${pair}`)));
  t.false(access.isKnown(withCookie(`${pair}x`)));
  t.false(access.isKnown(withCookie('')));
  t.false(new OneTimeAccess().isKnown(withCookie(pair)));
});

const hosts = hostsOf(['127.0.0.1', 'localhost', '::1'], 7480, 'http');
const own = { host: '127.0.0.1:7480' };
const refused = [
  ['no Host', {}, 'GET'],
  ['a rebound name', { host: 'evil.example:7480' }, 'GET'],
  ['another port', { host: '127.0.0.1:80' }, 'GET'],
  ['another origin', { ...own, origin: 'http://evil.example' }, 'POST'],
  ['another port as origin', { ...own, origin: 'http://127.0.0.1:8080' }, 'POST'],
  ['another scheme', { ...own, origin: 'https://127.0.0.1:7480' }, 'POST'],
  ['an opaque origin', { ...own, origin: 'null' }, 'POST'],
  ['POST without an origin', own, 'POST'],
  ['a fetch of another site', { ...own, 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'no-cors' }, 'GET'],
  ['a page on another port', { ...own, 'sec-fetch-site': 'same-site', 'sec-fetch-mode': 'cors' }, 'GET'],
] as const;

for (const [name, headers, method] of refused)
  test(`refused: ${name}`, (t) => t.not(foreign({ headers, method }, 'http', hosts), undefined));

test('the page’s own requests pass', (t) => {
  for (const [headers, method] of [
    [own, 'GET'],
    [{ host: 'LOCALHOST:7480' }, 'GET'],
    [{ host: '[::1]:7480', origin: 'http://[::1]:7480' }, 'POST'],
    [{ ...own, 'sec-fetch-site': 'same-origin', 'sec-fetch-mode': 'cors' }, 'GET'],
    [{ ...own, 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'navigate' }, 'GET'],
  ] as const)
    t.is(foreign({ headers, method }, 'http', hosts), undefined);
});

test('a standard port is left out of Host', (t) => {
  t.deepEqual(hostsOf(['ui.example'], 443, 'https'), ['ui.example', 'ui.example:443']);
});
