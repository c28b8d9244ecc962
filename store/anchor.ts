// Whether etcd has the history that a watcher has seen: by what it has in place of the last event.
import type { IKeyValue } from 'etcd3';

import { CallFailure } from './failures.js';
import type { Session } from './session.js';

/** @returns undefined where it can no longer be known @throws CallFailure */
export async function hasHappened(session: Session, last: IKeyValue): Promise<boolean | undefined> {
  const { key, version, lease, value } = last;
  const at = Number(last.mod_revision);
  const read = async (revision: number): Promise<IKeyValue | undefined> => {
    const { kvs } = await session.call((etcd, options) => etcd.kv.range({ key, revision }, options), {
      observed: false,
    });
    return kvs[0];
  };
  try {
    const found = await read(at);
    // Of a deletion etcd sends the key alone.
    if (version === '0') return found === undefined && (await read(at - 1)) !== undefined;
    return (
      found?.mod_revision === last.mod_revision &&
      found.version === version &&
      found.lease === lease &&
      found.value.equals(value)
    );
  } catch (error) {
    if (error instanceof CallFailure && error.kind === 'future') return false;
    if (error instanceof CallFailure && error.kind === 'compacted') return undefined;
    throw error;
  }
}
