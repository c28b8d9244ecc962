// Who may call what: one table of method and role, and the interceptor that keeps it.
//
// What is not in the table is refused. Plain text, and certificates without a URI of weft's, may everything.
import { ServerInterceptingCall, type ServerInterceptor } from '@grpc/grpc-js';

import { permissionDenied, unauthenticated, type WeftError } from '../core/errors.js';
import type { Role } from '../core/identity.js';
import { callerOf, describeIdentity, type Caller } from '../daemon/caller.js';
import { toServiceError } from '../daemon/grpc.js';

const EVERY_ROLE: readonly Role[] = ['node', 'controller', 'admin', 'viewer'];
/** Events say who did what. */
const PEOPLE: readonly Role[] = ['controller', 'admin', 'viewer'];
const MANAGERS: readonly Role[] = ['controller', 'admin'];

/** By service and method. `anyone` needs no certificate. */
export const RIGHTS: Readonly<Record<string, readonly Role[] | 'anyone'>> = {
  'NetworkService/CreateNetwork': MANAGERS,
  'NetworkService/GetNetwork': EVERY_ROLE,
  'NetworkService/ListNetworks': EVERY_ROLE,
  'NetworkService/DeleteNetwork': MANAGERS,
  'NetworkService/UpdateNetwork': MANAGERS,
  'NetworkService/RouteNetworks': MANAGERS,
  'NetworkService/WatchNetworks': EVERY_ROLE,
  'NodeService/GetNode': EVERY_ROLE,
  'NodeService/ListNodes': EVERY_ROLE,
  'NodeService/DeleteNode': MANAGERS,
  'NodeService/WatchNodes': EVERY_ROLE,
  'EndpointService/CreateEndpoint': MANAGERS,
  'EndpointService/GetEndpoint': EVERY_ROLE,
  'EndpointService/ListEndpoints': EVERY_ROLE,
  'EndpointService/UpdateEndpoint': MANAGERS,
  'EndpointService/DeleteEndpoint': MANAGERS,
  'EndpointService/WatchEndpoints': EVERY_ROLE,
  'PolicyService/CreatePolicy': MANAGERS,
  'PolicyService/GetPolicy': EVERY_ROLE,
  'PolicyService/ListPolicies': EVERY_ROLE,
  'PolicyService/DeletePolicy': MANAGERS,
  'PolicyService/IsolateNetwork': MANAGERS,
  'PolicyService/TestPolicy': EVERY_ROLE,
  'StatusService/GetStatus': EVERY_ROLE,
  'EventService/WatchEvents': PEOPLE,
  // It sends packets from containers, and shows routes and rules of the nodes.
  'TraceService/Trace': MANAGERS,
  'InspectionService/Inspect': PEOPLE,
  'InspectionService/Operate': MANAGERS,
  'IpamService/CheckIpam': PEOPLE,
  'IpamService/ReleaseAddresses': MANAGERS,
  'SessionService/Connect': ['node'],
  'RecordService/CreateNetwork': ['node'],
  'RecordService/RestoreNetwork': ['node'],
  'RecordService/RemoveNetwork': ['node'],
  'RecordService/RepeatRemoval': ['node'],
  'IdentityService/RequestCertificate': 'anyone',
  'IdentityService/RenewCertificate': EVERY_ROLE,
  'IdentityService/SurrenderCertificate': ['node'],
  'IdentityService/IssueCertificate': MANAGERS,
  'IdentityService/GetAuthority': EVERY_ROLE,
  'IdentityService/InitAuthority': MANAGERS,
  'IdentityService/RotateAuthority': MANAGERS,
  'IdentityService/CreateToken': MANAGERS,
  'IdentityService/ListTokens': MANAGERS,
  'IdentityService/DeleteToken': MANAGERS,
};

export interface Guard {
  /** Whether this connection, as the address and port of its other end, is plain text that is served. */
  isPlain: (peer: string) => boolean;
  isRefused: (serial: string) => boolean;
  /** A certificate without a URI of weft's was used. */
  onUnrestricted: (serial: string) => void;
}

const methodOf = (path: string): string => path.replace(/^\/weft\.v1\./, '');

/** Why the call is refused; undefined where it may go on. @param path such as `/weft.v1.NodeService/GetNode` */
export function refusalOf(
  path: string,
  caller: Caller,
  isPlain: boolean,
  guard: Guard,
): WeftError | undefined {
  const { identity, serial, until } = caller;
  const method = methodOf(path);
  const allowed = RIGHTS[method] ?? [];
  if (allowed === 'anyone' || isPlain) return undefined;
  if (serial === undefined)
    return unauthenticated(
      `${method}: this controller serves only clients with a certificate of its CA that has not ended`,
      'Get one with a token: weft login --token TOKEN HOST:PORT for a person, weft agent --token for a node.',
    );
  if (guard.isRefused(serial))
    return unauthenticated(
      `${describeIdentity(identity)}: its certificate (${serial}) is refused: the node was removed`,
      'Join it again with a new token.',
    );
  if (until !== undefined && until < Date.now())
    return unauthenticated(
      `${describeIdentity(identity)}: its certificate ended at ${new Date(until).toISOString()}`,
      'Get a new one with a token.',
    );
  if (identity.role === 'unrestricted') {
    guard.onUnrestricted(serial);
    return undefined;
  }
  if (identity.role !== 'none' && allowed.includes(identity.role)) return undefined;
  return permissionDenied(
    `${method}: ${identity.role === 'none' ? 'this certificate has no role that is known, and' : `a certificate of the role ${identity.role}`} may not do this`,
    allowed.length === 0 ? undefined : `It takes the role ${allowed.join(' or ')}.`,
  );
}

/** Refuses calls before their handlers run. */
export const rightsInterceptor =
  (guard: Guard): ServerInterceptor =>
  ({ path }, call) =>
    new ServerInterceptingCall(call, {
      start: (next) =>
        next({
          onReceiveMetadata: (metadata, pass) => {
            const caller = callerOf(call.getAuthContext());
            const refusal = refusalOf(path, caller, guard.isPlain(call.getPeer()), guard);
            if (refusal === undefined) return pass(metadata);
            call.sendStatus(toServiceError(refusal));
          },
        }),
    });
