// Garbage for every input, its budget, and the check for a clear error.
//
// Text, JSON and bytes of the kinds that break parsers, half of it nearly valid. A fixed budget; WEFT_FUZZ=N for N times as
// much, WEFT_FUZZ_SEED to repeat a run.
import fc from 'fast-check';

const BUDGET = Number(process.env['WEFT_FUZZ'] ?? 1);

/** A number of runs by the budget: a whole one, for fast-check never ends with a fraction. */
export const times = (runs: number): number => Math.max(1, Math.round(runs * BUDGET));

const givenSeed = process.env['WEFT_FUZZ_SEED'];
if (givenSeed !== undefined) fc.configureGlobal({ seed: Number(givenSeed) });
/** The seed of what is sampled rather than asserted; the user prints it. */
export const SEED = Number(givenSeed ?? Date.now() % 2 ** 30);

/** How long a test of this budget may take. */
export const patience = (seconds: number): number => seconds * 1000 * Math.max(1, BUDGET);

/** Words with a meaning in weft, and words that have broken programs. */
export const ODD_WORDS = [
  ...['', '0', '-1', '1e309', 'NaN', 'null', 'true', '\0', '\n', '\r\nX: y', '\u202e', '\u001b[31m'],
  ...[
    '10.100.0.0/16',
    '10.100.5.1',
    '0.0.0.0/0',
    '999.1.1.1/99',
    '10.100.5.1/33',
    '::',
    'fd42::/64',
    '::1%lo',
  ],
  ...['02:00:00:00:00:01', 'ff:ff:ff:ff:ff:ff', '0:8080:80/udp', '1-65535:1-65535', '[::]:1:1'],
  ...['../../../etc/passwd', '/proc/self/mem', 'netns:/proc/1/ns/net', 'netns:/dev/zero', 'pid:0', 'pid:-1'],
  ...['docker:', 'container:x', 'host', 'none', 'default', '.', '..', 'a.b', '-rf', '--', '${HOME}', '%s%n'],
  ...[
    '__proto__',
    'constructor',
    'toString',
    'hasOwnProperty',
    '{}',
    '[]',
    '"',
    "'",
    '`',
    '\\',
    '\ud7ff\ue000',
  ],
  'x'.repeat(300),
  'é'.repeat(3000),
  // Text is cut at some point, and one of the two cuts splits a surrogate pair.
  '😀'.repeat(3000),
  `x${'😀'.repeat(3000)}`,
];

/** Text as a connection delivers it: no lone surrogates. */
export const word = fc.oneof(
  fc.constantFrom(...ODD_WORDS),
  fc.string(),
  fc.string({ unit: 'binary' }).map((text) => text.replaceAll(/\p{Surrogate}/gu, '?')),
);

const scalar = fc.oneof(
  word,
  fc.string({ unit: 'binary' }),
  fc.integer(),
  fc.double(),
  fc.boolean(),
  fc.constant(null),
);

/** Keys of weft's and flannel's records, Docker's requests and state files. */
const FIELDS = [
  ...[
    'Network',
    'SubnetLen',
    'SubnetMin',
    'SubnetMax',
    'IPv6Network',
    'EnableIPv6',
    'Backend',
    'Type',
    'VNI',
  ],
  ...['Port', 'MTU', 'Weft', 'PublicIP', 'PublicIPv6', 'BackendType', 'BackendData', 'VtepMAC', 'Node'],
  ...[
    'Instance',
    'Since',
    'Routes',
    'Parent',
    'Range',
    'Gateway',
    'Masquerade',
    'Internal',
    'VLAN',
    'AllowVLAN',
  ],
  ...[
    'id',
    'name',
    'node',
    'target',
    'sandbox',
    'path',
    'cookie',
    'bootId',
    'ifname',
    'hostIfname',
    'ip',
    'ip6',
  ],
  ...[
    'mac',
    'aliases',
    'publish',
    'state',
    'instance',
    'publicIp',
    'at',
    'forced',
    'network',
    'lease',
    'granted',
  ],
  ...['config', 'ips', 'endpoint', 'why', 'createdAt', '__proto__', 'constructor', 'toString'],
];

/** Any JSON. */
export const { value } = fc.letrec<{ value: unknown }>((tie) => ({
  value: fc.oneof(
    { depthSize: 'small' },
    scalar,
    fc.array(tie('value'), { maxLength: 4 }),
    fc.dictionary(fc.oneof(fc.constantFrom(...FIELDS), fc.string()), tie('value'), { maxKeys: 8 }),
  ),
}));

/** Nested deeper than the call stack allows, but shorter than the largest value that is read. */
const DEEP = 20_000;
const deep = `${'['.repeat(DEEP)}${']'.repeat(DEEP)}`;

/** Text where JSON is expected: other JSON, truncated, too deep, none. */
export const text = fc.oneof(
  { weight: 6, arbitrary: value.map((one) => JSON.stringify(one)) },
  { weight: 2, arbitrary: value.map((one) => JSON.stringify(one).slice(0, -1)) },
  { weight: 2, arbitrary: fc.string({ unit: 'binary' }) },
  { weight: 1, arbitrary: fc.constantFrom('['.repeat(DEEP), '{"a":'.repeat(DEEP), deep, '[]', 'null', '""') },
  { weight: 1, arbitrary: fc.constantFrom(...FIELDS).map((key) => `{"${key}":${deep}}`) },
);

/**
 * A record with one spoilt place, which holds another value, is missing, or is nested twice as deep. What is nearly
 * valid gets further than noise.
 */
export function spoilt(record: object): fc.Arbitrary<unknown> {
  const places = placesOf(record);
  return fc
    .tuple(fc.constantFrom(...places), fc.oneof({ weight: 4, arbitrary: value }, fc.constant(undefined)))
    .map(([place, other]) => replaced(record, place, other));
}

function placesOf(at: unknown, path: readonly string[] = []): string[][] {
  if (typeof at !== 'object' || at === null) return [[...path]];
  const below = Object.entries(at).flatMap(([key, inner]) => placesOf(inner, [...path, key]));
  return path.length === 0 ? below : [[...path], ...below];
}

function replaced(at: unknown, [key, ...rest]: readonly string[], other: unknown): unknown {
  if (key === undefined) return other;
  if (Array.isArray(at))
    return at.map((item: unknown, i) => (String(i) === key ? replaced(item, rest, other) : item));
  return Object.fromEntries(
    Object.entries(at as object).map(([name, inner]: [string, unknown]) => [
      name,
      name === key ? replaced(inner, rest, other) : inner,
    ]),
  );
}

/** Why a text is no usable error for people; undefined where it is one. */
export function unclear(message: string): string | undefined {
  if (message.trim() === '') return 'it says nothing';
  if (/^\s+at .*[:(]\d+|\.[jt]s:\d+/m.test(message)) return 'it has a stack trace';
  const fault =
    /Cannot (read|set) propert|is not (a function|iterable|defined|an object)|undefined is|\[object |Maximum call stack|Invalid array length|URI malformed|a fault in weft/;
  const found = fault.exec(message);
  return found === null ? undefined : `it speaks of weft’s own inside: ${found[0]}`;
}

/** Whether a prototype of the process was polluted. */
export const polluted = (): string[] => Object.keys(Object.prototype);
