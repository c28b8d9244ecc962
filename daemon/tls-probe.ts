// Whether a server speaks TLS, and what it makes of a certificate: for an error that says why a connection was closed.
import { connect } from 'node:tls';

import { errnoOf } from './errno.js';
import type { ClientTls } from './tls.js';

const TIMEOUT_MS = 1000;

/** Where the handshake is over, how long a server that refuses the certificate may take to say so. */
const REFUSAL_MS = 300;

/**
 * Begins a TLS connection. It carries nothing, so the server's certificate need not be trusted.
 * @returns `silent`: no TLS came back; `open`: the handshake is over, and the connection stays; `closed`: it was closed then
 */
export function probeTls(address: string, tls: ClientTls | undefined): Promise<'silent' | 'open' | 'closed'> {
  const [, host = '', port = ''] = /^\[?(.*?)\]?:(\d+)$/.exec(address) ?? [];
  return new Promise((resolve) => {
    let isSecure = false;
    const socket = connect({
      host,
      port: Number(port),
      rejectUnauthorized: false,
      ALPNProtocols: ['h2'],
      ...(tls === undefined ? {} : { ca: tls.ca, cert: tls.cert, key: tls.key }),
    });
    const done = (found: 'silent' | 'open' | 'closed'): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve(found);
    };
    let timer = setTimeout(() => done('silent'), TIMEOUT_MS);
    socket.on('secureConnect', () => {
      if (tls === undefined) return done('open');
      isSecure = true;
      clearTimeout(timer);
      timer = setTimeout(() => done('open'), REFUSAL_MS);
    });
    // A server of HTTP/2 begins with its settings (RFC 9113 §3.4).
    socket.on('data', () => done('open'));
    socket.on('error', (error) => {
      // An alert is TLS, too: a server of TLS 1.2 refuses whoever shows no certificate within the handshake.
      const alert = /ALERT/.test(errnoOf(error) ?? '');
      done(isSecure || alert ? 'closed' : 'silent');
    });
    socket.on('close', () => done(isSecure ? 'closed' : 'silent'));
  });
}
