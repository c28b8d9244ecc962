// Takes secrets out of texts that leave the host, such as the files of `weft bundle`.

const REDACTED = '(redacted)';

/** What is a secret wherever it stands. */
const SECRETS: readonly [pattern: RegExp, by: string][] = [
  // A token of weft's: the hash of its CA is no secret.
  [/\b(WEFT-\d+-[0-9A-Za-z]+)-[0-9A-Za-z]+/g, `$1-${REDACTED}`],
  [/-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?-----END [A-Z ]*PRIVATE KEY-----/g, REDACTED],
  // RFC 3986 §3.2.1: user information of a URL.
  [/\b([a-z][a-z0-9+.-]*:\/\/)[^/\s:@"']*:[^/\s@"']+@/gi, `$1${REDACTED}@`],
  [/\b(bearer|basic)\s+[A-Za-z0-9+/=._~-]{8,}/gi, `$1 ${REDACTED}`],
  // Amazon's key ids.
  [/\b(?:AKIA|ASIA)[A-Z0-9]{16}\b/g, REDACTED],
];

/** Names of fields and settings whose value is a secret: pass words and pre-shared keys, not names of files with them. */
const SECRET_NAME = /(?:password|passwd|passphrase|secret|token|psk|presharedkey|privatekey|credential)s?$/i;

const isSecretName = (name: string): boolean => SECRET_NAME.test(name.replaceAll(/[-_.\s]/g, ''));

/** `name: value` and `name=value` with or without quotes, in lines of settings, JSON and logs. */
const ASSIGNMENT = /(["']?)([A-Za-z][\w.-]*)\1(\s*[:=]\s*)("(?:[^"\\]|\\.)*"|'[^']*'|[^\s,;}\]"']+)/g;

export function redact(text: string): string {
  const known = SECRETS.reduce((done, [pattern, by]) => done.replaceAll(pattern, by), text);
  return known.replaceAll(ASSIGNMENT, (whole, quote: string, name: string, sign: string, value: string) => {
    if (!isSecretName(name) || /^(?:null|true|false|\d+)$/.test(value)) return whole;
    const mark = /^["']/.exec(value)?.[0] ?? '';
    return `${quote}${name}${quote}${sign}${mark}${REDACTED}${mark}`;
  });
}
