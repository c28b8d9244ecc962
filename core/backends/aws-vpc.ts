// aws-vpc: routes in the route tables of an AWS VPC, as flannel's backend.
import * as z from 'zod';

import { check, goObject } from '../parse.js';
import type { Backend } from './backend.js';
import { cloudBackend } from './cloud.js';

const TABLE = /^rtb-[0-9a-z]+$/;
const EXPECTED = { error: 'expected the id of a route table such as rtb-0a1b2c3d, or several' };

/** One id or a list of them, as flannel reads it; also ids with commas between them, as people write a list. */
const TABLES = z
  .string(EXPECTED)
  .transform((text) => text.split(',').map((id) => id.trim()))
  .or(z.array(z.string(EXPECTED), EXPECTED))
  .transform((ids) => [...new Set(ids.filter((id) => id !== ''))])
  .refine((ids) => ids.every((id) => TABLE.test(id)), EXPECTED);

const CONFIG = goObject({ RouteTableID: TABLES.default([]) });

export const awsVpc: Backend<'aws-vpc'> = {
  ...cloudBackend<'aws-vpc'>(),
  type: 'aws-vpc',
  summary: "is routes in the VPC's route tables, without a tunnel",
  options: [],
  words: ['RouteTableID'],
  cloud: { name: 'aws', tables: ({ routeTables = [] }) => routeTables },

  config: {
    schema: CONFIG.transform(({ RouteTableID: ids }) => (ids.length > 0 ? { routeTables: ids } : {})),
    encode: ({ routeTables }) => ({
      RouteTableID: routeTables?.length === 1 ? routeTables[0] : routeTables,
    }),
    saved: { routeTables: z.array(z.string().regex(TABLE)).optional() },
  },
  parse: (_spec, words) => check(awsVpc.config.schema, words),
  advice: ({ routeTables }) =>
    `Check that ${routeTables === undefined ? 'the route table of this subnet' : routeTables.join(' and ')} has a route to its subnet, and that the security groups admit the containers' addresses.`,
};
