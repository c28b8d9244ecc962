// Who makes a call, by its connection.
import type { AuthContext } from '@grpc/grpc-js/build/src/auth-context.js';

import { identityOfSan, type Identity } from '../core/identity.js';

export interface Caller {
  /** `unrestricted` without a certificate: such calls come in plain text, where everybody may everything. */
  readonly identity: Identity;
  /** Of its certificate. */
  readonly serial?: string;
  /** End of its certificate, milliseconds since 1970. */
  readonly until?: number;
}

/** @param auth empty for plain text, and for a certificate that is not trusted */
export function callerOf({ sslPeerCertificate: certificate }: AuthContext): Caller {
  if (certificate === undefined) return { identity: { role: 'unrestricted' } };
  return {
    identity: identityOfSan(certificate.subjectaltname),
    serial: certificate.serialNumber,
    until: Date.parse(certificate.valid_to),
  };
}

/** For people: `node h1`, `admin`. */
export const describeIdentity = (identity: Identity): string =>
  identity.role === 'node' ? `node ${identity.node}` : identity.role;
