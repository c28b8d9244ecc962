// Policies in etcd. Only controllers write them: an etcd of weft's own grants nodes no write of theirs (docs/decisions/0025).
import { alreadyExists, notFound } from '../core/errors.js';
import { ifReadable } from '../core/parse.js';
import { allowSame, type Policy } from '../core/policy/index.js';
import { decodePolicy, encodePolicy } from './record-codec.js';
import { absent, get, keyAt, present, put, remove, type Context } from './transaction.js';

export async function createPolicy({ client, keys, replica }: Context, policy: Policy): Promise<Policy> {
  const { name } = policy;
  const key = keys.policy(name);
  const { succeeded, responses, header } = await client.txn({
    compare: [absent(key)],
    success: [put(key, encodePolicy(policy))],
    failure: [get(key)],
  });
  if (succeeded) {
    await replica.reached(key, Number(header.revision));
    return policy;
  }
  const value = keyAt(responses, 0)?.value.toString() ?? '';
  const there = ifReadable(() => decodePolicy(name, value));
  if (there !== undefined && allowSame(there, policy)) return there;
  throw alreadyExists(
    `policy ${name}: there is one of that name that allows something else`,
    `See it: weft policy inspect ${name}. Choose another name, or remove it first.`,
  );
}

export async function removePolicy({ client, keys, replica }: Context, name: string): Promise<void> {
  const key = keys.policy(name);
  const { succeeded, header } = await client.txn({ compare: [present(key)], success: [remove(key)] });
  if (!succeeded) throw notFound(`policy ${name}: there is no such policy`, 'See which do: weft policy ls.');
  await replica.reached(key, Number(header.revision));
}
