// The audit log: who changed what, and who was refused. JSON lines, for root alone, rotated by size.
//
// Every call that changes something, and every one that is refused, whatever it was. Never what is secret: of a request only
// the words that name its object.
import { randomUUID } from 'node:crypto';

import { ServerInterceptingCall, status, type ServerInterceptor } from '@grpc/grpc-js';
import type { AuthContext } from '@grpc/grpc-js/build/src/auth-context.js';

import { visible } from '../core/text.js';
import { callerOf } from './caller.js';
import type { Logger } from './log.js';
import { RotatingFile } from './rotating-file.js';

const MOST_BYTES = 10 * 1024 * 1024;
const KEPT = 5;

/** Methods that change nothing, by how their names begin. */
const READS = /\/(?:Get|List|Watch|Lookup|Find|Connect|Settle)/;

/** The words of a request that name its object. */
const NAMING = [
  'name',
  'node',
  'network',
  'target',
  'endpoint',
  'id',
  'role',
  'a',
  'b',
  'from',
  'to',
] as const;

export type Actor =
  { readonly uid: number } | { readonly role: string; readonly node?: string; readonly serial?: string };

/** What is written of a call. */
export type AuditEntry = {
  time: string;
  id: string;
  actor: Actor;
  /** Address and port of the caller; absent for a local socket. */
  peer?: string;
  /** Such as NetworkService/DeleteNetwork. */
  method: string;
  object: Readonly<Record<string, string>>;
  /** Name of the gRPC status. */
  code: string;
  /** Why it failed. */
  why?: string;
  ms: number;
};

export class AuditLog {
  readonly #file: RotatingFile;

  constructor(path: string, log: Logger, mostBytes = MOST_BYTES) {
    this.#file = new RotatingFile({ path, what: 'the audit log', mostBytes, kept: KEPT, log });
  }

  write(entry: Readonly<Record<string, unknown>>): void {
    this.#file.write(`${visible(JSON.stringify(entry))}\n`);
  }

  close(): void {
    this.#file.close();
  }
}

/** @param actor where the connection does not say who calls: the user of a local socket */
export const auditInterceptor =
  (audit: { write: (entry: AuditEntry) => void }, actor?: Actor): ServerInterceptor =>
  ({ path }, call) => {
    const begun = performance.now();
    let object: Record<string, string> = {};
    return new ServerInterceptingCall(call, {
      start: (next) =>
        next({
          onReceiveMessage: (message, pass) => {
            object = objectOf(message);
            pass(message);
          },
        }),
      sendStatus: (result, next) => {
        const isRefused = result.code === status.PERMISSION_DENIED || result.code === status.UNAUTHENTICATED;
        if (isRefused || !READS.test(path))
          audit.write({
            time: new Date().toISOString(),
            id: randomUUID(),
            actor: actor ?? actorOf(call.getAuthContext()),
            ...(actor === undefined && { peer: call.getPeer() }),
            method: path.replace(/^\/weft\.v1\./, ''),
            object,
            code: status[result.code],
            ...(result.code !== status.OK && { why: result.details }),
            ms: Math.round(performance.now() - begun),
          });
        next(result);
      },
    });
  };

function actorOf(auth: AuthContext): Actor {
  const { identity, serial } = callerOf(auth);
  return {
    role: identity.role === 'unrestricted' && serial === undefined ? 'nobody' : identity.role,
    ...(identity.role === 'node' && { node: identity.node }),
    ...(serial !== undefined && { serial }),
  };
}

const LONGEST = 200;

function objectOf(message: unknown): Record<string, string> {
  if (typeof message !== 'object' || message === null) return {};
  const given = message as Record<string, unknown>;
  const own = NAMING.flatMap((key) => {
    const value = given[key];
    return typeof value === 'string' && value !== '' ? [[key, value.slice(0, LONGEST)] as const] : [];
  });
  return { ...objectOf(given['attach']), ...Object.fromEntries(own) };
}
