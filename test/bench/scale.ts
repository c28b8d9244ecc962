// A large cluster: hollow nodes, containers and networks of any number, on a real etcd with real controllers.
//
//   npm run bench scale -- --nodes N --endpoints M --networks K
//
// With more than three networks each node is on three of them; with --networks 1 all nodes are on the same. --json FILE also
// writes the figures there, for a comparison of sizes. --node-ttl is the agents': where few cores run many of them, a node is
// down for the others otherwise each time that it has to wait.
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';

import { messageOf } from '../../core/errors.js';
import { sweep } from '../lab/runs.js';
import type { Size } from './scale/layout.js';
import { MeasuredCluster } from './scale/measured-cluster.js';
import { measure, type Figure } from './scale/measure.js';

/** The size for which the figures are wanted: smaller clusters keep to them, too. */
const BINDING: Size = { nodes: 1000, endpoints: 50_000, networks: 50 };

function options(): {
  size: Size;
  controllers: number;
  seconds: number;
  rounds: number;
  nodeTtl: string;
  json: string | undefined;
} {
  const { values } = parseArgs({
    options: {
      nodes: { type: 'string', default: '100' },
      endpoints: { type: 'string', default: '5000' },
      networks: { type: 'string', default: '50' },
      controllers: { type: 'string', default: '3' },
      seconds: { type: 'string', default: '60' },
      rounds: { type: 'string', default: '20' },
      'node-ttl': { type: 'string', default: '3s' },
      json: { type: 'string' },
    },
  });
  const number = (key: 'nodes' | 'endpoints' | 'networks' | 'controllers' | 'seconds' | 'rounds'): number => {
    const value = Number(values[key]);
    if (!Number.isInteger(value) || value < 1)
      throw new Error(`--${key} ${values[key]}: give a number from 1`);
    return value;
  };
  return {
    size: { nodes: number('nodes'), endpoints: number('endpoints'), networks: number('networks') },
    controllers: number('controllers'),
    seconds: number('seconds'),
    rounds: number('rounds'),
    nodeTtl: values['node-ttl'],
    json: values.json,
  };
}

/** @returns whether all that is wanted is reached */
function print(figures: readonly Figure[], binds: boolean): boolean {
  let reached = true;
  const text = (value: number): string =>
    Number.isInteger(value) ? String(value) : value.toFixed(value < 1 ? 4 : 2);
  console.log(`  ${''.padEnd(64)}${'measured'.padStart(14)}${(binds ? 'at most' : '').padStart(12)}`);
  for (const { what, unit, value, most } of figures) {
    const missed = binds && most !== undefined && !(value <= most);
    if (missed) reached = false;
    const limit = binds && most !== undefined ? text(most) : '';
    const cells = `${`${text(value)} ${unit}`.trim().padStart(14)}${limit.padStart(12)}`;
    console.log(`  ${what.padEnd(64)}${cells}${missed ? '  not reached' : ''}`);
  }
  return reached;
}

async function main(): Promise<number> {
  const { size, controllers, seconds, rounds, nodeTtl, json } = options();
  const { nodes, endpoints, networks } = size;
  sweep();
  console.log(`${nodes} nodes, ${endpoints} endpoints, ${networks} networks, ${controllers} controllers …`);
  const of = await MeasuredCluster.create(size, controllers, nodeTtl);
  try {
    const figures = await measure(of, { seconds, rounds });
    if (json !== undefined) writeFileSync(json, `${JSON.stringify({ size, figures }, undefined, 2)}\n`);
    const binds = nodes <= BINDING.nodes && endpoints <= BINDING.endpoints && networks >= BINDING.networks;
    return print(figures, binds) ? 0 : 1;
  } catch (error) {
    console.error(`bench: ${messageOf(error)}\n${of.cluster.lab.logs(5)}`);
    return 1;
  } finally {
    await of.down();
  }
}

process.exitCode = await main();
