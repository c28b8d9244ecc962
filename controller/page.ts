// The page of a controller: by mutual TLS alone, with the rights of the browser's certificate.
import type { HostPort } from '../daemon/kinds.js';
import { callerOf } from '../daemon/caller.js';
import type { Logger } from '../daemon/log.js';
import { PageServer, Source } from '../daemon/page/index.js';
import type { Tls } from '../daemon/tls.js';
import { failedPrecondition } from '../core/errors.js';
import { CONTROLLER_NAME } from '../core/identity.js';
import { refusalOf, type Guard } from './rights.js';

/** Certificates are renewed long before their end. */
const LOOK_MS = 60_000;

/**
 * @param port of this controller's gRPC, which the page asks as a command would
 * @param names by which browsers reach the page, beside the address that it listens on
 * @throws WeftError FAILED_PRECONDITION without TLS, and where the address is taken
 */
export async function servePage(options: {
  listen: HostPort;
  port: number;
  names: readonly string[];
  tls: () => Tls | undefined;
  guard: Guard;
  log: Logger;
}): Promise<PageServer> {
  const { listen, port, names, tls, guard, log } = options;
  const own = tls();
  if (own === undefined)
    throw failedPrecondition(
      '--ui: this controller serves plain text, and the page is for people with a certificate alone',
      'Move the cluster to TLS (weft ca init), or use weft ui.',
    );
  const source = new Source(() => ({ address: `127.0.0.1:${port}`, tls: tls() }));
  const page = await PageServer.start({
    ...{ listen, source, log, flag: '--ui' },
    secure: {
      ...{ tls: own, names: [CONTROLLER_NAME, 'localhost', ...names] },
      rightOf: (socket) => {
        const caller = callerOf({ sslPeerCertificate: socket.getPeerCertificate() });
        return (method) => {
          // The source asks with the controller's certificate, which may more.
          const refusal = refusalOf(`/weft.v1.${method}`, caller, false, guard);
          if (refusal !== undefined) throw refusal;
        };
      },
    },
  });
  let served = own;
  setInterval(() => {
    const now = tls();
    if (now === undefined || (now.cert.equals(served.cert) && now.ca.equals(served.ca))) return;
    served = now;
    page.replace(now);
  }, LOOK_MS).unref();
  return page;
}
