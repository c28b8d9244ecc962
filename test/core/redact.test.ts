// No secret is in what leaves the host.
import test from 'ava';

import { formatToken, newToken } from '../../core/identity.js';
import { redact } from '../../core/redact.js';

const SECRET = 'hunter2-Secret';

const TEXTS: [name: string, text: string][] = [
  ['a setting in YAML', `etcd-password: ${SECRET}\n`],
  ['JSON', JSON.stringify({ etcdPassword: SECRET, nested: { PSK: SECRET, api_token: SECRET } })],
  ['an environment', `WEFT_ETCD_PASSWORD=${SECRET} next=1`],
  ['a URL', `etcd: http://root:${SECRET}@192.0.2.1:2379/`],
  ['a header', `Authorization: Bearer ${SECRET}`],
  ['a quoted value with blanks', `"passphrase": "${SECRET} and more ${SECRET}"`],
  ['a key', `-----BEGIN PRIVATE KEY-----\n${SECRET}\n-----END PRIVATE KEY-----\n`],
];

for (const [name, text] of TEXTS)
  test(`${name}: the secret is taken out`, (t) => {
    t.false(redact(text).includes(SECRET), redact(text));
    t.true(redact(text).includes('(redacted)'));
  });

test('a token loses its secret and keeps the hash of its CA, which says where it belongs', (t) => {
  const token = formatToken(newToken('a'.repeat(50)));
  const shown = redact(`weft join 192.0.2.1:7400 --token ${token}`);
  t.false(shown.includes(token.split('-').at(-1) ?? ''));
  t.true(shown.includes(token.split('-').slice(0, 3).join('-')));
});

test('what is no secret stays, and JSON stays JSON', (t) => {
  const plain = {
    etcdPasswordFile: '/etc/weft/password',
    node: 'h1',
    tokens: 3,
    url: 'http://192.0.2.1:2379',
  };
  t.deepEqual(JSON.parse(redact(JSON.stringify(plain, undefined, 2))), plain);
  const mixed = JSON.parse(
    redact(JSON.stringify({ a: 1, password: SECRET, b: [{ token: SECRET }], c: 'x' })),
  ) as unknown;
  t.deepEqual(mixed, { a: 1, password: '(redacted)', b: [{ token: '(redacted)' }], c: 'x' });
});
