// Handler of `weft node rotate-key`.
import type { Server } from '@grpc/grpc-js';

import { unary } from '../../daemon/grpc.js';
import { KeyServiceService, type RotateKeyRequest } from '../../proto/gen/weft/v1/keys.js';
import type { KeyRotation } from '../networks/index.js';

export function mountKeys(server: Server, node: string, rotation: KeyRotation, changed: () => void): void {
  server.addService(KeyServiceService, {
    rotateKey: unary(async (_request: RotateKeyRequest, { signal }) => {
      const rotated = await rotation.rotate(signal);
      changed();
      return { node, ...rotated };
    }),
  });
}
