// Which CA a server shows, before it is trusted: to compare with a token, and to choose an identity.
import { type X509Certificate } from 'node:crypto';
import { connect } from 'node:tls';

import { errnoOf } from './errno.js';

const TIMEOUT_MS = 5000;

/** `plain`: something answers, but not with TLS. */
export type Shown =
  | { readonly kind: 'unreachable'; readonly why: string }
  | { readonly kind: 'plain' }
  /**
   * `authorities`: PEM of the CAs behind the server's certificate, from the one that signed it to the root, as far as it
   * shows them. Several where one CA replaces another. Nothing of it is verified.
   */
  | { readonly kind: 'tls'; readonly authorities: readonly string[] };

/** @param address HOST:PORT */
export function shownAuthority(address: string): Promise<Shown> {
  const [, host = '', port = ''] = /^\[?(.*?)\]?:(\d+)$/.exec(address) ?? [];
  return new Promise((resolve) => {
    let isConnected = false;
    const socket = connect({ host, port: Number(port), rejectUnauthorized: false, ALPNProtocols: ['h2'] });
    const done = (shown: Shown): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve(shown);
    };
    const ended = (why: string): void => done(isConnected ? { kind: 'plain' } : { kind: 'unreachable', why });
    const timer = setTimeout(() => ended('no answer in time'), TIMEOUT_MS);
    socket.on('connect', () => (isConnected = true));
    socket.on('secureConnect', () => {
      done({ kind: 'tls', authorities: authoritiesOf(socket.getPeerX509Certificate()) });
    });
    socket.on('error', (error) => ended(errnoOf(error) ?? error.message));
    socket.on('close', () => ended('the connection was closed'));
  });
}

/** The CAs of the chain that was shown. */
function authoritiesOf(certificate: X509Certificate | undefined): string[] {
  const found: string[] = [];
  let last = certificate;
  for (;;) {
    const next: X509Certificate | undefined = last?.issuerCertificate;
    if (next?.ca !== true || next.fingerprint256 === last?.fingerprint256) return found;
    found.push(next.toString());
    last = next;
  }
}
