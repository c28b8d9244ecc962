// What the Compute API refuses, as a sentence with the call, the permission and the next step.
//
// https://cloud.google.com/compute/docs/troubleshooting/troubleshooting-vms-errors and the API's Operation.error
import {
  failedPrecondition,
  notFound,
  permissionDenied,
  resourceExhausted,
  unauthenticated,
  unavailable,
  type WeftError,
} from '../../core/errors.js';

/** An error of the Compute API, of a call or of the operation that it began. */
export class ComputeError extends Error {
  /** @param reason such as forbidden, quotaExceeded, QUOTA_EXCEEDED @param afterMs how long it asks to wait */
  constructor(
    readonly status: number,
    readonly reason: string,
    message: string,
    readonly afterMs = 0,
  ) {
    super(message);
  }
}

export interface RefusedCall {
  /** Such as compute.routes.insert. */
  call: string;
  /** Such as compute.routes.create. */
  permission: string;
  object: string;
}

const sameWord = (a: string, b: string): boolean => a.replaceAll('_', '').toLowerCase() === b.toLowerCase();

export const isRateLimit = ({ status, reason }: ComputeError): boolean =>
  status === 429 || /^(user)?rate_?limit_?exceeded$/i.test(reason);

/** It passes by itself. */
export const isTemporary = (error: ComputeError): boolean =>
  isRateLimit(error) || error.status >= 500 || /^resource_?not_?ready$/i.test(error.reason);

export function explain(error: ComputeError, { call, permission, object }: RefusedCall): WeftError {
  const { status, reason, message } = error;
  const why = message.replace(/\.\s*$/, '');
  const refused = `Google Cloud refuses ${call} of ${object} (${reason || status})`;
  if (isRateLimit(error))
    return unavailable(
      `Google Cloud has refused ${call} again and again: the project makes too many calls (${reason || status})`,
      'It is tried again every minute; see what else makes calls in the project.',
    );
  if (sameWord(reason, 'quotaexceeded'))
    return resourceExhausted(
      `${refused}: ${why}`,
      'Delete routes that nothing needs, have the quota "Routes" of the project raised (IAM & Admin, Quotas), or move to a backend with a tunnel.',
    );
  if (status === 401)
    return unauthenticated(
      `${refused}: ${why}`,
      'Check the clock of this host and the service account of the instance.',
    );
  if (/scope/i.test(message) || sameWord(reason, 'insufficientpermissions'))
    return permissionDenied(
      `${refused}: ${why}`,
      'Stop the instance and give it the access scope compute-rw or cloud-platform (gcloud compute instances set-service-account --scopes).',
    );
  if (sameWord(reason, 'accessnotconfigured') || /has not been used in project|is disabled/i.test(message))
    return failedPrecondition(`${refused}: ${why}`, 'Enable the Compute Engine API of the project.');
  if (status === 403)
    return permissionDenied(
      `${refused}: ${why}`,
      `Allow ${permission} to the service account of the instance; docs/backends.md has the role.`,
    );
  if (status === 404)
    return notFound(
      `${refused}: ${why}`,
      'See that project, zone and network are right; it is tried again every minute.',
    );
  if (/overlap|conflicts with/i.test(message))
    return failedPrecondition(
      `${refused}: ${why}`,
      "Create the network again with a prefix outside of the VPC network's subnets.",
    );
  if (status >= 500) return unavailable(`${refused}: ${why}`, 'It is tried again every minute.');
  return failedPrecondition(`${refused}: ${why}`, 'It is tried again every minute; see docs/backends.md.');
}
