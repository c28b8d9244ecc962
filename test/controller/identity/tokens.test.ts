// Tokens, the certificates that they give, and what is refused, on a controller with an etcd of its own.
import { X509Certificate } from 'node:crypto';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';

import test from 'ava';

import { formatToken, newToken, parseToken } from '../../../core/identity.js';
import { authorityHashOf } from '../../../daemon/certificate.js';
import { enrol } from '../../../daemon/enrolment.js';
import { call, channel } from '../../../daemon/grpc.js';
import { IdentityFolder } from '../../../daemon/identity-folder.js';
import { NetworkServiceClient } from '../../../proto/gen/weft/v1/controller.js';
import { TestCa } from '../../daemon/certificates.js';
import { failureOf } from '../harness.js';
import { etcdKeys, startSecure, WITHIN } from './secure.js';

test.serial('a token gives a certificate, of which the key never leaves the holder’s folder', async (t) => {
  const controller = await startSecure(t);
  const { tls, folder } = await controller.member('node', 'h1');
  const found = new X509Certificate(tls.cert ?? '');
  t.is(found.subjectAltName, 'URI:weft://node/h1');
  t.is(found.subject, 'CN=h1');
  t.true(found.verify(new X509Certificate(tls.ca).publicKey));
  const life = Date.parse(found.validTo) - Date.now();
  t.true(life > 89.9 * 86_400_000 && life < 90.1 * 86_400_000, `${life}`);

  // For their owner alone.
  for (const place of [folder.path, join(controller.stateDir, 'ca')]) {
    t.is(statSync(place).mode & 0o777, 0o700, place);
    for (const file of readdirSync(place)) t.is(statSync(join(place, file)).mode & 0o777, 0o600, file);
  }
  const key = readFileSync(folder.paths.key, 'utf8').split('\n')[1] ?? '';
  t.false(controller.process.output.includes(key));

  // Its holder reads over gRPC; who has no certificate, or one of another CA, does not.
  const stranger = new TestCa();
  t.teardown(() => stranger.remove());
  const other = stranger.issue('h1');
  const wrong = { ca: tls.ca, cert: readFileSync(other.cert), key: readFileSync(other.key) };
  for (const [shown, outcome] of [
    [tls, undefined],
    [{ ca: tls.ca }, /^UNAUTHENTICATED NetworkService\/ListNetworks: this controller serves only clients/],
    [wrong, /^UNAUTHENTICATED NetworkService\/ListNetworks: this controller serves only clients/],
    [undefined, /^UNAVAILABLE/],
  ] as const) {
    const client = new NetworkServiceClient(controller.address, ...channel(controller.address, shown));
    const listed = call(client.listNetworks.bind(client), {}, WITHIN);
    if (outcome === undefined) t.deepEqual((await listed).networks, []);
    else t.regex(await failureOf(listed), outcome);
    client.close();
  }
});

