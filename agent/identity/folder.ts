// The folder of the node's identity: STATE-DIR/identity.
import { join } from 'node:path';

import { IdentityFolder } from '../../daemon/identity-folder.js';

export const nodeIdentityFolder = (stateDir: string): IdentityFolder =>
  new IdentityFolder(join(stateDir, 'identity'), 'node');
