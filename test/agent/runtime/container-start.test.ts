// A start that fails after its container was attached.
import { existsSync } from 'node:fs';
import { join } from 'node:path';

import test from 'ava';

import { ContainerStarts } from '../../../agent/runtime/container-start.js';
import { ContainerState, type ContainerRecord } from '../../../agent/runtime/container-state.js';
import { processAt } from '../../../agent/kernel/process-id.js';
import { unavailable } from '../../../core/errors.js';
import { silentLogger } from '../../../daemon/log.js';
import { AttachRequest } from '../../../proto/gen/weft/v1/agent.js';
import { endpointOf, overlay } from '../../core/records.js';
import { temporaryFolder } from '../../lab/temporary-folder.js';

test('all of it is rolled back, and its cause is told, though an endpoint cannot be detached', async (t) => {
  const folder = temporaryFolder(t, 'weft-start-');
  const state = new ContainerState(join(folder, 'state'), join(folder, 'run'));
  const detached: string[] = [];
  const starts = new ContainerStarts({
    ...{ state, log: silentLogger },
    find: () => {
      throw new Error('no network is shared');
    },
    networks: {
      attach: ({ network }) => Promise.resolve(endpointOf(overlay({ name: network }), '10.100.1.2/24')),
      detach: (network) => {
        detached.push(network);
        return Promise.reject(unavailable('the firewall cannot be changed'));
      },
      endpoints: () => [],
      resolvConf: () => {
        throw new Error('no name server');
      },
      isNode: () => Promise.resolve(false),
      loopback: () => Promise.resolve(),
    },
  });
  const now = new Date().toISOString();
  const record: ContainerRecord = {
    ...{ id: '0123456789abcdef', name: 'web', network: 'blue', command: ['true'], directory: '/' },
    attachments: ['blue', 'green'].map((network) => ({ request: AttachRequest.create({ network }) })),
    ...{ environment: [], detached: true, remove: false, restart: 'no', stopped: false, bootId: 'boot' },
    ...{ restarts: 0, createdAt: now, startedAt: now },
  };
  const own = processAt(process.pid);
  if (own === undefined) return t.fail();
  await t.throwsAsync(starts.begin(record, own), { message: 'no name server' });
  t.deepEqual(detached, ['green', 'blue']);
  t.false(existsSync(state.folderOf(record.id)));
  t.is(starts.pidOf('web'), undefined);
});
