// The files of this node for `weft bundle`: what somebody needs who looks for a fault from afar. Secrets are taken out.
import { freemem, loadavg, release, totalmem, uptime, version as kernelVersion } from 'node:os';

import { messageOf } from '../../core/errors.js';
import { describeObject } from '../../core/objects/index.js';
import { redact } from '../../core/redact.js';
import { Event } from '../../proto/gen/weft/v1/events.js';
import type { FilePart } from '../../proto/gen/weft/v1/inspection.js';
import { Status } from '../../proto/gen/weft/v1/types.js';
import { describePreview, formatDryRun } from '../dry-run/index.js';
import { checkNode } from './checks.js';
import { localEndpoints } from './local-endpoints.js';
import type { InspectOptions } from './options.js';
import { trafficOf } from './traffic.js';

/** Of one message. */
const PART_BYTES = 256 * 1024;

type Answer = { $case: 'file'; value: FilePart };

export async function* bundle(options: InspectOptions): AsyncGenerator<Answer> {
  for (const [name, write] of Object.entries(FILES)) {
    const bytes = Buffer.from(redact(await textOf(write, options)));
    let at = 0;
    do {
      const part = bytes.subarray(at, at + PART_BYTES);
      at += PART_BYTES;
      yield { $case: 'file', value: { name, bytes: part, isLast: at >= bytes.length } };
    } while (at < bytes.length);
  }
}

type Write = (options: InspectOptions) => unknown;

/** A file that cannot be made says why: the others are useful without it. */
async function textOf(write: Write, options: InspectOptions): Promise<string> {
  try {
    const made = await write(options);
    return typeof made === 'string' ? made : `${JSON.stringify(made, undefined, 2)}\n`;
  } catch (error) {
    return `this file could not be made: ${messageOf(error)}\n`;
  }
}

const FILES: Readonly<Record<string, Write>> = {
  'system.json': ({ node, version }) => ({
    ...{ node, weft: version, nodejs: process.version, kernel: release(), kernelVersion: kernelVersion() },
    ...{ time: new Date().toISOString(), uptime: uptime(), load: loadavg() },
    memory: { total: totalmem(), free: freemem() },
  }),
  'settings.json': ({ settings }) => settings,
  'status.json': async ({ status }) => Status.toJSON(await status()),
  'checks.json': (options) => checkNode(options),
  'diff.txt': async ({ reconciler }) => {
    const planned = describePreview(await reconciler.preview(), () => undefined);
    return `${formatDryRun(planned, 'text')}${planned.notes.map((note) => `${note}\n`).join('')}`;
  },
  'endpoints.json': (options) => localEndpoints(options),
  'networks.json': ({ store }) => [...store.view.networks.values()],
  'traffic.json': (options) => trafficOf(options),
  'objects.txt': async ({ kernel }) => {
    const { objects } = await kernel.node.observe([]);
    const lines = [...objects.values()].map(
      ({ object, owned }) => `${owned ? 'weft ' : 'other'} ${describeObject(object)}`,
    );
    return `${lines.join('\n')}\n`;
  },
  'routes.json': ({ kernel }) => kernel.routes(),
  'firewall.json': ({ kernel }) => ({ kind: kernel.firewall.kind, drops: kernel.firewall.drops() }),
  'neighbours.json': ({ kernel }) =>
    kernel.neighbourTables().map(({ family, entries, most }) => ({ family, entries, most })),
  'events.jsonl': ({ events }) =>
    events
      .after(0)
      .map((event) => `${JSON.stringify(Event.toJSON(event))}\n`)
      .join(''),
  'metrics.txt': ({ metrics }) => metrics(),
};
