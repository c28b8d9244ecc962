// The bundler's settings: one CommonJS file for each program, of the plain build and all libraries but koffi.
import { readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';

import { build, type Metafile, type Plugin } from 'esbuild';

import { etcdMessages } from './etcd-messages.js';

export const PROGRAMS = ['cli', 'agent', 'controller'] as const;
export type Program = (typeof PROGRAMS)[number];

/** A library that is, at least in part, in a bundle. */
export interface Package {
  name: string;
  version: string;
  /** SPDX, as its package.json has it. */
  license: string;
  folder: string;
}

/** @param programs files of build/programs */
export async function bundle(
  root: string,
  folder: string,
  programs: readonly string[] = PROGRAMS,
): Promise<Metafile> {
  const { metafile } = await build({
    absWorkingDir: root,
    entryPoints: programs.map((program) => join('build/programs', `${program}.js`)),
    outdir: folder,
    outExtension: { '.js': '.cjs' },
    bundle: true,
    platform: 'node',
    target: 'node20',
    format: 'cjs',
    // One byte a character: the file is read as it is, and takes half the memory.
    charset: 'ascii',
    // A third less to read and to keep in memory. Names stay, and lines short enough to be found.
    minifyWhitespace: true,
    lineLimit: 160,
    sourcemap: true,
    sourcesContent: false,
    define: {
      'import.meta.url': '__url',
      // Libraries leave out what helps to debug them.
      'process.env.NODE_ENV': '"production"',
    },
    // bin/weft calls it as Node.js calls a CommonJS module.
    banner: {
      js: "(function (exports, require, module, __filename, __dirname) { const __url = require('node:url').pathToFileURL(__filename).href;",
    },
    footer: { js: '})' },
    plugins: [nativeNetlink, readyEtcdMessages, plainAddresses, lateBuiltIns, withoutUnused],
    legalComments: 'none',
    logLevel: 'warning',
    metafile: true,
  });
  for (const file of Object.keys(metafile.outputs))
    if (file.endsWith('.cjs')) shareNamespaces(join(root, file));
  return metafile;
}

/**
 * An ES module that imports a CommonJS one gets a copy of its exports from esbuild's __toESM: some twenty copies of all of
 * node:crypto at each start. Here all importers share one.
 */
function shareNamespaces(path: string): void {
  const helper = /__toESM=(\((\w+),\s*(\w+),\s*\w+\)\s*=>)/;
  const text = readFileSync(path, 'latin1');
  if (!helper.test(text)) throw new Error(`${path}: esbuild's __toESM is not as it was`);
  const shared =
    '__shared=new Map(),__toESM=($2,$3)=>{if(!$3)return __copyToESM($2);' +
    'let it=__shared.get($2);if(!it)__shared.set($2,it=__copyToESM($2,1));return it},__copyToESM=$1';
  writeFileSync(path, text.replace(helper, shared), 'latin1');
}

/** netlink finds its native part from its own folder, which is not the bundle's. Loaded when a socket is made. */
const nativeNetlink: Plugin = {
  name: 'the native part of netlink',
  setup: (to) =>
    to.onLoad({ filter: /\/node_modules\/netlink\/dist\/raw\.js$/ }, ({ path }) => {
      const folder =
        "(({ resolve }) => require('node:path').dirname(resolve('netlink/package.json')))(require)";
      const load = `native ??= require('node-gyp-build')(${folder})`;
      return {
        contents: replaceOnce(
          readFileSync(path, 'utf8'),
          "const binding = require('node-gyp-build')(__dirname + '/..');",
          `let native; const binding = { get NativeNetlink() { return (${load}).NativeNetlink; } };`,
          path,
        ),
      };
    }),
};

/** etcd3 parses .proto files, which would have to lie beside the bundle, at every start. */
const readyEtcdMessages: Plugin = {
  name: 'the messages of etcd',
  setup: (to) => {
    to.onLoad(
      { namespace: 'file', filter: /\/node_modules\/etcd3\/lib\/connection-pool\.js$/ },
      ({ path }) => {
        const text = readFileSync(path, 'utf8');
        const call = /\(0, proto_loader_1\.loadSync\)\([^;]*;/.exec(text)?.[0] ?? 'loadSync(…)';
        const loader = 'require("@grpc/proto-loader")';
        const contents = replaceOnce(
          replaceOnce(text, call, "require('etcd:messages');", path),
          loader,
          '{}',
          path,
        );
        return { contents };
      },
    );
    to.onResolve({ filter: /^etcd:messages$/ }, ({ importer }) => ({ path: importer, namespace: 'etcd' }));
    to.onLoad({ filter: /./, namespace: 'etcd' }, ({ path }) => {
      const { source, folder } = etcdMessages(path);
      return { contents: source, resolveDir: folder };
    });
  },
};

/**
 * The family of addresses that are known to be some. Node.js compiles an expression of a thousand characters to find it, which
 * takes longer than to connect.
 */
const plainAddresses: Plugin = {
  name: 'the family of an address',
  setup: (to) =>
    to.onLoad(
      { filter: /\/@grpc\/grpc-js\/build\/src\/(subchannel-address|load-balancer-pick-first)\.js$/ },
      ({ path }) => {
        const text = readFileSync(path, 'utf8');
        const contents = text.replace(/\(0, net_1\.isIPv6\)\(([\w.[\]]+)\)/g, "$1.includes(':')");
        if (contents === text) throw new Error(`${path}: isIPv6 is not called as it was`);
        return { contents };
      },
    ),
};

/** Modules of Node.js that it compiles when they are loaded, and that many a run does not need; and a native part. */
const LATE = [
  ...['child_process', 'crypto', 'dgram', 'dns', 'dns/promises', 'fs/promises', 'http', 'http2', 'https'],
  ...['tls', 'zlib'],
];

/** They are loaded when something of them is used: libraries require them at their top, whatever they are asked for. */
const lateBuiltIns: Plugin = {
  name: 'late loading of modules of Node.js',
  setup: (to) => {
    const filter = new RegExp(`^((node:)?(${LATE.join('|')})|koffi)$`);
    to.onResolve({ filter }, ({ path, namespace }) =>
      namespace === 'late'
        ? { path, external: true }
        : { path: path.replace('node:', ''), namespace: 'late' },
    );
    to.onLoad({ filter, namespace: 'late' }, ({ path }) => {
      const names = Object.keys(createRequire(import.meta.url)(path) as object);
      const getters = names.map((name) => `get ${name}() { return load().${name}; }`);
      // koffi is found by its own package, outside of the bundle.
      const module = path === 'koffi' ? path : `node:${path}`;
      return {
        contents: `let it; const load = () => (it ??= require('${module}')); module.exports = { ${getters.join(', ')} };`,
      };
    });
  },
};

/**
 * Parts of libraries that weft uses nothing of, and that load much when they are loaded: the colours of logform, which asks the
 * terminal for what it can show; and of prom-client what pushes, what joins several processes, its default metrics as a whole
 * (daemon/process-metrics.ts has those that are wanted), and traces beside metrics.
 */
const UNUSED = [
  '@colors/colors/safe\\.js',
  'prom-client/lib/(pushgateway|cluster|defaultMetrics)\\.js',
  '@opentelemetry/api/.*',
];

const withoutUnused: Plugin = {
  name: 'parts that are not used',
  setup: (to) =>
    to.onLoad({ filter: new RegExp(`/node_modules/(${UNUSED.join('|')})$`) }, () => ({
      contents: 'module.exports = {};',
      loader: 'js',
    })),
};

function replaceOnce(text: string, what: string, by: string, path: string): string {
  const parts = text.split(what);
  if (parts.length !== 2) throw new Error(`${path}: "${what}" is in it ${parts.length - 1} times, not once`);
  return parts.join(by);
}

/** The libraries whose files are in the bundles, by name. @param beside those that are not, and go with them */
export function packagesIn(root: string, { outputs }: Metafile, beside: readonly string[] = []): Package[] {
  const files = Object.values(outputs).flatMap(({ inputs }) => Object.keys(inputs));
  const folders = new Set(
    files.flatMap((file) => /^(?:etcd:)?(.*node_modules\/(?:@[^/]+\/)?[^/]+)/.exec(file)?.slice(1, 2) ?? []),
  );
  const own = beside.map((name) => join('node_modules', name));
  return [...new Set([...folders, ...own].map((folder) => resolve(root, folder)))]
    .map((folder) => {
      const { name, version, license } = JSON.parse(
        readFileSync(join(folder, 'package.json'), 'utf8'),
      ) as Package;
      return { name, version, license, folder };
    })
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}
