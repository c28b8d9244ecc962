// Proofs that a network was removed: an authentication code in the tombstone, by a key of the controller that removed it.
//
// A node that saw the tombstone hands it back when etcd has lost it; none can make one (docs/decisions/0025).
import { timingSafeEqual } from 'node:crypto';

import type { Revisions } from '../core/lost-records.js';
import type { Removal } from '../core/records.js';
import { read, type Context } from './transaction.js';

/** Of the network as it is in etcd now; undefined where this process has no key, or there is no such network. */
export async function proofOf(
  { client, keys, seal }: Context,
  removal: Omit<Removal, 'proof'>,
): Promise<string | undefined> {
  const config = seal === undefined ? undefined : await read(client, keys.config(removal.name));
  if (seal === undefined || config === undefined) return undefined;
  const { create_revision: made, mod_revision: changed } = config;
  return `${made}.${changed}.${seal(sealed(removal, made, changed))}`;
}

/** The last revisions of the removed config; undefined where this controller has not removed it. */
export function provenRevisions({ seal }: Context, removal: Removal): Revisions | undefined {
  const [createRevision = '', modRevision = '', code = ''] = (removal.proof ?? '').split('.');
  const right = Buffer.from(seal?.(sealed(removal, createRevision, modRevision)) ?? '');
  const given = Buffer.from(code);
  if (right.length === 0 || right.length !== given.length || !timingSafeEqual(right, given)) return undefined;
  return { createRevision, modRevision };
}

const sealed = ({ name, at, forced }: Removal, made: string, changed: string): string =>
  JSON.stringify(['network', name, at, forced, made, changed]);
