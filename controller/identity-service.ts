// IdentityService: certificates for tokens, their renewal, and the tokens themselves.
import type { ServerUnaryCall } from '@grpc/grpc-js';

import {
  alreadyExists,
  failedPrecondition,
  invalidArgument,
  notFound,
  permissionDenied,
  unauthenticated,
} from '../core/errors.js';
import { Mutex } from '../core/keyed-mutex.js';
import { formatToken, isRole, newToken, parseToken, ROLES, secretHash, tokenId } from '../core/identity.js';
import { parseName, parseNetworkName } from '../core/network.js';
import { callerOf, describeIdentity } from '../daemon/caller.js';
import { unary } from '../daemon/grpc.js';
import type { Logger } from '../daemon/log.js';
import type {
  Authority as AuthorityMessage,
  CertificateRequest,
  IdentityServiceServer,
  IssueRequest,
  Membership,
  Token,
} from '../proto/gen/weft/v1/identity.js';
import type { ControllerStore } from '../store/etcd-store.js';
import type { TokenRecord } from '../store/credentials.js';
import { SUPERUSER, type Authority, type Subject } from './ca/authority.js';
import { holdersOfFormer } from './rotation.js';
import { waitForSync } from './wait-for-sync.js';

export interface IdentityOptions {
  store: ControllerStore;
  /** Undefined where this controller is none. */
  authority: () => Authority | undefined;
  /** Makes this controller an authority. @throws WeftError FAILED_PRECONDITION */
  init: () => Promise<Authority>;
  /** Replaces the authority by a new one. @throws WeftError FAILED_PRECONDITION */
  rotate: () => Promise<void>;
  servesPlainText: () => boolean;
  /** URLs of etcd for others. */
  etcd: () => readonly string[];
  prefix: string;
  /** Whether etcd is this controller's own, and ends with it. */
  hasOwnEtcd: boolean;
  /** HOST:PORT of this controller for others. */
  address: () => string;
  /** Called before a certificate for a node is handed out. */
  admit: (subject: Subject) => Promise<void>;
  /** Refuses a node's certificates, and ends its session. */
  expel: (node: string) => Promise<void>;
  log: Logger;
}

const MOST_TTL_SECONDS = 365 * 24 * 3600;

