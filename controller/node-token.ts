// A token for the agent of the controller's own host, in a file (--node-token).
//
// One node can use it, once. It is made where the file has none that this cluster knows, and anew when it expired unused; one
// that was used stays as it is, so that nothing is left that lets a second node in.
import { readFileSync } from 'node:fs';

import { messageOf } from '../core/errors.js';
import { formatToken, newToken, parseToken, secretHash, tokenId, type Token } from '../core/identity.js';
import type { Logger } from '../daemon/log.js';
import { replaceFile } from '../daemon/state-file.js';
import type { Credentials } from '../store/credentials.js';

const LIFE_MS = 24 * 3_600_000;

export interface NodeTokenOptions {
  path: string;
  /** Hash of the CA. */
  authority: string;
  credentials: Pick<Credentials, 'token' | 'createToken'>;
  log: Logger;
}

/** What goes wrong is logged: the controller serves all the same. */
export async function writeNodeToken({ path, authority, credentials, log }: NodeTokenOptions): Promise<void> {
  try {
    const held = heldIn(path);
    if (held?.authority === authority && (await isKept(held, credentials))) return;
    const token = newToken(authority);
    await credentials.createToken({
      id: tokenId(token.secret),
      hash: secretHash(token.secret),
      role: 'node',
      uses: 1,
      expires: new Date(Date.now() + LIFE_MS),
    });
    replaceFile(path, `${formatToken(token)}\n`, { sync: true });
    log.info('wrote a token for the node of this host', { file: path });
  } catch (error) {
    log.warn('the token for the node of this host could not be written', {
      file: path,
      error: messageOf(error),
      next: 'Make one with weft token create.',
    });
  }
}

function heldIn(path: string): Token | undefined {
  try {
    return parseToken(readFileSync(path, 'utf8'), path);
  } catch {
    // There is none yet, or it is no token.
    return undefined;
  }
}

async function isKept(held: Token, credentials: Pick<Credentials, 'token'>): Promise<boolean> {
  const known = await credentials.token(tokenId(held.secret));
  return known !== undefined && (known.uses === 0 || known.expires.getTime() > Date.now());
}
