// Exchanges a token for a certificate, and renews it: what an agent and a person do alike.
//
// The token pins the CA: what the server shows is compared with it before anything is sent. The secret goes over a connection
// that is verified against that CA. While one CA replaces another, the server shows both, and the token is of either.
import { failedPrecondition, unauthenticated, unavailable } from '../core/errors.js';
import { parseToken, type Role } from '../core/identity.js';
import { IdentityServiceClient, type Membership } from '../proto/gen/weft/v1/identity.js';
import { shownAuthority } from './authority-probe.js';
import { authorityHashOf, certificateInfo } from './certificate.js';
import { call, channel } from './grpc.js';
import type { IdentityFolder } from './identity-folder.js';
import type { ClientTls } from './tls.js';

const DEADLINE_MS = 15_000;

export interface Enrolment {
  /** HOST:PORT of a controller. */
  address: string;
  token: string;
  /** The node's name; empty for a person. */
  node: string;
  roles: readonly Role[];
  /** Where key and certificate are put, once the CA is known. @param authority hash of the CA */
  folder: (authority: string) => IdentityFolder;
}

/** @throws WeftError UNAVAILABLE; UNAUTHENTICATED, PERMISSION_DENIED, ALREADY_EXISTS, FAILED_PRECONDITION (the clock) */
export async function enrol(options: Enrolment): Promise<Membership> {
  const { address, token, node, roles } = options;
  const { authority: expected } = parseToken(token, 'token');
  const tls = await pinnedAuthority(address, expected);
  const folder = options.folder(expected);
  const publicKey = folder.publicKey();
  const membership = await ask(address, tls, (client) => client.requestCertificate.bind(client), {
    ...{ token, publicKey, node },
    roles: [...roles],
  });
  accept(membership, folder);
  return membership;
}

/** @param into where another folder gets the new certificate. @throws WeftError as `enrol` */
export async function renew(address: string, folder: IdentityFolder, into = folder): Promise<Membership> {
  return await renewWith(address, folder.read().tls, into);
}

/** @param tls of the certificate that is renewed @param into gets the new one @throws WeftError as `enrol` */
export async function renewWith(address: string, tls: ClientTls, into: IdentityFolder): Promise<Membership> {
  const publicKey = into.publicKey();
  const membership = await ask(address, tls, (client) => client.renewCertificate.bind(client), { publicKey });
  accept(membership, into);
  return membership;
}

/** @throws WeftError UNAUTHENTICATED where another CA is behind the address */
async function pinnedAuthority(address: string, expected: string): Promise<ClientTls> {
  const shown = await shownAuthority(address);
  if (shown.kind === 'unreachable')
    throw unavailable(
      `the controller at ${address} is not reached: ${shown.why}`,
      'See that it runs and that the address is right.',
    );
  const root = shown.kind === 'plain' ? undefined : shown.authorities.at(-1);
  if (shown.kind === 'plain' || root === undefined)
    throw unavailable(
      `the controller at ${address} ${shown.kind === 'plain' ? 'answers without TLS' : 'shows no CA of its own'}, and tokens need one that is a certificate authority`,
      'Start it without --insecure and --tls-*, or see weft ca init.',
    );
  const ca = Buffer.from(root);
  if (authorityHashOf(root) === expected) return { ca };
  // TLS goes to the root, which nobody has vouched for: what counts is that the pinned key signed the server's certificate.
  const [signer] = shown.authorities;
  if (signer !== undefined && authorityHashOf(signer) === expected) return { ca, signer };
  throw unauthenticated(
    `the controller at ${address} is of another CA (${authorityHashOf(root)}) than the token (${expected})`,
    'Check the address. If it is right, somebody else answers there: do not use this token again.',
  );
}

async function ask<Request>(
  address: string,
  tls: ClientTls,
  method: (client: IdentityServiceClient) => Parameters<typeof call<Request, Membership>>[0],
  request: Request,
): Promise<Membership> {
  const client = new IdentityServiceClient(`dns:${address}`, ...channel(address, tls));
  const options = {
    peer: `the controller at ${address}`,
    deadlineMs: DEADLINE_MS,
    at: { address, tls },
  };
  try {
    return await call(method(client), request, options);
  } finally {
    client.close();
  }
}

/** Keeps a certificate that is valid by this host's clock. @throws WeftError FAILED_PRECONDITION */
function accept(membership: Membership, folder: IdentityFolder): void {
  const { from, to } = certificateInfo(membership.certificate);
  const now = new Date();
  if (now < from || now > to) {
    throw failedPrecondition(
      `the clock of this host is wrong: it says ${now.toISOString()}, and the controller's ${membership.time}`,
      'Set the clocks of all hosts by NTP, and try again.',
    );
  }
  folder.save(membership);
}