export function identityService(options: IdentityOptions): IdentityServiceServer {
  const { store, log } = options;
  const { credentials } = store;
  const authority = (): Authority => {
    const found = options.authority();
    if (found !== undefined) return found;
    throw failedPrecondition(
      'this controller is no certificate authority',
      'Ask the controller that is one, or, where the cluster has plain text, make this one: weft ca init.',
    );
  };

  const issue = async (subject: Subject, publicKey: string): Promise<Membership> => {
    const issued = await authority().issue(subject, publicKey);
    const name = 'name' in subject ? { name: subject.name } : {};
    await credentials.addCertificate({
      serial: issued.serial,
      role: subject.role,
      ...name,
      authority: issued.authority,
      expires: issued.to,
    });
    await options.admit(subject);
    log.info('issued a certificate', { role: subject.role, ...name, serial: issued.serial });
    return {
      certificate: issued.certificate,
      authority: authority().bundle,
      role: subject.role,
      etcd: [...options.etcd()],
      prefix: options.prefix,
      time: new Date().toISOString(),
    };
  };

  const redeem = async (request: CertificateRequest): Promise<Membership> => {
    const token = await redeemable(request, authority().hashes, store);
    const subject = subjectOf(token, request);
    checkFurther(subject.role, options.hasOwnEtcd);
    if (subject.role === 'node') checkNodeName(subject.name, token, store);
    if (!(await credentials.useToken(token))) throw usedUp(token);
    return await issue(subject, request.publicKey);
  };

  const describe = (found: Authority): AuthorityMessage => ({
    certificate: found.certificate,
    hash: found.hash,
    expires: found.expires.toISOString(),
    nodesWithout: nodesWithoutCertificate(store),
    former: found.former,
    waitsFor: found.former === undefined ? [] : holdersOfFormer(store, found),
    servesPlainText: options.servesPlainText(),
  });

  // One after the other: of two that want one name, the second finds the first's certificate.
  const requests = new Mutex();

  return {
    requestCertificate: unary(async (request) => {
      await waitForSync(store);
      return await requests.run(() => redeem(request));
    }),

    renewCertificate: (call, callback) =>
      unary(async ({ publicKey }: { publicKey: string }) => {
        await waitForSync(store);
        return await issue(renewedSubject(call), publicKey);
      })(call, callback),

    surrenderCertificate: (call, callback) =>
      unary(async () => {
        await waitForSync(store);
        const { identity } = callerOf(call.getAuthContext());
        if (identity.role !== 'node')
          throw failedPrecondition(`${describeIdentity(identity)}: only a node leaves by its certificate`);
        await options.expel(identity.node);
        return {};
      })(call, callback),

    issueCertificate: unary(async (request) => {
      await waitForSync(store);
      return await issue(issuedSubject(request), request.publicKey);
    }),

    getAuthority: unary(async () => {
      await waitForSync(store);
      return describe(authority());
    }),

    initAuthority: unary(async () => {
      await waitForSync(store);
      return describe(await options.init());
    }),

    rotateAuthority: unary(async () => {
      await waitForSync(store);
      authority();
      await requests.run(options.rotate);
      return describe(authority());
    }),

    createToken: unary(async ({ role, ttlSeconds, uses, node }) => {
      if (!isRole(role)) throw invalidArgument(`role: "${role}" is not known`, `Give ${ROLES.join(', ')}.`);
      if (ttlSeconds < 1 || ttlSeconds > MOST_TTL_SECONDS)
        throw invalidArgument(`ttl: ${ttlSeconds} s is not allowed`, 'Give 1s to 365d.');
      if (uses !== undefined && uses < 1)
        throw invalidArgument(`uses: ${uses} is not allowed`, 'Give 1 or more.');
      if (node !== undefined && role !== 'node')
        throw invalidArgument(`node: is for a token of the role node, not ${role}`, 'Leave it out.');
      if (node !== undefined) checkNotSuperuser(parseName(node, 'node'));
      checkFurther(role, options.hasOwnEtcd);
      await waitForSync(store);
      const token = newToken(authority().hash);
      const record: TokenRecord = {
        id: tokenId(token.secret),
        hash: secretHash(token.secret),
        role,
        expires: new Date(Date.now() + ttlSeconds * 1000),
        ...(uses !== undefined && { uses }),
        ...(node !== undefined && { node }),
      };
      await credentials.createToken(record);
      return { ...tokenMessage(record), token: formatToken(token), controller: options.address() };
    }),

    listTokens: unary(async () => {
      await waitForSync(store);
      const now = new Date();
      return {
        tokens: credentials
          .tokens()
          .filter(({ expires }) => expires > now)
          .toSorted((a, b) => a.expires.getTime() - b.expires.getTime())
          .map(tokenMessage),
      };
    }),

    deleteToken: unary(async ({ id }) => {
      await waitForSync(store);
      if (/^[0-9a-f]{12}$/.test(id) && (await credentials.deleteToken(id))) return {};
      throw notFound(`token ${id}: there is no such token`, 'See weft token ls.');
    }),
  };
}

/** Nodes with a record and without a certificate that has not ended. */
export function nodesWithoutCertificate({ view, credentials }: ControllerStore): string[] {
  const certified = new Set(
    credentials
      .certificates()
      .flatMap(({ role, name, refused }) => (role === 'node' && !refused ? name : [])),
  );
  return [...view.nodes.keys()].filter((name) => !certified.has(name)).toSorted();
}

const tokenMessage = ({ id, role, node, uses, expires }: TokenRecord): Token => ({
  id,
  token: '',
  role,
  node,
  uses,
  expires: expires.toISOString(),
  controller: '',
});

const usedUp = ({ id }: TokenRecord): Error =>
  unauthenticated(`token ${id}: has been used as often as it may be`, 'Make a new one: weft token create.');

