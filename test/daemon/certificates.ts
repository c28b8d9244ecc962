// Certificates for tests, made by openssl: a CA, and whoever has one of it.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface Pair {
  cert: string;
  key: string;
}

export class TestCa {
  readonly folder = mkdtempSync(join(tmpdir(), 'weft-ca-'));
  readonly ca = join(this.folder, 'ca.pem');
  readonly #key = join(this.folder, 'ca.key');

  constructor() {
    this.#openssl(
      ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'],
      ...['-subj', '/CN=test CA', '-keyout', this.#key, '-out', this.ca],
    );
  }

  /** A certificate for 127.0.0.1, for both sides of a connection. */
  issue(name: string): Pair {
    const [cert, key, request, extensions] = ['pem', 'key', 'csr', 'ext'].map((end) =>
      join(this.folder, `${name}.${end}`),
    );
    if (cert === undefined || key === undefined || request === undefined || extensions === undefined)
      throw new Error();
    this.#openssl(
      ...['req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'],
      ...['-subj', `/CN=${name}`, '-keyout', key, '-out', request],
    );
    writeFileSync(
      extensions,
      'subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage=serverAuth,clientAuth\n',
    );
    this.#openssl(
      ...[
        'x509',
        '-req',
        '-in',
        request,
        '-CA',
        this.ca,
        '-CAkey',
        this.#key,
        '-CAcreateserial',
        '-days',
        '2',
      ],
      ...['-extfile', extensions, '-out', cert],
    );
    return { cert, key };
  }

  remove(): void {
    rmSync(this.folder, { recursive: true });
  }

  #openssl(...argv: string[]): void {
    execFileSync('openssl', argv, { stdio: 'pipe' });
  }
}
