// Schema and encoding of a lease in state files.
//
// Its fields keep their names; the backend's data has the names that the backend gives it.
import * as z from 'zod';

import { backendOf, BACKEND_TYPES, isBackend } from '../../core/backends/index.js';
import { savedIp, savedNet } from '../../core/drivers/saved.js';
import type { Lease } from '../../core/records.js';

const FAMILIES = [4, 6] as const;

const dataFields = Object.fromEntries(
  BACKEND_TYPES.flatMap((type) => {
    const { data } = backendOf(type);
    return data === undefined ? [] : FAMILIES.map((family) => [data.savedAs[family], data.saved.optional()]);
  }),
);

export const leaseSchema = z
  .object({
    network: z.string(),
    subnet: savedNet,
    subnet6: savedNet.optional(),
    publicIp: savedIp,
    publicIp6: savedIp.optional(),
    mtu: z.number().int().optional(),
    backendType: z.string(),
    ...dataFields,
    node: z.string().optional(),
    instance: z.string().optional(),
    since: z.string().optional(),
    reservation: z.boolean(),
  })
  .transform((fields: Record<string, unknown> & { backendType: string }) => {
    const type = fields.backendType;
    const codec = isBackend(type) ? backendOf(type).data : undefined;
    const data: Record<string, unknown> = {};
    for (const family of FAMILIES) {
      const end = codec === undefined ? undefined : fields[codec.savedAs[family]];
      if (end !== undefined) data[family] = end;
    }
    // In the position of the fields that it is made from, so that reading and writing gives the same text.
    return Object.fromEntries(
      Object.entries(fields)
        .filter(([name]) => !Object.hasOwn(dataFields, name))
        .flatMap(([name, value]) =>
          name === 'backendType' && Object.keys(data).length > 0
            ? [
                [name, value],
                ['data', { type, ...data }],
              ]
            : [[name, value]],
        ),
    );
  });

export function encodeLeaseFields(lease: Lease): object {
  return Object.fromEntries(
    Object.entries(lease).flatMap(([name, value]: [string, unknown]) =>
      // What belongs to a move is published again after a start.
      name === 'data' ? encodeData(lease) : name === 'beside' ? [] : [[name, value]],
    ),
  );
}

function encodeData({ data }: Lease): [string, unknown][] {
  const codec = data && backendOf(data.type).data;
  if (data === undefined || codec === undefined) return [];
  return FAMILIES.flatMap((family): [string, unknown][] =>
    data[family] === undefined ? [] : [[codec.savedAs[family], data[family]]],
  );
}
