// The certificate that a command shows: the one of the CA that the controller's address shows.
import { homedir } from 'node:os';
import { connect } from 'node:net';
import { dirname, join } from 'node:path';

import { unauthenticated, unavailable } from '../core/errors.js';
import { shownAuthority } from '../daemon/authority-probe.js';
import { authorityHashOf } from '../daemon/certificate.js';
import { IdentityFolder } from '../daemon/identity-folder.js';
import { readTls, type ClientTls, type TlsPaths } from '../daemon/tls.js';

export interface Trust extends TlsPaths {
  insecure: boolean;
}

/** The folder of a person's identity. @param authority hash of the CA */
export const ownFolder = (authority: string): IdentityFolder =>
  new IdentityFolder(join(homedir(), '.config/weft', authority), 'client');

/** Of root on the controller's host. */
const adminFolder = (authority: string): IdentityFolder =>
  new IdentityFolder(join(process.env['WEFT_ADMIN_DIR'] ?? '/etc/weft/admin', authority), 'client');

/**
 * Undefined: plain text.
 * @param address HOST:PORT
 * @throws WeftError UNAUTHENTICATED without a certificate of that CA; UNAVAILABLE for plain text that was not asked for
 */
export async function credentialsFor(address: string, trust: Trust): Promise<ClientTls | undefined> {
  const given = readTls(trust);
  if (given !== undefined || trust.insecure) return given;
  const shown = await shownAuthority(address);
  if (shown.kind === 'unreachable') {
    throw unavailable(`the controller at ${address} does not answer: ${why(shown.why)}`, NEXT, {
      cause: shown,
    });
  }
  if (shown.kind === 'plain') {
    // Within this host nobody is in between.
    if (isLoopback(address)) return undefined;
    throw unavailable(
      `the controller at ${address} answers without TLS`,
      'If it is meant to: --insecure, or WEFT_INSECURE=1.',
    );
  }
  const hashes = shown.authorities.map((authority) => authorityHashOf(authority));
  const [hash] = hashes;
  if (hash === undefined)
    throw unauthenticated(
      `the controller at ${address} uses TLS with certificates that were brought`,
      'Give --tls-ca, --tls-cert and --tls-key with a certificate of its CA.',
    );
  const candidates = hashes.flatMap((one) => [ownFolder(one), adminFolder(one)]);
  const found = candidates.find(({ exists }) => exists);
  if (found !== undefined) return await current(found, hash, address);
  throw unauthenticated(
    `the controller at ${address} wants a certificate of its CA (${hash}), and you have none`,
    'Get one with a token (weft token create --role admin where somebody has one, then here weft login), or give --tls-ca, --tls-cert and --tls-key.',
  );
}

/**
 * The identity, or a new one where half of its life is over, or its CA is being replaced; a controller renews root's.
 * @param hash of the CA that signs now
 */
async function current(found: IdentityFolder, hash: string, address: string): Promise<ClientTls> {
  const { tls, info } = found.read();
  const own = ownFolder(hash);
  const isOwn = dirname(found.path) === dirname(own.path);
  const isDue = found.path !== own.path || Date.now() > (info.from.getTime() + info.to.getTime()) / 2;
  if (!isOwn || !isDue || info.to.getTime() < Date.now()) return tls;
  try {
    const { renew } = await import('../daemon/enrolment.js');
    await renew(address, found, own);
    return own.read().tls;
  } catch {
    // The old one is good still.
    return tls;
  }
}

const NEXT = 'Is `weft controller` running there? Name it with --controller or WEFT_CONTROLLER.';

const WHY: Record<string, string> = {
  ECONNREFUSED: 'nothing listens there',
  ENOTFOUND: 'the name is not known',
  EAI_AGAIN: 'the name is not known',
};
const why = (code: string): string => WHY[code] ?? code;

/** Whether something listens there. @param address HOST:PORT of this host */
export function isServed(address: string): Promise<boolean> {
  const { hostname, port } = new URL(`tcp://${address}`);
  return new Promise((resolve) => {
    const socket = connect({ host: hostname.replaceAll(/[[\]]/g, ''), port: Number(port) });
    const settle = (isThere: boolean) => (): void => {
      socket.destroy();
      resolve(isThere);
    };
    socket.on('connect', settle(true)).on('error', settle(false)).setTimeout(1000, settle(false));
  });
}

const isLoopback = (address: string): boolean => /^(?:127\.[\d.]+|localhost|\[::1\]):\d+$/.test(address);
