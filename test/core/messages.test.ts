// What people read of errors, and what no text that leaves the host has.
import test from 'ava';

import * as errors from '../../core/errors.js';
import { formatToken, newToken } from '../../core/identity.js';
import { redact } from '../../core/redact.js';

// WeftError: code, message, next step and cause.

test('each constructor sets its code, message, next step and cause', (t) => {
  const cause = new Error('EEXIST');
  const error = errors.alreadyExists('network blue: exists already', 'Choose another name.', { cause });
  t.true(error instanceof errors.WeftError);
  t.is(error.code, 'ALREADY_EXISTS');
  t.is(error.message, 'network blue: exists already');
  t.is(error.next, 'Choose another name.');
  t.is(error.cause, cause);
  t.is(errors.notFound('x').next, undefined);
  t.deepEqual(
    [
      errors.invalidArgument,
      errors.notFound,
      errors.failedPrecondition,
      errors.resourceExhausted,
      errors.unavailable,
    ].map((make) => make('x').code),
    ['INVALID_ARGUMENT', 'NOT_FOUND', 'FAILED_PRECONDITION', 'RESOURCE_EXHAUSTED', 'UNAVAILABLE'],
  );
});

test('any thrown value has a text, and the next step that it names', (t) => {
  t.is(errors.messageOf(new Error('boom')), 'boom');
  t.is(errors.messageOf('boom'), 'boom');
  t.is(errors.messageOf(undefined), 'undefined');
  t.is(errors.nextOf(new Error('boom')), undefined);
  t.is(errors.nextOf(errors.unavailable('boom', 'Duck.')), 'Duck.');
});

test('an error stays one line without control characters, whatever input it repeats', (t) => {
  const error = errors.invalidArgument(
    'name: "a\r\n  b\0\u001b[31m\u202e" is none',
    'Not \ud83d, nor\nthat.',
  );
  t.is(error.message, 'name: "a b\\u0000\\u001b[31m\\u202e" is none');
  t.is(error.next, 'Not \ufffd, nor that.');
});

// No secret is in what leaves the host.

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
