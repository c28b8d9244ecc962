// The node's certificate: got with a token, kept, renewed in time, and missed where that fails.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import test, { type ExecutionContext } from 'ava';

import { Problems } from '../../../agent/health/problems.js';
import { NODE } from '../../../agent/health/problem-key.js';
import { NodeIdentity, nodeIdentityFolder } from '../../../agent/identity/index.js';
import { silentLogger as log } from '../../../daemon/log.js';
import { startSecure, type SecureController } from '../../controller/identity/secure.js';
import { failureOf } from '../../controller/harness.js';
import { until } from '../../lab/wait.js';

const EXPIRY = { scope: NODE, kind: 'certificate' } as const;

function optionsOf(controller: SecureController, node = 'h1') {
  const folder = nodeIdentityFolder(join(controller.folder, 'node'));
  return { folder, node, controllers: ['127.0.0.1:1', controller.address], log };
}

const never = (): undefined => undefined;
const signal = new AbortController().signal;

function following(t: ExecutionContext, identity: NodeIdentity | undefined): Problems {
  const problems = new Problems();
  const ended = new AbortController();
  const followed = identity?.follow(problems, ended.signal);
  t.teardown(async () => {
    ended.abort();
    await followed;
  });
  return problems;
}

test.serial('a token is used once; then the stored identity counts, with what was learnt', async (t) => {
  const controller = await startSecure(t);
  const options = optionsOf(controller);
  t.is(await NodeIdentity.open(options, never, signal), undefined);
  const token = await controller.token({ uses: 1 });
  const first = await NodeIdentity.open(options, () => Promise.resolve(token), signal);
  t.deepEqual(first?.info.identity, { role: 'node', node: 'h1' });
  t.deepEqual(first?.cluster, { etcd: [controller.etcdUrl], prefix: '/weft' });
  const again = await NodeIdentity.open(options, never, signal);
  t.is(again?.info.serial, first?.info.serial);
  t.regex(
    await failureOf(NodeIdentity.open(optionsOf(controller, 'h2'), never, signal)),
    /^FAILED_PRECONDITION the certificate in .* is of node h1, and this is node h2/,
  );
  // Files that do not belong together are named.
  writeFileSync(options.folder.paths.key, readFileSync(join(controller.stateDir, 'ca/ca.key')));
  t.regex(
    await failureOf(NodeIdentity.open(options, never, signal)),
    /^FAILED_PRECONDITION the identity in .* cannot be used: .* is not the key of/,
  );
});

test.serial('a certificate is renewed without a token, also after the controller was away', async (t) => {
  const controller = await startSecure(t, ['--certificate-ttl', '10s']);
  const token = await controller.token();
  const identity = await NodeIdentity.open(optionsOf(controller), () => Promise.resolve(token), signal);
  const problems = following(t, identity);
  const serial = (): string => identity?.info.serial ?? '';
  const first = serial();
  await until('a renewal', () => serial() !== first);
  t.is(problems.get(EXPIRY), undefined);
  await controller.process.stop();
  const second = serial();
  await until('the problem', () => problems.get(EXPIRY) !== undefined);
  t.regex(
    problems.get(EXPIRY)?.why ?? '',
    /^ends at 20.*, and was not renewed: the controller at .* does not answer/,
  );
  t.is(serial(), second);
  await until('its end', () => problems.get(EXPIRY)?.why.startsWith('ended at') === true);

  // Its certificate has ended: a new token gives another.
  const ports = [controller.address, controller.http, controller.etcdUrl].map((at) =>
    Number(at.split(':').at(-1)),
  );
  const back = await startSecure(t, ['--certificate-ttl', '60s'], {
    folder: controller.folder,
    ports: [ports[0] ?? 0, ports[1] ?? 0, ports[2] ?? 0],
  });
  const fresh = await back.token({ node: 'h1' });
  const renewed = await NodeIdentity.open(optionsOf(back), () => Promise.resolve(fresh), signal);
  t.true((renewed?.info.to.getTime() ?? 0) > Date.now() + 30_000);
});