/** @throws WeftError UNAUTHENTICATED where it cannot be used */
async function redeemable(
  request: CertificateRequest,
  authorities: readonly string[],
  { credentials }: ControllerStore,
): Promise<TokenRecord> {
  const { authority, secret } = parseToken(request.token, 'token');
  if (!authorities.includes(authority))
    throw unauthenticated('token: it is of another CA', 'Make one at this controller: weft token create.');
  const found = await credentials.token(tokenId(secret));
  if (found === undefined || found.hash !== secretHash(secret))
    throw unauthenticated(
      'token: it is not known: it was deleted, or never made here',
      'Make a new one: weft token create.',
    );
  if (found.expires.getTime() <= Date.now())
    throw unauthenticated(
      `token ${found.id}: it expired at ${found.expires.toISOString()}`,
      'Make a new one: weft token create.',
    );
  if (found.uses === 0) throw usedUp(found);
  return found;
}

/** @throws WeftError PERMISSION_DENIED where the token is for something else */
function subjectOf({ role, id, node: bound }: TokenRecord, request: CertificateRequest): Subject {
  if (!request.roles.includes(role))
    throw permissionDenied(
      `token ${id}: is for the role ${role}, and ${request.roles.join(' or ')} is needed`,
      'Make one with --role.',
    );
  if (role !== 'node') return { role };
  const name = parseName(request.node, 'node');
  if (bound !== undefined && bound !== name)
    throw permissionDenied(
      `token ${id}: is for the node ${bound}, and this one is ${name}`,
      `Start the agent with --node ${bound}, or make a token for ${name}.`,
    );
  return { role, name };
}

/** A name that somebody has is given only to who has a token for that very name. @throws WeftError ALREADY_EXISTS */
function checkNodeName(name: string, token: TokenRecord, { credentials }: ControllerStore): void {
  checkNotSuperuser(name);
  if (token.node === name) return;
  const held = credentials
    .certificates()
    .find((one) => one.role === 'node' && one.name === name && !one.refused);
  if (held === undefined) return;
  throw alreadyExists(
    `node ${name}: another node has this name (certificate ${held.serial}, until ${held.expires.toISOString()})`,
    `Choose another with --node. If it is this node, without its state: weft node rm ${name}, or a token of its own (weft token create --node ${name}).`,
  );
}

function checkNotSuperuser(name: string): void {
  if (name !== SUPERUSER) return;
  throw invalidArgument(
    `node: "${name}" is the name of etcd’s superuser`,
    'Choose another name with --node.',
  );
}

/** @throws WeftError FAILED_PRECONDITION for a further controller of a cluster whose etcd is the first one's own */
function checkFurther(role: Subject['role'], hasOwnEtcd: boolean): void {
  if (role !== 'controller' || !hasOwnEtcd) return;
  throw failedPrecondition(
    'a further controller: the only etcd of this cluster is the first controller’s own, and ends with it',
    'Further controllers need an etcd of yours (--etcd on each controller).',
  );
}

function renewedSubject(call: ServerUnaryCall<unknown, unknown>): Subject {
  const { identity } = callerOf(call.getAuthContext());
  if (identity.role === 'node') return { role: 'node', name: identity.node };
  if (identity.role === 'unrestricted' || identity.role === 'none')
    throw failedPrecondition(
      `${describeIdentity(identity)}: only a certificate of weft's CA can be renewed here`,
      'Get one with a token.',
    );
  return { role: identity.role };
}

function issuedSubject({ role, network }: IssueRequest): Subject {
  if (role !== 'flannel' && network !== '')
    throw invalidArgument(`network: is for the role flannel, not ${role}`, 'Leave it out.');
  switch (role) {
    case 'flannel':
      return { role, name: parseNetworkName(network) };
    case 'admin':
      return { role: 'superuser' };
    case 'controller':
      return { role };
    default:
      throw invalidArgument(`role: "${role}" is not known`, 'Give flannel, admin or controller.');
  }
}
