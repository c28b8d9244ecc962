// What AWS refuses, as a sentence with the call, the permission and the next step.
//
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html
import {
  failedPrecondition,
  notFound,
  permissionDenied,
  resourceExhausted,
  unauthenticated,
  unavailable,
  type WeftError,
} from '../../core/errors.js';
import type { Credentials } from './credentials.js';

/** An error of the EC2 API. */
export class Ec2Error extends Error {
  constructor(
    readonly code: string,
    message: string,
    readonly status: number,
  ) {
    super(message);
  }
}

export interface RefusedCall {
  /** Such as CreateRoute: with `ec2:` before it, it is the permission, too. */
  action: string;
  object: string;
  region: string;
  credentials: Pick<Credentials, 'from'>;
}

const POLICY = 'docs/backends.md has the policy';

export function explain({ code, message, status }: Ec2Error, call: RefusedCall): WeftError {
  const { action, object, region, credentials } = call;
  const why = reason(message);
  const refused = `AWS refuses ec2:${action} of ${object} (${code})`;
  if (code === 'UnauthorizedOperation')
    return permissionDenied(`${refused}: ${why}`, `Allow ec2:${action} to ${credentials.from}; ${POLICY}.`);
  if (code === 'RouteLimitExceeded')
    return resourceExhausted(
      `${refused}: the route table is full: ${why}`,
      'Delete routes that nothing needs, have the quota "Routes per route table" raised (Service Quotas, Amazon VPC), or move to a backend with a tunnel.',
    );
  if (/^(RequestLimitExceeded|.*Throttl.*)$/.test(code))
    return unavailable(
      `AWS has refused ec2:${action} again and again: the account makes too many calls in ${region} (${code})`,
      'It is tried again every minute; see what else makes calls in the account.',
    );
  if (/^(SignatureDoesNotMatch|RequestExpired|RequestInTheFuture|RequestTimeTooSkewed)$/.test(code))
    return unauthenticated(
      `${refused}: ${why}`,
      `Check the clock of this host first (${new Date().toISOString()}), then the secret key of ${credentials.from}.`,
    );
  if (
    /^(AuthFailure|InvalidClientTokenId|UnrecognizedClientException|MissingAuthenticationToken|ExpiredToken.*)$/.test(
      code,
    )
  )
    return unauthenticated(
      `${refused}: the credentials of ${credentials.from} are not valid in ${region}: ${why}`,
      'Give others, or none, so that the role of the instance counts.',
    );
  if (code === 'OptInRequired')
    return failedPrecondition(
      `${refused}: the account does not use ${region}: ${why}`,
      `Is ${region} the right region (AWS_REGION)? If so, enable it for the account.`,
    );
  if (
    /^Invalid(RouteTableID|NetworkInterfaceID|InstanceID|SubnetID|VpcID)\.(NotFound|Malformed)$|^InvalidRouteTableId\./.test(
      code,
    )
  )
    return notFound(
      `${refused}: ${why}; it was looked for in ${region}`,
      `Is ${region} the right region (AWS_REGION, or the instance's own), and the id right (RouteTableID)?`,
    );
  if (/more specific than one of this VPC|local route|equal to or/i.test(message))
    return failedPrecondition(
      `${refused}: ${why}`,
      'The network overlaps the VPC: create it again with a prefix outside of the VPC’s.',
    );
  if (status >= 500)
    return unavailable(`${refused}: ${why}`, 'It is tried again every minute; see the AWS Health Dashboard.');
  return failedPrecondition(
    `${refused}: ${why}`,
    `It is tried again every minute; see the log, and ${POLICY}.`,
  );
}

/** Without what only AWS can read, and in one sentence. */
const reason = (message: string): string =>
  message.replace(/\s*Encoded authorization failure message:.*$/is, '').replace(/\.\s*$/, '');
