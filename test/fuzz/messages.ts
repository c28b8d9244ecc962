// Well-formed random messages for any method of any service.
//
// The fields of a request are found by probing its own decoder, so that new fields and methods are attacked without a change
// here.
import { BinaryWriter } from '@bufbuild/protobuf/wire';
import type { MethodDefinition, ServiceDefinition } from '@grpc/grpc-js';
import fc from 'fast-check';

import { value, word } from './garbage.js';

/** Any method: takes bytes, returns an unknown message. */
export type Method = MethodDefinition<unknown, unknown>;

/** The methods of every service in a generated module. */
export function methodsOf(...modules: readonly object[]): Method[] {
  const services = modules.flatMap((module) =>
    Object.entries(module).flatMap(([name, what]: [string, unknown]) =>
      name.endsWith('Service') && typeof what === 'object' && what !== null
        ? [what as ServiceDefinition]
        : [],
    ),
  );
  return services.flatMap((service) => Object.values(service) as Method[]);
}

type Field = { number: number; name: string } & (
  { kind: 'number' } | { kind: 'text' } | { kind: 'message'; fields: readonly Field[] }
);

type Decode = (bytes: Buffer) => unknown;
/** Wraps the bytes of an inner message in its request. */
type Wrap = (bytes: Uint8Array) => Uint8Array;

const HIGHEST_FIELD = 80;
/** Limits recursive messages. */
const DEEPEST = 5;

/** Wire types of protobuf: https://protobuf.dev/programming-guides/encoding/#structure */
const WIRE = { varint: 0, length: 2 } as const;

const tagged = (number: number, type: number): BinaryWriter =>
  new BinaryWriter().uint32((number << 3) | type);
const numeric = (number: number, given: number): Uint8Array =>
  tagged(number, WIRE.varint).uint32(given).finish();
const lengthed = (number: number, bytes: Uint8Array): Uint8Array =>
  tagged(number, WIRE.length).bytes(bytes).finish();

/** A text that is no message: its first byte announces a field that does not follow. */
const PROBE = Buffer.from('a');

export function fieldsOf(decode: Decode, wrap: Wrap = (bytes) => bytes, depth = 0): Field[] {
  const shown = (bytes: Uint8Array): string | undefined => {
    try {
      return JSON.stringify(decode(Buffer.from(wrap(bytes))), (_key, inner: unknown) =>
        inner === undefined ? '(absent)' : inner,
      );
    } catch {
      return undefined;
    }
  };
  const empty = shown(new Uint8Array());
  const found: Field[] = [];
  for (let number = 1; number <= HIGHEST_FIELD; number++) {
    const name = `${number}`;
    const asText = shown(lengthed(number, PROBE));
    if (![empty, undefined].includes(shown(numeric(number, 1)))) found.push({ number, name, kind: 'number' });
    else if (asText === undefined) {
      const inner: Wrap = (bytes) => wrap(lengthed(number, bytes));
      const fields = depth < DEEPEST ? fieldsOf(decode, inner, depth + 1) : [];
      found.push({ number, name, kind: 'message', fields });
    } else if (asText !== empty) found.push({ number, name, kind: 'text' });
  }
  return found;
}

const numbers = fc.oneof(
  fc.constantFrom(0, 1, 2, 80, 4096, 65_535, 65_536, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1),
  fc.nat(),
);

/**
 * Messages of these fields: each occurs once, repeatedly, or not at all, sometimes with an unknown field.
 * @param words further texts, such as the name of an existing object
 */
export function messagesOf(fields: readonly Field[], words: readonly string[]): fc.Arbitrary<Uint8Array> {
  const texts = fc.oneof(
    { weight: words.length === 0 ? 0 : 3, arbitrary: fc.constantFrom('', ...words) },
    { weight: 2, arbitrary: word },
    { weight: 1, arbitrary: value.map((one) => JSON.stringify(one).replaceAll(/\p{Surrogate}/gu, '?')) },
  );
  const parts = fields.map((field): fc.Arbitrary<Uint8Array> => {
    const { number } = field;
    if (field.kind === 'number') return numbers.map((given) => numeric(number, given));
    if (field.kind === 'text') return texts.map((given) => lengthed(number, Buffer.from(given)));
    return messagesOf(field.fields, words).map((bytes) => lengthed(number, bytes));
  });
  const some = (part: fc.Arbitrary<Uint8Array>): fc.Arbitrary<Uint8Array[]> =>
    fc.oneof(
      { weight: 4, arbitrary: fc.array(part, { minLength: 1, maxLength: 1 }) },
      { weight: 3, arbitrary: fc.constant<Uint8Array[]>([]) },
      { weight: 1, arbitrary: fc.array(part, { maxLength: 4 }) },
    );
  const unknown = numbers.map((given) => numeric(HIGHEST_FIELD + 1, given));
  return fc
    .tuple(...parts.map(some), fc.array(unknown, { maxLength: 1 }))
    .map((all) => Buffer.concat(all.flat()));
}
