// Stage 3, restore: restores the records of the state directory.
//
// The node does not wait for etcd.
import { NODE } from '../health/index.js';
import type { Opened } from './open.js';
import type { Parts } from './assemble.js';

export async function restore(opened: Opened, parts: Parts): Promise<void> {
  const { loaded, log, problems } = opened;
  const { memberships, endpoints, attachments, attachmentState, netnsResolvConf, pluginAddresses } = parts;
  await memberships.restore(loaded.networks);
  parts.policies.restore(loaded.policies);
  await endpoints.restore(loaded.endpoints);
  await attachments.restore(
    attachmentState.load((path, why) => {
      log.error('a file of the state directory cannot be read', { path, error: why });
      problems.set(
        { scope: NODE, kind: 'state-file', id: path },
        {
          what: `the state file ${path}`,
          why: `it cannot be read: ${why}`,
          fix: 'Its pipework attachment is lost; make it again with weft pipework, then delete the file.',
        },
      );
    }),
  );
  netnsResolvConf.keepOnly(endpoints.list().flatMap(({ dns, target }) => (dns === true ? [target] : [])));
  pluginAddresses.restore(loaded.reservations);
  await parts.reconciler.start();
  parts.dns.start();
  parts.ports.start();
  parts.containers.restore();
}
