// Certificates for tests, made by openssl: a CA and certificates signed by it.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface Pair {
  cert: string;
  key: string;
}

const NEW_KEY = '-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes';

export class TestCa {
  readonly folder = mkdtempSync(join(tmpdir(), 'weft-ca-'));
  readonly ca = join(this.folder, 'ca.pem');
  readonly #key = join(this.folder, 'ca.key');

  constructor() {
    this.#openssl(`req -x509 -days 2 -subj /CN=test-CA ${NEW_KEY}`, ['-keyout', this.#key, '-out', this.ca]);
  }

  /** A certificate for 127.0.0.1 and these addresses, for both sides of a connection. */
  issue(name: string, ...addresses: readonly string[]): Pair {
    const at = (end: string): string => join(this.folder, `${name}.${end}`);
    const [cert, key, request, extensions] = [at('pem'), at('key'), at('csr'), at('ext')];
    this.#openssl(`req -subj /CN=${name} ${NEW_KEY}`, ['-keyout', key, '-out', request]);
    const names = ['127.0.0.1', ...addresses].map((ip) => `IP:${ip}`).join(',');
    writeFileSync(
      extensions,
      `subjectAltName=${names},DNS:localhost\nextendedKeyUsage=serverAuth,clientAuth\n`,
    );
    const files = ['-in', request, '-CA', this.ca, '-CAkey', this.#key, '-extfile', extensions, '-out', cert];
    this.#openssl('x509 -req -days 2 -CAcreateserial', files);
    return { cert, key };
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }

  #openssl(command: string, files: string[]): void {
    execFileSync('openssl', [...command.split(' '), ...files], { stdio: 'pipe' });
  }
}
