// Names that users add to a network, beside those of its endpoints.
//
// One key for each name, with all its addresses, so that concurrent additions all take effect.
import type { IpAddress } from '../core/address.js';
import { notFound, unavailable } from '../core/errors.js';
import type { OwnName } from '../core/records.js';
import { ifReadable } from '../core/parse.js';
import { decodeOwnName, encodeOwnName } from './record-codec.js';
import { absent, get, keyAt, present, put, remove, unchanged, type Context } from './transaction.js';

const ATTEMPTS = 5;

export interface NameRequest {
  network: string;
  name: string;
  ips: readonly IpAddress[];
}

export async function addName(context: Context, request: NameRequest): Promise<OwnName> {
  const { keys, now } = context;
  const { network, name, ips } = request;
  let made: OwnName | undefined;
  await change(context, request, (there) => {
    const fresh = ips.filter((ip) => there?.ips.some((known) => known.equals(ip)) !== true);
    made = {
      network,
      name,
      ips: [...(there?.ips ?? []), ...fresh],
      createdAt: there?.createdAt ?? now().toISOString(),
    };
    return put(keys.ownName(network, name), encodeOwnName(made));
  });
  if (made === undefined) throw busy(request);
  return made;
}

export async function removeName(context: Context, request: NameRequest): Promise<void> {
  const { keys } = context;
  const { network, name, ips } = request;
  const key = keys.ownName(network, name);
  await change(context, request, (there, exists) => {
    if (!exists) throw noName(request);
    const missing = ips.find((ip) => there?.ips.some((known) => known.equals(ip)) !== true);
    if (missing !== undefined)
      throw notFound(
        `network ${network}: the name ${name} has no address ${missing.toString()}`,
        `It has ${there?.ips.join(', ') ?? 'a value that cannot be read'}.`,
      );
    const left = ips.length === 0 ? [] : (there?.ips.filter((ip) => !ips.some((it) => it.equals(ip))) ?? []);
    return there === undefined || left.length === 0
      ? remove(key)
      : put(key, encodeOwnName({ ...there, ips: left }));
  });
}

/** Reads, decides and writes, until no concurrent write intervenes. */
async function change(
  { client, keys, replica }: Context,
  request: NameRequest,
  decide: (there: OwnName | undefined, exists: boolean) => ReturnType<typeof put>,
): Promise<void> {
  const { network, name } = request;
  const config = keys.config(network);
  const key = keys.ownName(network, name);
  const first = await client.txn({ success: [get(config), get(key)] });
  let { responses } = first;
  for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
    if (keyAt(responses, 0) === undefined)
      throw notFound(`there is no network ${network}`, 'See `weft network ls`.');
    const kv = keyAt(responses, 1);
    const step = decide(kv && readable(network, name, kv.value.toString()), kv !== undefined);
    const answer = await client.txn({
      compare: [present(config), kv === undefined ? absent(key) : unchanged(key, kv.mod_revision)],
      success: [step],
      failure: [get(config), get(key)],
    });
    if (answer.succeeded) {
      await replica.reached(key, Number(answer.header.revision));
      return;
    }
    ({ responses } = answer);
  }
  throw busy(request);
}

/** An unreadable value is overwritten. */
const readable = (network: string, name: string, text: string): OwnName | undefined =>
  ifReadable(() => decodeOwnName({ kind: 'ownName', network, name }, text));

const noName = ({ network, name }: NameRequest): Error =>
  notFound(
    `network ${network} has no name ${name} that was added`,
    'See `weft dns ls`; names of containers go with them.',
  );

const busy = ({ network, name }: NameRequest): Error =>
  unavailable(`network ${network}: the name ${name} keeps changing`, 'Try again.');
