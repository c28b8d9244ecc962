// The ready-made messages of etcd encode and decode as those that etcd3 makes of the .proto files.
import { createRequire } from 'node:module';
import { join } from 'node:path';

import test from 'ava';

import { etcdMessages } from '../../bundle/etcd-messages.js';
import { CHECKOUT } from '../lab/lab.js';

interface Method {
  path: string;
  originalName: string;
  requestStream: boolean;
  responseStream: boolean;
  requestSerialize: (value: object) => Buffer;
  responseSerialize: (value: object) => Buffer;
  responseDeserialize: (bytes: Buffer) => object;
  requestType: { type: { name: string } };
  responseType: { type: { name: string } };
}
type Definition = Record<string, Record<string, Method>>;

const pool = createRequire(join(CHECKOUT, 'package.json')).resolve('etcd3/lib/connection-pool.js');
const { loadSync } = createRequire(pool)('@grpc/proto-loader') as {
  loadSync: (file: string, options: object) => Definition;
};
const options = { keepCase: true, longs: String, enums: String, defaults: true, oneofs: true };
const loaded = loadSync(join(pool, '../../proto/rpc.proto'), options);
const services = Object.entries(loaded).filter(([, of]) => !('format' in of));

function ready(): Definition {
  const { source, folder } = etcdMessages(pool);
  const module: { exports: object } = { exports: {} };
  // oxlint-disable-next-line typescript/no-implied-eval -- it is source text
  new Function('module', 'require', source)(module, createRequire(join(folder, 'x.js')));
  return module.exports as Definition;
}

interface Field {
  name: string;
  type: string;
  label: string;
  typeName: string;
}

/** A message with a value in every field, by the descriptor of its type; of a oneof the last one stays. */
function sample(name: string, n: number, depth = 0): Record<string, unknown> {
  const found = Object.entries(loaded).find(([full]) => full.endsWith(`.${name.split('.').at(-1)}`))?.[1];
  const { field } = (found as unknown as { type: { field: Field[] } }).type;
  const value = ({ type, typeName }: Field): unknown => {
    if (type === 'TYPE_MESSAGE') return depth > 3 ? {} : sample(typeName, n + 1, depth + 1);
    if (type === 'TYPE_ENUM') return n % 2;
    if (type === 'TYPE_BYTES') return Buffer.from([n, 0, 255]);
    if (type === 'TYPE_STRING') return `text ${n}`;
    if (type === 'TYPE_BOOL') return true;
    return n % 2 === 0 ? '9007199254740993' : n;
  };
  return Object.fromEntries(
    field.map((one) => [one.name, one.label === 'LABEL_REPEATED' ? [value(one), value(one)] : value(one)]),
  );
}

test('the same services and methods', (t) => {
  const shape = (definition: [string, Record<string, Method>][]): unknown =>
    definition.map(([name, methods]) => [
      name,
      Object.entries(methods).map(([method, { path, originalName, requestStream, responseStream }]) => [
        ...[method, path, originalName, requestStream, responseStream],
      ]),
    ]);
  t.deepEqual(shape(Object.entries(ready())), shape(services));
  t.true(services.length >= 6);
});

test('the same bytes of requests, the same values of responses', (t) => {
  const made = ready();
  for (const [service, methods] of services)
    for (const [name, method] of Object.entries(methods)) {
      const mine = made[service]?.[name];
      for (const n of [0, 1]) {
        const request = sample(method.requestType.type.name, n);
        t.deepEqual(mine?.requestSerialize(request), method.requestSerialize(request), `${name} ${n}`);
        const response = method.responseSerialize(sample(method.responseType.type.name, n));
        t.deepEqual(
          mine?.responseDeserialize(response),
          method.responseDeserialize(response),
          `${name} ${n}`,
        );
      }
      t.deepEqual(mine?.requestSerialize({}), method.requestSerialize({}));
      t.deepEqual(mine?.responseDeserialize(Buffer.alloc(0)), method.responseDeserialize(Buffer.alloc(0)));
      t.throws(() => mine?.requestSerialize([]), { message: /got array instead/ });
    }
});
