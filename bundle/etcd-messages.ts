// What etcd3 makes of etcd's .proto files at every start, made once: codecs and service definitions as source text.
//
// protobufjs writes the same functions, which @grpc/proto-loader would have it write and compile at run time. Only what a client
// needs is here: requests are encoded, responses decoded.
import { createRequire } from 'node:module';
import { dirname } from 'node:path';

import type * as Protobuf from 'protobufjs';

export interface EtcdMessages {
  /** A CommonJS module that exports the package definition. */
  source: string;
  /** The folder that its imports are to be found from. */
  folder: string;
}

/** @param pool the path of etcd3's connection-pool.js, which loads the files */
export function etcdMessages(pool: string): EtcdMessages {
  const loader = createRequire(pool).resolve('@grpc/proto-loader');
  const protobuf = createRequire(loader)('protobufjs') as typeof Protobuf;
  const camelCase = createRequire(loader)('lodash.camelcase') as (name: string) => string;
  const file = createRequire(pool).resolve('../proto/rpc.proto');
  const root = new protobuf.Root().loadSync(file, { keepCase: true });
  root.resolveAll();
  const { types, services } = contentsOf(protobuf, root);
  const source = [
    "const { Reader, Writer, util } = require('protobufjs/minimal');",
    // The options that etcd3 gives the loader.
    'const options = { keepCase: true, longs: String, enums: String, defaults: true, oneofs: true };',
    `const all = [${types.map(constructorOf).join(',\n')}].map((ctor) => ({ name: ctor.name, ctor }));`,
    ...codecsOf(protobuf, types, services),
    HELPERS,
    `module.exports = {${services.map((service) => definitionOf(service, types, camelCase)).join(',\n')}};`,
  ].join('\n');
  return { source, folder: dirname(loader) };
}

const HELPERS = `
const writerOf = (type) => (value) => {
  if (Array.isArray(value)) throw new Error('Failed to serialize message: expected object with ' + type.name + ' structure, got array instead');
  return type.encode(type.fromObject(value)).finish();
};
const readerOf = (type) => (buffer) => type.toObject(type.decode(buffer), options);
const method = (path, originalName, request, response, requestStream, responseStream) => ({
  path, originalName, requestStream, responseStream,
  requestSerialize: writerOf(all[request]), responseDeserialize: readerOf(all[response]),
});`;

function contentsOf(
  { Namespace, Type, Service }: typeof Protobuf,
  root: Protobuf.Root,
): { types: Protobuf.Type[]; services: Protobuf.Service[] } {
  const types: Protobuf.Type[] = [];
  const services: Protobuf.Service[] = [];
  const visit = (object: Protobuf.ReflectionObject): void => {
    if (object instanceof Type) types.push(object);
    if (object instanceof Service) services.push(object);
    else if (object instanceof Namespace) object.nestedArray.forEach(visit);
  };
  visit(root);
  return { types, services };
}

function constructorOf({ name, fieldsArray }: Protobuf.Type): string {
  if (fieldsArray.some((field) => field.map)) throw new Error(`${name}: a map, which is not provided for`);
  const lists = fieldsArray.filter((field) => field.repeated).map((field) => `this.${field.name} = [];`);
  return `function ${name}() { ${lists.join(' ')} }`;
}

function codecsOf(
  { encoder, decoder, converter, Type }: typeof Protobuf,
  types: readonly Protobuf.Type[],
  services: readonly Protobuf.Service[],
): string[] {
  /** A type and those of its fields, at any depth. */
  const withFields = (of: (Protobuf.Type | null)[]): Set<Protobuf.Type> => {
    const found = new Set(of.filter((type) => type !== null));
    for (const { fieldsArray } of found)
      for (const { resolvedType } of fieldsArray) if (resolvedType instanceof Type) found.add(resolvedType);
    return found;
  };
  const methods = services.flatMap(({ methodsArray }) => methodsArray);
  const requests = withFields(methods.map(({ resolvedRequestType }) => resolvedRequestType));
  const responses = withFields(methods.map(({ resolvedResponseType }) => resolvedResponseType));
  return types.map((type, index) => {
    const codecs = {
      ...(requests.has(type) && { encode: encoder(type), fromObject: converter.fromObject(type) }),
      ...(responses.has(type) && { decode: decoder(type), toObject: converter.toObject(type) }),
    };
    const functions = Object.entries(codecs).map(([name, text]) => `${name}: ${String(text)}`);
    // The free variables of the functions are Reader, Writer, util, and the types of the fields by index.
    return `{ const types = [${typesOf(type, types)}]; Object.assign(all[${index}], { ${functions.join(',\n')} }); }`;
  });
}

const typesOf = (type: Protobuf.Type, types: readonly Protobuf.Type[]): string =>
  type.fieldsArray
    .map(({ resolvedType }) => {
      if (resolvedType === null) return '';
      if ('fieldsArray' in resolvedType) return `all[${types.indexOf(resolvedType)}]`;
      return `{ values: ${JSON.stringify({ ...resolvedType.valuesById, ...resolvedType.values })} }`;
    })
    .join(',');

function definitionOf(
  service: Protobuf.Service,
  types: readonly Protobuf.Type[],
  camelCase: (name: string) => string,
): string {
  const name = service.fullName.slice(1);
  const methods = service.methodsArray.map((method) => {
    const { resolvedRequestType, resolvedResponseType, requestStream, responseStream } = method;
    const indexes = [resolvedRequestType, resolvedResponseType].map((type) =>
      types.indexOf(type as Protobuf.Type),
    );
    const streams = [requestStream === true, responseStream === true];
    const words = [`/${name}/${method.name}`, camelCase(method.name), ...indexes, ...streams];
    return `${JSON.stringify(method.name)}: method(${words.map((word) => JSON.stringify(word)).join(', ')})`;
  });
  return `${JSON.stringify(name)}: {${methods.join(',\n')}}`;
}
