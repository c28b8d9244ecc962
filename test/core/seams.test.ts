// Seams: backend and driver names are compared only in their folders.
//
// No code outside core/backends compares a backend's name, and none outside core/drivers a driver's. Differences between them
// are fields and methods there, so that a new one is one file and one entry.
import test from 'ava';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

import { BACKEND_TYPES, UNSERVED_BACKENDS } from '../../core/backends/index.js';
import { DRIVER_NAMES } from '../../core/drivers/index.js';
import { CHECKOUT } from '../lab/lab.js';

const FOLDERS = ['agent', 'bin', 'cli', 'cloud', 'controller', 'core', 'daemon', 'plugin', 'store'];

const alternatives = (names: readonly string[]): string => names.map((name) => `['"]${name}['"]`).join('|');
const backend = alternatives([...BACKEND_TYPES, ...UNSERVED_BACKENDS]);
const driver = alternatives(DRIVER_NAMES);

/** A name that is compared, looked up in a list, or a case. */
const compared = (names: string): RegExp =>
  new RegExp(
    `[!=]==?\\s*(?:${names})|(?:${names})\\s*[!=]==?|\\bcase (?:${names})|\\[[^\\]]*(?:${names})[^\\]]*\\]\\.includes`,
  );

const RULES: { what: string; home: string; pattern: RegExp }[] = [
  { what: 'the name of a backend is compared', home: 'core/backends/', pattern: compared(backend) },
  { what: 'the name of a driver is compared', home: 'core/drivers/', pattern: compared(driver) },
  { what: 'a VNI or VTEP is read', home: 'core/backends/', pattern: /\.v(?:ni|tep6?)\b/ },
];

/** Lines where these words mean something else, or are fields of the API. */
const ALLOWED: { path: RegExp; line: RegExp; why: string }[] = [
  {
    path: /^(?:agent\/kernel|core\/objects|core\/plan)/,
    line: /./,
    why: 'types of links in the kernel, and what such a link has',
  },
  {
    path: /^core\/attachment\.ts$|^agent\/pipework\//,
    line: /kind/,
    why: 'what a pipework attachment is plugged into',
  },
  { path: /^agent\/trace\/way\.ts$/, line: /what !== 'bridge'/, why: 'a point on the way of a packet' },
  { path: /^agent\/api\/status\.ts$/, line: /describeNetwork\(network\)\.vni/, why: 'a field of the API' },
  {
    path: /^controller\/status-service\.ts$/,
    line: /describeNetwork\(network\)\.vni/,
    why: 'a field of the API',
  },
  { path: /^cli\//, line: /network\.vni/, why: 'a field of the API, shown' },
  {
    path: /^plugin\/cnm\/network-spec\.ts$/,
    line: /options\.vni/,
    why: 'an option of docker network create',
  },
  { path: /^plugin\/cni\/ipam\.ts$/, line: /type !== 'bridge'/, why: 'CNI’s own plugin bridge' },
  { path: /^daemon\//, line: /kind/, why: 'protocols of settings and ports, not backends' },
];

function* sources(folder: string): Generator<string> {
  for (const entry of readdirSync(join(CHECKOUT, folder), { withFileTypes: true })) {
    const path = `${folder}/${entry.name}`;
    if (entry.isDirectory()) yield* sources(path);
    else if (/\.[mc]?[jt]s$/.test(entry.name)) yield path;
  }
}

/** UDP is a protocol as well as a backend: outside core/backends it is always a port's protocol. */
const isProtocol = (line: string): boolean => /protocol|transport|'tcp'/i.test(line);

for (const { what, home, pattern } of RULES) {
  test(`nowhere outside ${home}: ${what}`, (t) => {
    const found = FOLDERS.flatMap((folder) => [...sources(folder)])
      .filter((path) => !path.startsWith(home))
      .flatMap((path) =>
        readFileSync(join(CHECKOUT, path), 'utf8')
          .split('\n')
          .flatMap((line, index) => {
            const isCode = !/^\s*(?:\/\/|\*|\/\*)/.test(line);
            const isAllowed = ALLOWED.some((one) => one.path.test(path) && one.line.test(line));
            return isCode && pattern.test(line) && !isAllowed && !isProtocol(line)
              ? [`${path}:${index + 1} ${line.trim()}`]
              : [];
          }),
      );
    t.deepEqual(found, []);
  });
}