test.serial('what a token cannot do is refused, with the reason, and its secret is nowhere', async (t) => {
  const controller = await startSecure(t);
  const { address } = controller;
  const secrets: string[] = [];
  const made = async (...request: Parameters<typeof controller.token>): Promise<string> => {
    const token = await controller.token(...request);
    secrets.push(parseToken(token, 'token').secret);
    return token;
  };
  let folders = 0;
  const redeem = (token: string, node: string, role: 'node' | 'admin' = 'node') => {
    const own = new IdentityFolder(join(controller.folder, `f${++folders}`), 'client');
    return enrol({ address, token, node, roles: [role], folder: () => own });
  };
  const once = await made({ uses: 1, node: 'h1' });
  t.regex(await failureOf(redeem(once, 'h2')), /^PERMISSION_DENIED token \w+: is for the node h1, and this/);
  t.regex(await failureOf(redeem(once, '', 'admin')), /^PERMISSION_DENIED token \w+: is for the role node/);
  t.is((await redeem(once, 'h1')).role, 'node');
  t.regex(await failureOf(redeem(once, 'h1')), /^UNAUTHENTICATED token \w+: has been used as often/);

  // The name is taken: only a token of its own gives it again.
  t.regex(await failureOf(redeem(await made(), 'h1')), /^ALREADY_EXISTS node h1: another node has this name/);
  t.is((await redeem(await made({ node: 'h1' }), 'h1')).role, 'node');
  t.regex(
    await failureOf(redeem(await made(), 'root')),
    /^INVALID_ARGUMENT node: "root" is the name of etcd/,
  );

  const short = await made({ ttlSeconds: 1 });
  await new Promise((resolve) => setTimeout(resolve, 1100));
  t.regex(await failureOf(redeem(short, 'h3')), /^UNAUTHENTICATED token \w+: it expired at 20/);

  const admin = controller.identity();
  const deleted = await made();
  const list = async () => (await call(admin.listTokens.bind(admin), {}, WITHIN)).tokens;
  const before = await list();
  const { secret, authority } = parseToken(deleted, 'token');
  const id = before.find(({ uses, node }) => uses === undefined && node === undefined)?.id ?? '';
  t.deepEqual([...new Set(before.map(({ token }) => token))], ['']);
  for (const one of before.filter(({ uses }) => uses === undefined))
    await call(admin.deleteToken.bind(admin), { id: one.id }, WITHIN);
  t.regex(await failureOf(redeem(deleted, 'h4')), /^UNAUTHENTICATED token: it is not known/);
  t.regex(
    await failureOf(call(admin.deleteToken.bind(admin), { id }, WITHIN)),
    /^NOT_FOUND token \w+: there is no such token/,
  );
  t.regex(
    await failureOf(redeem(formatToken(newToken(authority)), 'h4')),
    /^UNAUTHENTICATED token: it is not/,
  );
  const wrong = { authority: newToken('0'.repeat(50)).authority, secret };
  t.regex(
    await failureOf(redeem(formatToken(wrong), 'h4')),
    /^UNAUTHENTICATED the controller at .* of another CA/,
  );

  for (const word of secrets) t.false(controller.process.output.includes(word));
  const stdout = etcdKeys(controller, '/weft/');
  t.true(stdout.includes('/weft/tokens/'));
  for (const word of secrets) t.false(stdout.includes(word));
});

test.serial('the authority survives a restart, and another controller’s CA is another', async (t) => {
  const first = await startSecure(t);
  const { tls } = await first.member('viewer');
  await first.process.stop();
  const ports = [first.address, first.http, first.etcdUrl].map((at) => Number(at.split(':').at(-1)));
  const again = await startSecure(t, [], {
    folder: first.folder,
    ports: [ports[0] ?? 0, ports[1] ?? 0, ports[2] ?? 0],
  });
  const client = again.identity(tls);
  const shown = await call(client.getAuthority.bind(client), {}, WITHIN);
  t.is(shown.hash, authorityHashOf(tls.ca));
  t.false(shown.servesPlainText);
  const second = await startSecure(t);
  t.not(authorityHashOf(second.admin.ca), shown.hash);
});

test('a token is read as it was printed, and a wrong one is not repeated', (t) => {
  const token = newToken('a'.repeat(50));
  t.deepEqual(parseToken(` ${formatToken(token)}\n`, 'token'), token);
  for (const text of [
    '',
    'WEFT-1-x-secret',
    `${formatToken(token)}0`,
    formatToken(token).replace('1', '2'),
  ]) {
    const error = t.throws(() => parseToken(text, 'flag --token'), {
      message: /^flag --token: is not a token$/,
    });
    t.false(text !== '' && error.message.includes(text));
  }
});

test.serial('a host whose clock is wrong is told both times, and keeps no certificate', async (t) => {
  const controller = await startSecure(t);
  const token = await controller.token();
  const own = new IdentityFolder(join(controller.folder, 'behind'), 'client');
  const Real = Date;
  const behind = 3 * 24 * 3600 * 1000;
  class Behind extends Real {
    constructor(...at: [] | [number | string]) {
      if (at.length === 0) super(Real.now() - behind);
      else super(at[0]);
    }
    static override now(): number {
      return Real.now() - behind;
    }
  }
  globalThis.Date = Behind as DateConstructor;
  try {
    const { address } = controller;
    const asked = enrol({ address, token, node: 'h1', roles: ['node'], folder: () => own });
    t.regex(
      await failureOf(asked),
      /^FAILED_PRECONDITION the clock of this host is wrong: it says 20\S+Z, and the controller's 20\S+Z/,
    );
  } finally {
    globalThis.Date = Real;
  }
  t.false(own.exists);
});
