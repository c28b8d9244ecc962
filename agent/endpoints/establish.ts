// Establish an endpoint: reserve its name, program the kernel, save it.
//
// The same steps serve every manager: `weft attach`, `weft expose`, and what plugins attach or connect. Only programming the
// kernel differs. All or nothing.
import type { Membership } from '../../core/compile.js';
import type { KernelObject } from '../../core/objects/index.js';
import type { Endpoint } from '../../core/records.js';
import type { Rollback } from '../../daemon/rollback.js';
import { recordOf, type Endpoints } from './endpoints.js';
import type { Publisher } from './publisher.js';
import type { Reconciler } from '../reconcile/index.js';

export interface EstablishParts {
  endpoints: Pick<Endpoints, 'put' | 'compile' | 'bind' | 'release'>;
  publisher: Pick<Publisher, 'reserveName' | 'withdraw'>;
  reconciler: Pick<Reconciler, 'detach'>;
}

export interface Establishment {
  membership: Membership;
  endpoint: Endpoint;
  /** Of the change that this is a part of. */
  rollback: Rollback;
  signal?: AbortSignal | undefined;
  /** Applies the compiled objects to the kernel; adds to the rollback what is no object of the record. */
  program: (objects: { host: KernelObject[]; container: KernelObject[] }) => Promise<void>;
}

/** @throws WeftError, or the signal's reason */
export async function establish(
  { endpoints, publisher, reconciler }: EstablishParts,
  { membership, endpoint, rollback, signal, program }: Establishment,
): Promise<Endpoint> {
  if (endpoint.explicitName) {
    rollback.add(() => publisher.withdraw(endpoint));
    await publisher.reserveName(endpoint);
  }
  signal?.throwIfAborted();
  rollback.add(() => endpoints.release(endpoint));
  await endpoints.bind(endpoint);
  rollback.add(() => reconciler.detach(recordOf(endpoint)));
  await program(endpoints.compile(membership, endpoint));
  // Last: from here on the endpoint is published, and outlives this process.
  signal?.throwIfAborted();
  endpoints.put(endpoint);
  return endpoint;
}
