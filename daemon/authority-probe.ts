// Which CA a server shows, before it is trusted: to compare with a token, and to choose an identity.
import { type X509Certificate } from 'node:crypto';
import { connect } from 'node:tls';

import { errnoOf } from './errno.js';

const TIMEOUT_MS = 5000;

/** `plain`: something answers, but not with TLS. */
export type Shown =
  | { readonly kind: 'unreachable'; readonly why: string }
  | { readonly kind: 'plain' }
  /** `authority`: PEM of the CA behind the server's certificate, if it shows that. Nothing of it is verified. */
  | { readonly kind: 'tls'; readonly authority: string | undefined };

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
      const shown = rootOf(socket.getPeerX509Certificate());
      done({ kind: 'tls', authority: shown?.toString() });
    });
    socket.on('error', (error) => ended(errnoOf(error) ?? error.message));
    socket.on('close', () => ended('the connection was closed'));
  });
}

/** The last certificate of the chain that was shown, if it is a CA's. */
function rootOf(certificate: X509Certificate | undefined): X509Certificate | undefined {
  let last = certificate;
  while (last?.issuerCertificate !== undefined && last.issuerCertificate !== last) {
    if (last.issuerCertificate.fingerprint256 === last.fingerprint256) break;
    last = last.issuerCertificate;
  }
  return last?.ca === true ? last : undefined;
}
